"""The plain formulation: one episode at a time, one image at a time.

It is the oracle of the tests, and what the benchmark compares with.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hybrid_plasticity.few_shot_learning.network import HybridNet, Rule
from hybrid_plasticity.neuron import spike
from shared.errors import check_word


def plastic_step(
    rule: Rule,
    parameters: Mapping[str, Tensor],
    z: Float[Tensor, "n features"],
    label: Float[Tensor, "n ways"],
    potential: Float[Tensor, "n ways"],
    spikes: Float[Tensor, "n ways"],
    hebb: Float[Tensor, "features ways"],
) -> tuple[Tensor, Tensor, Tensor]:
    """A step of the plastic layer; the trace grows by the mean over n samples.

    Args:
        rule: "hp", or "gp": the trace stays as it is.
        parameters: fc1.weight, alpha, beta and eta of `HybridNet`, by name.
        z: output of the convolutions.
        label: one-hot, 0 for the query.
        potential: before the step.
        spikes: before it.
        hebb: the trace before it.

    Returns:
        Potentials, spikes and trace after it.

    Raises:
        ValueError: the rule is neither.
    """
    check_word("rule", rule, Rule)
    alpha, beta, eta = (parameters[name] for name in ("alpha", "beta", "eta"))
    current = z @ (alpha * parameters["fc1.weight"].T + (1 - alpha) * hebb) + 10 * label
    potential = 0.2 * potential * (1 - spikes) + current
    if rule == "hp":
        eta = torch.where(eta > 0.1, torch.full_like(eta, 0.1), eta)
        hebb = 0.99 * hebb + eta * (z.T @ torch.softmax(potential - beta, dim=1)) / len(z)
    return potential, spike(potential, 0.5, 0.5), hebb


def episode(
    rule: Rule,
    parameters: Mapping[str, Tensor],
    images: Float[Tensor, "steps 1 1 height width"],
    labels: Float[Tensor, "steps 1 ways"],
) -> tuple[Float[Tensor, "1 ways"], Float[Tensor, "features ways"]]:
    """The equations of `network` for one episode, one for one.

    Args:
        rule: "hp" or "gp".
        parameters: of `HybridNet`, by name.
        images: the labeled samples, then the query.
        labels: one-hot, 0 for the query.

    Returns:
        softmax(V) of the query, and the trace after it.
    """
    hebb = torch.zeros_like(parameters["alpha"])
    potential = spikes = torch.zeros_like(labels[0])
    for image, label in zip(images, labels, strict=True):
        z = image
        for layer in ("conv1", "conv2", "conv3", "conv4"):
            kernel, bias = parameters[f"{layer}.weight"], parameters[f"{layer}.bias"]
            z = torch.tanh(functional.conv2d(z, kernel, bias, stride=2, padding=1))
        z = z.flatten(1)
        potential, spikes, hebb = plastic_step(rule, parameters, z, label, potential, spikes, hebb)
    return torch.softmax(potential, dim=1), hebb


def episode_gradients(
    network: HybridNet,
    images: Float[Tensor, "steps 1 1 height width"],
    labels: Float[Tensor, "steps 1 ways"],
    target: Float[Tensor, "1 ways"],
) -> tuple[Float[Tensor, ""], list[Tensor]]:
    """Loss of one episode and its gradients for the weights, in the plain formulation."""
    output, _ = episode(network.rule, dict(network.named_parameters()), images, labels)
    loss = functional.binary_cross_entropy(output, target)
    return loss, list(torch.autograd.grad(loss, network.global_parameters()))
