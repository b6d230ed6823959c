"""Joint decision of several trained networks: the mean of their votes.

    python stl_snn/decide.py runs/stl_mnist/seed0 runs/stl_mnist/seed1 runs/stl_mnist/seed2
    python stl_snn/decide.py runs/stl_mnist/seed0 --decisions 5      draws of one network's input

The paper's definition of its joint decision is not at hand; the mean of the votes is the simplest
reading. Networks must be trained on the same data set.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import torch

from shared.device import prepare
from shared.errors import UserError
from shared.options import add_common_options, check_positive, script
from shared.run import Run, carry_out, read_checkpoint
from stl_snn.data import Data, load
from stl_snn.param import MNIST, SETTINGS
from stl_snn.spiking_model import SpikingNetwork
from stl_snn.train import QUICK_SAMPLES, setting_of
from stl_snn.training import Presentation, Task, accuracy, joint_accuracy


class Trained(NamedTuple):
    """A run's options, its network's settings and the weights of its last checkpoint."""

    folder: Path
    options: argparse.Namespace
    setting: MNIST
    weights: dict[str, torch.Tensor]

    def network(self, data: Data) -> SpikingNetwork:
        """The network, on the device of the data.

        Raises:
            UserError: the checkpoint is another network's.
        """
        options = self.options
        network = SpikingNetwork(
            self.setting, data.shape, data.n_classes, sharing=options.sharing, floor=options.floor
        )
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            raise UserError(
                f"{self.folder / 'checkpoint.pt'} is a checkpoint of another network than its "
                f"config.json tells of ({str(error).splitlines()[0]}): train it again"
            ) from error
        return network.to(data.train.labels.device)


def read(folder: Path) -> Trained:
    """What a run left behind.

    Raises:
        UserError: it is no run of this paper, or its checkpoint is damaged.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        options = argparse.Namespace(**config["options"])
        setting = setting_of(options)
        state = read_checkpoint(folder / "checkpoint.pt")["state"]
        return Trained(folder, options, setting, state["network"])
    except (OSError, KeyError, AttributeError, TypeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{folder} is no folder of a run of stl_snn/train.py ({error}): name one with "
            "config.json and checkpoint.pt"
        ) from error


def check_alike(networks: list[Trained]) -> None:
    """Refuse networks of different data.

    Raises:
        UserError: they were trained on different sets.
    """
    for one in networks[1:]:
        if one.options.data != networks[0].options.data:
            raise UserError(
                f"{one.folder} was trained on {one.options.data}, {networks[0].folder} on "
                f"{networks[0].options.data}: they cannot decide together"
            )


def decide(args: argparse.Namespace, run: Run, device: torch.device) -> None:
    """Test every network alone and all together, and write the result.

    Raises:
        UserError: a network cannot be had.
    """
    trained = [read(folder) for folder in args.runs]
    check_alike(trained)
    votes, metrics = [], {}
    for number, one in enumerate(trained, 1):
        steps, limit = one.setting.steps, QUICK_SAMPLES if args.quick else None
        data = load(one.options.data, args.data_root, steps, device, limit=limit)
        task = Task(one.network(data), data, Presentation(steps, one.setting.batch_size))
        own = [task.votes(data.test, draw=draw) for draw in range(args.decisions)]
        metrics[f"test_accuracy_network_{number}"] = accuracy(own[0], data.test.labels)
        votes += own
    labels = data.test.labels
    metrics |= {"decisions": len(votes), "test_accuracy_joint": joint_accuracy(votes, labels)}
    run.finish(
        experiment=f"{SETTINGS[trained[0].options.data].session}_joint",
        paper="stl_snn",
        dataset=data.name,
        epochs=trained[0].options.epochs,
        metrics=metrics,
    )


def main() -> None:
    """Let networks decide together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders of trained networks")
    parser.add_argument(
        "--decisions", type=int, default=1, help="draws of the input's spikes a network (1)"
    )
    add_common_options(parser, "stl_joint", None)
    args = parser.parse_args()
    check_positive(decisions=args.decisions)
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    carry_out(args, "stl_joint", device, lambda run: decide(args, run, device))


if __name__ == "__main__":
    script(main)
