"""Hybrid plasticity: time and memory of training steps, fast against plain formulation.

    python benchmarks/bench_hybrid_plasticity.py                     all programs
    python benchmarks/bench_hybrid_plasticity.py --cases simple      one of them

The plain side forms a (batch, in, out) tensor at every step for the mean of outer products, as the
published programs do. Both sides take the same inputs, parameters and number of steps of the same
optimizers. Outputs and all gradients of one step must agree to 1e-9 in float64 before anything is
timed (in float32 a sum in another order can move a potential across the threshold); then both are
timed in float32, in turns. Memory is the peak of a training of two steps in a fresh
process each: parameters, traces, gradients, states of the optimizers and the steps themselves.
Under GP the fast side runs too, to show what the trace costs. Where the CPU has kernels of its own
beside torch's operations, which other devices take, the same step without them is the side torch.
"""

import shared.waiting

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from unittest import mock

import torch
from measure import (
    Benchmark,
    Options,
    interleaved,
    memory_in_fresh_process,
    print_times,
    step_memory_mb,
)
from torch import Tensor

from hybrid_plasticity import reference
from hybrid_plasticity.classification import firing
from hybrid_plasticity.classification.mnist.mnist_model import WIRING
from hybrid_plasticity.classification.network import Classifier
from hybrid_plasticity.classification.reference import PlainClassifier
from hybrid_plasticity.few_shot_learning.episodes import Characters, Episodes
from hybrid_plasticity.few_shot_learning.meta import Settings as FewShotSettings
from hybrid_plasticity.few_shot_learning.meta import Trainer
from hybrid_plasticity.few_shot_learning.network import HybridNet
from hybrid_plasticity.few_shot_learning.reference import episode_gradients
from hybrid_plasticity.layer import Rule
from hybrid_plasticity.multitask_learning.learners import MaskedLearner
from hybrid_plasticity.multitask_learning.reference import plain_forward
from hybrid_plasticity.multitask_learning.shared_parameters import SETTINGS as MULTITASK
from hybrid_plasticity.multitask_learning.tasks import Task
from hybrid_plasticity.simple_example.shared_parameters import SETTINGS as SIMPLE
from hybrid_plasticity.training import optimizers, squared_error
from shared import datasets
from shared.options import script

SIDES = ("plain", "fast", "fast_gp")
BARS = {"simple": 15.0, "multitask": 12.0, "classification": 2.0, "few_shot": 5.0}
TORCH_BARS = {"classification": 1.6}  # the fast side in units of torch's
MEMORY_BAR = 1.5  # HP in units of GP
TOLERANCE = 1e-9
EPISODES = 32


def _never(_: Tensor) -> bool:
    return False


@contextmanager
def torch_operations() -> Iterator[None]:
    """Inside the context neurons after a convolution use no kernels of the CPU's own."""
    with mock.patch.object(firing, "by_numba", _never):
        yield


def by_torch(step: Callable[[], object]) -> Callable[[], object]:
    """The step without these kernels."""

    def run() -> object:
        with torch_operations():
            return step()

    return run


@dataclass(frozen=True)
class Side:
    """One way to do a training step.

    Attributes:
        step: does it.
        found: what a first step gave: outputs and gradients by name, to compare the sides by.
    """

    step: Callable[[], object]
    found: Callable[[], dict[str, Tensor]]


def digits(n: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """MNIST test images [n, 28, 28] in [0, 1] and labels (mnist5k's where MNIST is not there)."""
    test = mnist_test()
    pixels = torch.from_numpy(test.inputs[:n, 0]).to(device, dtype) / 255
    return pixels, torch.from_numpy(test.labels[:n]).to(device)


@lru_cache
def mnist_test() -> datasets.Split:
    """The test images, loaded once: they are not part of a step."""
    return datasets.load("mnist", fallback=True, download=False).test


def backward(model: torch.nn.Module, output: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Gradients of the squared error by parameter, but for those that it does not depend on."""
    model.zero_grad(set_to_none=True)
    squared_error(output, labels).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def simple(
    side: str,
    device: torch.device,
    batch: int = 100,
    dtype: torch.dtype = torch.float32,
    **changed: int,
) -> Side:
    """The simple example, 784-512-10, T = 10 unless settings are changed: a step of both Adams."""
    torch.manual_seed(0)
    rule: Rule = "gp" if side == "fast_gp" else "hp"
    model = replace(SIMPLE, **changed).network(rule)
    model.to(device, dtype)
    images, labels = digits(batch, device, dtype)
    learners = list(optimizers(model, SIMPLE.lr, SIMPLE.lr_local).values())

    def output() -> Tensor:
        if side != "plain":
            return model(images).output
        response, traces = reference.fully_connected(model, images)
        for layer, trace in zip(model.layers, traces, strict=True):
            layer.hebb = trace.detach()
        return response.output

    def found() -> dict[str, Tensor]:
        seen = output()
        traces = {f"trace {i}": layer.hebb for i, layer in enumerate(model.plastic_layers())}
        return {"output": seen.detach(), **traces, **backward(model, seen, labels)}

    def step() -> None:
        backward(model, output(), labels)
        for learner in learners:
            learner.step()

    return Side(step, found)


def multitask(
    side: str, device: torch.device, batch: int = 100, dtype: torch.dtype = torch.float32
) -> Side:
    """The multitask network, 784-1024-1024-10, T = 3: a step of Adam on the weights."""
    torch.manual_seed(0)
    network = MULTITASK.network("gp" if side == "fast_gp" else "hp").to(device, dtype)
    weights = network.weights()
    shapes = [(w.shape[0], w.shape[1]) for w in weights]
    task = Task(0, 0, shapes, MULTITASK.share, device)
    images, labels = digits(batch, device, dtype)
    x = images.flatten(1).T.contiguous()
    filled = [
        mask.filled(torch.ones(len(mask.flat), device=device, dtype=dtype)) for mask in task.masks
    ]
    masks = [mask.T.contiguous() for mask in filled]
    # Outside of meta training alpha, beta and eta do not learn, on either side.
    if side == "plain":
        adam = torch.optim.Adam(weights, lr=MULTITASK.lr, fused=True)
        rows = x.T.contiguous()
    else:
        learner = MaskedLearner(weights, MULTITASK.lr)
        learner.begin(task)

    def output(connections: Any) -> Tensor:
        if side == "plain":
            return plain_forward(network, rows, masks, outer_products=True).output
        return network(x, connections)

    def found() -> dict[str, Tensor]:
        seen = output(None if side == "plain" else network.connections(task.masks))
        return {"output": seen.detach(), **backward(network, seen, labels)}

    def step() -> None:
        if side == "plain":
            loss = squared_error(output(None), labels)
            adam.zero_grad()
            torch.autograd.backward(loss, inputs=weights)
            adam.step()
        else:
            learner.step(squared_error(output(learner.connections()), labels))

    return Side(step, found)


def classification(
    side: str, device: torch.device, batch: int = 100, dtype: torch.dtype = torch.float32
) -> Side:
    """The convolutional network of MNIST, T = 10 without early exit or dropout: both Adams."""
    torch.manual_seed(0)
    kind = PlainClassifier if side == "plain" else Classifier
    model = kind(WIRING, "gp" if side == "fast_gp" else "hp").to(device, dtype)
    with torch.no_grad():
        for layer in model.plastic_layers():
            layer.alpha.fill_(0.1)
            layer.beta.fill_(1e-3)
    model.eval()
    images, labels = digits(batch, device, dtype)
    learners = list(optimizers(model, 5e-4, 5e-4).values())

    def output() -> Tensor:
        with model.all_steps():
            seen: Tensor = model(images[:, None]).output
        return seen

    def found() -> dict[str, Tensor]:
        seen = output()
        return {"output": seen.detach(), **backward(model, seen, labels)}

    def step() -> None:
        backward(model, output(), labels)
        for learner in learners:
            learner.step()

    return Side(step, found)


def few_shot(
    side: str, device: torch.device, batch: int = EPISODES, dtype: torch.dtype = torch.float32
) -> Side:
    """Training on 5-way 1-shot episodes: a batch at once, or the same episodes one by one.

    Both sides take the mean gradient of all episodes and one step of Adam.
    """
    torch.manual_seed(0)
    network = HybridNet("gp" if side == "fast_gp" else "hp").to(device, dtype)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(2, (50, 20, 31, 31), generator=generator, dtype=torch.uint8) * 255
    drawn = Characters(pixels.to(device), 5, 1).draw(batch, generator)
    episodes = Episodes(*(part.to(dtype) for part in drawn))
    trainer = Trainer(network, FewShotSettings())

    def plain_gradients() -> list[Tensor]:
        total = [torch.zeros_like(weight) for weight in trainer.weights]
        for i in range(batch):
            one = episodes.part(i, i + 1)
            _, grads = episode_gradients(network, one.images, one.labels, one.target)
            for value, grad in zip(total, grads, strict=True):
                value.add_(grad, alpha=1 / batch)
        return total

    def step() -> None:
        if side != "plain":
            trainer.train(episodes)
            return
        for weight, grad in zip(trainer.weights, plain_gradients(), strict=True):
            weight.grad = grad
        trainer.optimizer.step()

    def found() -> dict[str, Tensor]:
        if side == "plain":
            grads = plain_gradients()
        else:
            before = [weight.detach().clone() for weight in trainer.weights]
            trainer.train(episodes)
            grads = [weight.grad for weight in trainer.weights if weight.grad is not None]
            with torch.no_grad():
                for weight, value in zip(trainer.weights, before, strict=True):
                    weight.copy_(value)
        return {f"gradient {i}": grad.clone() for i, grad in enumerate(grads)}

    return Side(step, found)


CASES: dict[str, Callable[..., Side]] = {
    "simple": simple,
    "multitask": multitask,
    "classification": classification,
    "few_shot": few_shot,
}
COMPARED_BATCH = {"simple": 100, "multitask": 100, "classification": 4, "few_shot": 4}
REPEATS = {"simple": 10, "multitask": 10, "classification": 1, "few_shot": 3}


def differences(name: str, device: torch.device) -> dict[str, float]:
    """Largest differences of the two sides, relative to the largest entry of each array.

    Raises:
        AssertionError: one is above `TOLERANCE`.
    """
    plain, fast = (
        CASES[name](side, device, COMPARED_BATCH[name], torch.float64).found()
        for side in ("plain", "fast")
    )
    found = {}
    for key, value in fast.items():
        largest = float(plain[key].abs().max()) or 1.0
        found[key] = float((value - plain[key]).abs().max()) / largest
    for key, difference in found.items():
        assert difference < TOLERANCE, f"{name}: {key} differs by {difference}"
    return found


def bench(name: str, options: Options, device: torch.device) -> dict[str, Any]:
    """Compare, time and weigh the sides of a case."""
    different = differences(name, device)
    sides = (*SIDES, "torch") if name in TORCH_BARS else SIDES
    steps = {side: step_of_side(name, side, device) for side in sides}
    repeats = {side: 1 if side == "plain" else REPEATS[name] for side in sides}
    times = interleaved(steps, device, options.rounds, repeats)
    memory = {
        side: memory_in_fresh_process(__file__, name, side, *options.passed_on()) for side in sides
    }
    ratio = times["plain"]["wall_median"] / times["fast"]["wall_median"]
    row = {
        "differences": different,
        "seconds": times,
        "step_memory_mb": memory,
        "speed_ratio": ratio,
        "bar": BARS[name],
        "memory_ratio_hp_to_gp": memory["fast"] / memory["fast_gp"],
        "memory_bar": MEMORY_BAR,
    }
    if name in TORCH_BARS:
        row["ratio_to_torch"] = times["torch"]["wall_median"] / times["fast"]["wall_median"]
        row["bar_to_torch"] = TORCH_BARS[name]
    print(f"\n{name}")
    print_times(times, memory)
    cost = memory["fast"] / memory["fast_gp"]
    print(f"  fast is {ratio:.1f} times faster (bar {BARS[name]:.0f}); HP takes {cost:.2f} "
          f"times the memory of GP (bar {MEMORY_BAR}); largest "
          f"relative difference {max(different.values()):.1e}", flush=True)  # fmt: skip
    if name in TORCH_BARS:
        print(f"  {row['ratio_to_torch']:.2f} times faster than by torch's operations "
              f"(bar {TORCH_BARS[name]})", flush=True)  # fmt: skip
    return {name: row}


def step_of_side(name: str, side: str, device: torch.device, **size: int) -> Callable[[], object]:
    """A step of a case by one side; "torch" is the fast one without kernels of the CPU's own."""
    step = CASES[name]("fast" if side == "torch" else side, device, **size).step
    return by_torch(step) if side == "torch" else step


def memory_of(name: str, side: str, device: torch.device) -> float:
    """Memory of a training of two steps, in MB; to be called in a fresh process."""

    def training() -> None:
        step = step_of_side(name, side, device)
        step()
        step()

    return step_memory_mb(training, step_of_side(name, side, device, batch=2), device)


BENCHMARK = Benchmark("hybrid_plasticity", __doc__, Options, tuple(CASES), bench, memory_of)


if __name__ == "__main__":
    script(BENCHMARK.main)
