"""Two processes that share every batch train as one does. Run as a program, this is one of them."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hybrid_plasticity.classification.cifar10 import main_cifar10
from hybrid_plasticity.classification.mnist import main_mnist
from hybrid_plasticity.classification.network import Classifier
from hybrid_plasticity.classification.parallel import SharedClassifier
from hybrid_plasticity.classification.program import build, learners
from hybrid_plasticity.training import step_of, train_epoch
from shared import parallel
from shared.tensors import Samples

BATCH, STEPS = 5, 10  # two samples for one process and three for the other
WIRING = replace(
    main_cifar10.PROGRAM.wiring, image=(3, 8), channels=(4, 6, 6), hidden=(12, 8), pooled=(1, 2)
)
WIRING = replace(
    WIRING,
    exit_share=0.7,
    initial=replace(WIRING.initial, alpha=0.3, beta=0.5, shifted=False),
)
PROGRAM = replace(main_cifar10.PROGRAM, wiring=WIRING, optimizer="adam", lr=1e-3, lr_local=1e-3)
QUICK = (
    *("--quick", "--epochs", "2", "--width", "0.05", "--single-samples", "2", "--threads", "1"),
    *("--device", "cpu"),
)


def started(rule):
    """A network whose layers spike as a large one's do, and whose output takes a few steps."""
    torch.manual_seed(0)
    network = build(replace(PROGRAM.options(), rule=rule), PROGRAM).double()
    for parameter in network.global_parameters():
        parameter.data.mul_(2)
    for parameter in network.connected()[-1].fc.parameters():
        parameter.data.mul_(0.3)
    return network


def trained(rule):
    """Ten steps in float64, with presentations that end early: the last state, and the row."""
    draws = torch.Generator().manual_seed(5)
    n = BATCH * STEPS
    pixels = torch.randint(256, (n, 3, 8, 8), generator=draws, dtype=torch.uint8)
    part = Samples(pixels, torch.randint(10, (n,), generator=draws))
    network = started(rule)
    learning, _ = learners(network, PROGRAM, 1)
    steps = []
    network.register_forward_hook(lambda module, args, response: steps.append(response.steps))
    row = train_epoch(
        parallel.replicated(network),
        part,
        BATCH,
        step_of(learning),
        rule,
        lambda x: x.double() / 128,
    )
    numbers = {"row": [*row.values()], "steps": steps}
    return dict(network.state_dict()) | {
        name: torch.tensor(values).double() for name, values in numbers.items()
    }


@pytest.fixture(scope="module")
def shared_work(on_two_processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shares")
    on_two_processes(__file__, folder)
    return folder


@pytest.mark.parametrize("rule", ["hp", "gp"])
def test_two_processes_train_as_one_does(shared_work, rule):
    ours, theirs = (
        torch.load(shared_work / f"{rank}.pt", weights_only=True)[rule] for rank in range(2)
    )
    alone = trained(rule)
    for name, value in alone.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-6, msg=name)
        torch.testing.assert_close(theirs[name], ours[name], rtol=0, atol=0)
    untrained = started(rule).state_dict()
    assert len(set(alone["steps"].tolist())) > 1  # some presentations ended early
    moved = {name for name, value in untrained.items() if (alone[name] - value).abs().max() > 1e-4}
    assert moved == set(untrained)


@pytest.mark.parametrize("training", [False, True])
def test_whole_batches_are_shown_as_by_the_classifier_itself(training):
    images = torch.rand(4, 3, 8, 8)
    found = []
    for kind in (Classifier, SharedClassifier):
        torch.manual_seed(2)
        network = kind(WIRING).train(training)
        found.append([network(images).output, network.plastic_layers()[0].hebb])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_the_program_is_the_same_with_two_processes(scripts, shared_work, tmp_path):
    done = scripts.run("classification/mnist/main_mnist.py", *QUICK, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    ours, one = scripts.result(shared_work / "mnist"), scripts.result(tmp_path)
    assert (ours["processes"], one["processes"]) == (2, 1)
    rows = zip(scripts.rows(shared_work / "mnist"), scripts.rows(tmp_path), strict=True)
    for row, wanted in rows:  # the second shows that a test by the first process moves no draws
        assert row == pytest.approx(wanted, abs=1e-3)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parallel.join()
    folder = Path(sys.argv[1])
    torch.save({rule: trained(rule) for rule in ("hp", "gp")}, folder / f"{os.environ['RANK']}.pt")
    sys.argv[1:] = [*QUICK, "--out", str(folder / "mnist")]
    main_mnist.PROGRAM.main(main_mnist.__doc__)
    parallel.leave()
