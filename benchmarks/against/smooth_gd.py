"""Smooth gradients: the loss of MNIST's network and its gradient, 784-100-100-10."""

from typing import Any

import jax
import jax.numpy as jnp
import torch
from bench_smooth_gd import BATCH, fast_step, trained

from against.common import Row, Side, Where, imported
from smooth_gd.experiments.jax_runtime import Settings, prepare
from smooth_gd.experiments.mnist.model import PAPER
from smooth_gd.experiments.mnist.network import Parameters

TRAINED = 30  # steps, so that all kinds of neurons are there: silent, pseudospikes, many spikes


def make(where: Where) -> tuple[Side, Side]:
    """Both sides, on a network that has been trained for some steps.

    Gradients of random flips would differ: no pixel is flipped.
    """
    dtype = str(where.dtype).removeprefix("torch.")
    prepare(Settings(dtype=dtype, threads=torch.get_num_threads(), device=str(where.device)))
    trainer, start, part = trained("float32", steps=TRAINED)
    parameters = jax.tree.map(lambda leaf: leaf.astype(dtype), start)
    step = fast_step(trainer, parameters, part, where.batch)

    def found() -> dict[str, Any]:
        (loss, *_), gradient = step()
        return named(loss, gradient.weights, jnp.concatenate(gradient.phases))

    return published(where, parameters, part), Side(step, found)


def published(where: Where, parameters: Parameters, part: Any) -> Side:
    """The published gradient of all neurons and K events, compiled as its program does."""
    neuron = imported("spikegd.theta", where.checkout).ThetaNeuron
    mnist = imported("mnist", where.checkout / "experiments" / "mnist")
    model = neuron(PAPER["tau"], PAPER["I0"], PAPER["eps"])
    codes, labels = (jnp.asarray(array[: where.batch]) for array in part)
    p = [list(parameters.weights), jnp.concatenate(parameters.phases)]

    def loss(p: Any, codes: Any, labels: Any) -> Any:
        return mnist.simulatefn(model, p, codes, labels, PAPER)

    compute = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def step() -> Any:
        return jax.block_until_ready(compute(p, codes, labels))

    def found() -> dict[str, Any]:
        (loss, _), (weights, phases) = step()
        return named(loss, weights, phases)

    return Side(step, found)


def named(loss: Any, weights: Any, phases: Any) -> dict[str, Any]:
    """What a step gave, by name."""
    of_weights = {f"weights {i}": gradient for i, gradient in enumerate(weights)}
    return {"loss": loss, **of_weights, "phases": phases}


ROWS = {"smooth_gd": Row("gradient of 784-100-100-10, 1000 digits", make, BATCH, 200, 5)}
