"""Leaky integrate-and-fire neurons with thresholds that learn, over all steps at once.

    V[t] = tau V[t-1] + I[t];   s[t] = 1 where V[t] - Theta >= 0;   V[t] <- (1 - s[t]) V[t]
    ds/dV = g(V - Theta),  ds/dTheta = -g(V - Theta);   g(x) = (alpha/2) / (1 + (pi alpha x / 2)^2)

The gradient runs through the spike of the reset too. Three forms of the same operation: numba on a
CPU, Triton on CUDA, torch operations on anything else. `reference.lif` is the plain loop under
autograd, which they are tested against.
"""

import importlib
import importlib.util
import math
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from stl_snn import _kernels


def lif(
    current: Float[Tensor, "batch time *shape"],
    theta: Float[Tensor, "*shape"],
    tau: float = 0.5,
    alpha: float = 2.0,
) -> Float[Tensor, "batch time *shape"]:
    """Spikes of a layer in all steps of a presentation, from a membrane at rest.

    Args:
        current: input currents, float32 or float64.
        theta: threshold of each neuron, in the same dtype.
        tau: share of the potential that is left after a step.
        alpha: sharpness of the surrogate derivative.

    Returns:
        Spikes, 0 or 1, in the dtype of the currents.

    Raises:
        ValueError: there is no step; or the thresholds have another shape than a step's currents;
            or the two are not both float32 or both float64.
        FloatingPointError: on a CPU, by the backward pass: some currents are NaN or infinite. Such
            neurons never spike, so that the loss does not tell, and one step of an optimizer would
            spread NaN over the weights before them.
    """
    if current.ndim < 3 or not current.shape[1]:
        raise ValueError(
            f"currents of shape {tuple(current.shape)} are not [batch, time, ...] of a step or more"
        )
    if theta.shape != current.shape[2:]:
        raise ValueError(
            f"thresholds of shape {tuple(theta.shape)} do not fit neurons of shape "
            f"{tuple(current.shape[2:])}"
        )
    if current.dtype != theta.dtype or current.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"currents of {current.dtype} and thresholds of {theta.dtype}: both must be "
            "torch.float32, or both torch.float64"
        )
    joined = current.flatten(2), theta.flatten()
    if torch.compiler.is_exporting():  # an exported program is of torch's operations alone
        return ByTorch.forward(*joined, tau).view(current.shape)
    spikes: Tensor = _Lif.apply(*joined, tau, alpha)
    return spikes.view(current.shape)


class _Lif(torch.autograd.Function):
    """`lif` on [batch, time, neurons] and [neurons]."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, theta: Tensor, tau: float, alpha: float) -> Tensor:
        current, theta = current.contiguous(), theta.contiguous()
        ctx.save_for_backward(current, theta)
        ctx.constants = tau, alpha
        spikes: Tensor = _form(current).forward(current.detach(), theta.detach(), tau)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, Tensor, None, None]:
        current, theta = (tensor.detach() for tensor in ctx.saved_tensors)
        found = _form(current).backward(current, theta, signal.contiguous(), *ctx.constants)
        # The sum over batch and time is NaN where a current was: a look at one number per neuron. A
        # GPU would have to be waited for; there `training.check_finite` tells once per epoch.
        if current.device.type == "cpu" and not found[1].isfinite().all():
            check_currents(current)
        return *found, None, None


def check_currents(current: Float[Tensor, "batch time n"]) -> None:
    """Raise where currents are no numbers; gradients alone may overflow, as a scaler expects."""
    if len(wrong := (~current.isfinite()).nonzero()):
        sample, step, _ = wrong[0].tolist()
        raise FloatingPointError(
            f"currents of neurons are NaN or infinite (first in sample {sample}, step {step}): "
            "look for NaN in the input, or lower the step size"
        )


class ByTorch:
    """The operation by torch, for devices without a kernel."""

    @staticmethod
    def forward(current: Tensor, theta: Tensor, tau: float) -> Tensor:
        """As `_kernels.forward`."""
        potentials = torch.stack(_potentials(current, theta, tau), 1)
        return (potentials - theta >= 0).to(current.dtype)

    @staticmethod
    def backward(
        current: Tensor, theta: Tensor, signal: Tensor, tau: float, alpha: float
    ) -> tuple[Tensor, Tensor]:
        """As `_kernels.backward`."""
        to_current, to_theta = torch.empty_like(current), torch.zeros_like(theta)
        state = torch.zeros_like(current[:, 0])
        for t, v in reversed(list(enumerate(_potentials(current, theta, tau)))):
            x, after = v - theta, tau * state
            through_spike = surrogate(x, alpha) * (signal[:, t] - v * after)
            to_theta -= through_spike.sum(0)
            state = through_spike + after * (x < 0)
            to_current[:, t] = state
        return to_current, to_theta


def surrogate(x: Tensor, alpha: float) -> Tensor:
    """The derivative g that stands for that of a spike, x above threshold."""
    return (alpha / 2) / (1 + (math.pi * alpha / 2 * x).square())


def _potentials(current: Tensor, theta: Tensor, tau: float) -> list[Tensor]:
    """Potentials of all steps before the reset."""
    found, left = [], torch.zeros_like(current[:, 0])
    for drive in current.unbind(1):
        found.append(tau * left + drive)
        left = found[-1] * (found[-1] - theta < 0)
    return found


@cache
def _triton() -> Any:
    """The Triton kernels, or torch's form where Triton is not installed."""
    if importlib.util.find_spec("triton") is None:
        return ByTorch
    return importlib.import_module("stl_snn._kernels_cuda")


def _form(current: Tensor) -> Any:
    if current.device.type == "cpu":
        return _kernels
    return _triton() if current.is_cuda else ByTorch
