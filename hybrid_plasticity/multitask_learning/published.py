"""What the published models of the multitask experiment share: thin over this package.

`from hybrid_plasticity.multitask_learning.hp_model.hp_model import *` in the place of
`from hp_model import *` lets a program written for the published modules run on: the same names,
arguments and results, the same names of parameters in a state. This package's own programs use
`TaskNetwork`, to which a mask is the few weights that it keeps.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hybrid_plasticity.multitask_learning.network import Rule, TaskNetwork
from hybrid_plasticity.multitask_learning.reference import (
    Local,
    Plain,
    State,
    plain_forward,
    plain_step,
)
from hybrid_plasticity.multitask_learning.shared_parameters import EWC_LAMBDA, SETTINGS
from hybrid_plasticity.networks import attenuation
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.published import LENS, device
from hybrid_plasticity.trace import Hebbian
from shared.errors import check_word

__all__ = ["lens", "mask_weight"]  # what the models pass on, beside what lies beneath

lens = LENS
SHAPES = tuple(zip(SETTINGS.sizes[:-1], SETTINGS.sizes[1:], strict=True))
NEURON, HEBBIAN = Neuron(SETTINGS.theta, SETTINGS.decay), Hebbian(SETTINGS.w_decay)

Masks = Sequence[Float[Tensor, "n_in n_out"]]


def mask_weight(p: float = 0.1, task_number: int = 10) -> dict[int, list[Tensor]]:
    """Masks of 0 and 1 for each task, [n_in, n_out] for each weight matrix, from torch's generator.

    Args:
        p: share of the weights that a mask keeps.
        task_number: tasks.
    """
    return {
        task: [(torch.rand(shape, device=device) < p).float() for shape in SHAPES]
        for task in range(task_number)
    }


class MaskedUpdates:
    """A step of a layer on its own, by the published function's arguments.

    Args:
        rule: "hp", or "gp" for no trace.

    Raises:
        ValueError: the rule is neither.
    """

    def __init__(self, rule: Rule) -> None:
        check_word("rule", rule, Rule)
        self.rule = rule

    def mem_update(
        self,
        fc: nn.Linear,
        mask: Float[Tensor, "n_in n_out"],
        alpha: Float[Tensor, "1"],
        beta: Float[Tensor, "1 n_in"],
        gamma: Float[Tensor, "1"],
        eta: Float[Tensor, "1 n_out"],
        inputs: Float[Tensor, "batch n_in"],
        spike: Float[Tensor, "batch n_out"],
        mem: Float[Tensor, "batch n_out"],
        hebb: Float[Tensor, "n_in n_out"],
        v_th: float = SETTINGS.theta,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Potentials, spikes and trace after a step.

        Args:
            fc: all weights.
            mask: of 0 and 1.
            alpha: strength of the trace; like beta and eta not read under "gp".
            beta: drive of each presynaptic neuron.
            eta: sliding threshold of each postsynaptic neuron.
            gamma: is not read.
            inputs: of the step, attenuated.
            spike: spikes before it.
            mem: potentials before it.
            hebb: the trace before it.
            v_th: threshold.
        """
        local = Local(alpha, beta, eta) if self.rule == "hp" else None
        return _step(fc, mask, local, inputs, State(mem, spike, hebb), v_th)


def mem_update(
    fc: nn.Linear,
    inputs: Float[Tensor, "batch n_in"],
    spike: Float[Tensor, "batch n_out"],
    mem: Float[Tensor, "batch n_out"],
    hebb: Float[Tensor, "n_in n_out"],
    v_th: float = SETTINGS.theta,
) -> tuple[Tensor, Tensor, Tensor]:
    """A step with all weights: potentials, spikes, and the trace as it was.

    Args:
        fc: the weights.
        inputs: of the step.
        spike: spikes before it.
        mem: potentials before it.
        hebb: handed back.
        v_th: threshold.
    """
    return _step(fc, 1.0, None, inputs, State(mem, spike, hebb), v_th)


def _step(
    fc: nn.Linear,
    mask: Float[Tensor, "n_in n_out"] | float,
    local: Local | None,
    inputs: Float[Tensor, "batch n_in"],
    state: State,
    v_th: float,
) -> State:
    constants = replace(NEURON, theta=v_th), HEBBIAN
    return plain_step(constants, fc.weight.T, mask, local, inputs, state)


class PublishedTaskModel(nn.Module):
    """The network 784-1024-1024-10 with the published methods and names of its state.

    Args:
        network: what lies beneath; it shares its parameters.
        largest_alpha: alpha starts uniform between 0 and this, where nothing reads it.

    Attributes:
        fc1, fc2, fc3: weights, `nn.Linear` without bias.
        alpha1, beta1, eta1, gamma1, ..., gamma3: constants of the traces. Those of the third layer,
            all gamma, and under "gp" all of them are there and read by nothing.
    """

    def __init__(self, network: TaskNetwork, largest_alpha: float = SETTINGS.alpha) -> None:
        super().__init__()
        self._beneath = [network]  # in a list: its parameters have their published names here
        for k, weight in enumerate(network.weights(), 1):
            n_out, n_in = weight.shape
            layer = nn.Linear(n_in, n_out, bias=False, device="meta")
            layer.weight = weight
            self.add_module(f"fc{k}", layer)
        layers = (network.first, network.second, None)
        for k, (weight, own) in enumerate(zip(network.weights(), layers, strict=True), 1):
            n_out, n_in = weight.shape
            drawn = {
                "alpha": largest_alpha * torch.rand(1),
                "beta": SETTINGS.beta * torch.rand(1, n_in),
                "eta": torch.zeros(1, n_out),
                "gamma": torch.zeros(1),
            }
            for name, value in drawn.items():
                shared = getattr(own, name, None) if own is not None else None
                parameter = nn.Parameter(value) if shared is None else shared
                self.register_parameter(f"{name}{k}", parameter)

    @property
    def network(self) -> TaskNetwork:
        """What lies beneath."""
        return self._beneath[0]

    def produce_hebb(self) -> tuple[Tensor, Tensor, Tensor]:
        """Traces of zeros, [n_in, n_out] for each weight matrix."""
        first, second, third = (torch.zeros_like(w.T) for w in self.network.weights())
        return first, second, third

    def parameter_split(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The weights; and all else, which meta training learns."""
        base = self.network.weights()
        weights = {id(value) for value in base}
        return base, [value for value in self.parameters() if id(value) not in weights]

    def shown(self, input: Tensor, masks: Masks | Sequence[float], wins: int) -> Plain:
        """A presentation of so many steps, from traces of 0."""
        constants = self.network.constants
        tau_w = SETTINGS.tau_w if constants.ks[-1] < 1 else float("inf")
        ks = tuple(attenuation(t, tau_w) for t in range(wins))
        x = input.flatten(1).to(self.network.readout.dtype)
        self.network.constants = constants._replace(ks=ks)
        try:
            return plain_forward(self.network, x, masks)
        finally:
            self.network.constants = constants

    def forward(
        self,
        input: Float[Tensor, "batch *pixels"],
        hebb1: Tensor,
        hebb2: Tensor,
        hebb3: Tensor,
        wins: int = SETTINGS.steps,
        label: Tensor | None = None,
        mask_dict: Masks | None = None,
        task_index: int | None = None,
    ) -> tuple[Any, ...]:
        """Show a batch; traces start at 0 whatever is given.

        Args:
            input: intensities in [0, 1], in the task's order.
            hebb1: is not read.
            hebb2: is not read.
            hebb3: is not read.
            wins: steps.
            label: is not read.
            mask_dict: the task's three masks, of `mask_weight`.
            task_index: is not read.

        Returns:
            Outputs [batch, classes], zeros [batch, n], the first layer's potentials [batch, n],
            the traces left without their gradient, the third being 0, and twice 0.

        Raises:
            ValueError: mask_dict is missing.
        """
        if mask_dict is None:
            raise ValueError("mask_dict is missing: pass a task's three masks, mask_weight()[task]")
        seen = self.shown(input, mask_dict, wins)
        third = torch.zeros_like(self.network.readout.T)
        first = seen.potentials[0]
        traces = (*(trace.detach() for trace in seen.traces), third)
        return seen.output, torch.zeros_like(first), first, *traces, 0, 0.0


class PublishedEWC(PublishedTaskModel):
    """The network of elastic weight consolidation: without masks, traces and attenuation.

    Args:
        p, si_c: are not read, as in the published program.

    Attributes:
        ewc_lambda: what a program multiplies `ewc_loss` with.
        gamma: with `online`, share of the earlier tasks' Fisher information that is kept.
        online: one penalty that goes on, instead of one for each task.
        fisher_n: batches that `estimate_fisher` looks at; None for all.
        EWC_task_count: penalties held.
    """

    def __init__(self, p: float = 0.5, si_c: float = 0.1) -> None:
        super().__init__(SETTINGS.network("gp", attenuated=False), largest_alpha=1.0)
        self.ewc_lambda, self.gamma, self.online = EWC_LAMBDA, 1.0, False
        self.fisher_n: int | None = None
        self.EWC_task_count = 0

    def forward(  # type: ignore[override]
        self,
        input: Float[Tensor, "batch *pixels"],
        hebb1: Tensor,
        hebb2: Tensor,
        hebb3: Tensor,
        wins: int = SETTINGS.steps,
        label: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Show a batch.

        Args:
            input: intensities in [0, 1], in the task's order.
            hebb1: handed back.
            hebb2: handed back.
            hebb3: handed back.
            wins: steps.
            label: is not read.

        Returns:
            Outputs [batch, classes], zeros [batch, n], the first layer's potentials [batch, n], the
            three traces, eta1 and eta2.
        """
        seen = self.shown(input, (1.0, 1.0, 1.0), wins)
        first, traces = seen.potentials[0], (hebb1.detach(), hebb2.detach(), hebb3.detach())
        etas = (self.get_parameter("eta1"), self.get_parameter("eta2"))
        return seen.output, torch.zeros_like(first), first, *traces, *etas

    def _names(self) -> list[str]:
        return [f"fc{k}__weight" for k in (1, 2, 3)]

    def estimate_fisher(
        self,
        dataset: Any,
        input_parameter: Sequence[Tensor] | None = None,
        permutted_paramer: Int[Any, " pixels"] | None = None,
        allowed_classes: None = None,
        collate_fn: None = None,
    ) -> None:
        """Hold the weights where they are now, by the squared gradients of batches.

        The gradient is that of the mean log likelihood of the classes that the network predicts;
        their squares' sum is divided by the number of batches less one.

        Args:
            dataset: batches of images and labels; two at least.
            input_parameter: is not read.
            permutted_paramer: order of the pixels.
            allowed_classes: None, as every published call has it.
            collate_fn: None, likewise.
        """
        weights = self.network.weights()
        fisher = [torch.zeros_like(weight) for weight in weights]
        last = 0
        for last, (images, _) in enumerate(dataset):
            if self.fisher_n is not None and last >= self.fisher_n:
                break
            x = images.flatten(1)
            x = (x if permutted_paramer is None else x[:, permutted_paramer]).to(weights[0].device)
            output = self(x, *self.produce_hebb())[0]
            likelihood = functional.log_softmax(output, 1).max(1).values.mean()
            for total, grad in zip(fisher, torch.autograd.grad(likelihood, weights), strict=True):
                total += grad.square()
        task = "" if self.online else str(self.EWC_task_count + 1)
        for name, weight, total in zip(self._names(), weights, fisher, strict=True):
            own = total.detach() / last
            if self.online and self.EWC_task_count == 1:
                own += self.gamma * getattr(self, f"{name}_EWC_estimated_fisher")
            self.register_buffer(f"{name}_EWC_prev_task{task}", weight.detach().clone())
            self.register_buffer(f"{name}_EWC_estimated_fisher{task}", own)
        self.EWC_task_count = 1 if self.online else self.EWC_task_count + 1

    def ewc_loss(self) -> Float[Tensor, ""]:
        """Half the sum over tasks and weights of F (w - w_task)^2; 0 before the first task."""
        total = self.network.readout.new_zeros(())
        for task in range(1, self.EWC_task_count + 1):
            ending, scale = ("", self.gamma) if self.online else (str(task), 1.0)
            for name, weight in zip(self._names(), self.network.weights(), strict=True):
                fisher = getattr(self, f"{name}_EWC_estimated_fisher{ending}")
                before = getattr(self, f"{name}_EWC_prev_task{ending}")
                total = total + scale * (fisher * (weight - before).square()).sum() / 2
        return total
