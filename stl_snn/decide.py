"""Joint decision of several trained networks: the mean of their votes.

    python stl_snn/decide.py RUN RUN RUN               folders of runs of train.py
    python stl_snn/decide.py RUN --decisions 5         draws of one network's input

The paper's definition of its joint decision is not at hand; the mean of the votes is the simplest
reading. Networks must be trained on the same data set.
"""

import shared.waiting

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import tyro

from shared import experiment
from shared.errors import UserError
from shared.experiment import UNNAMED, Experiment, Positive
from shared.options import script
from shared.run import Run, read_checkpoint
from stl_snn import train
from stl_snn.data import Data, load
from stl_snn.param import MNIST
from stl_snn.spiking_model import SpikingNetwork
from stl_snn.train import QUICK_SAMPLES, setting_of
from stl_snn.training import Presentation, Trainer, accuracy, joint_accuracy


@dataclass(frozen=True)
class Settings(experiment.Settings):
    """The options."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], UNNAMED] = ()
    """Folders of trained networks."""
    decisions: Positive[int] = 1
    """Draws of the input's spikes per network."""

    def check(self) -> None:
        """Ask for a network."""
        if not self.runs:
            raise UserError("no network is named: give the folder of at least one run of train.py")


class Trained(NamedTuple):
    """A run's settings, its network's sizes and the weights of its last checkpoint."""

    folder: Path
    settings: train.Settings
    setting: MNIST
    weights: dict[str, torch.Tensor]

    def network(self, data: Data) -> SpikingNetwork:
        """The network, on the device of the data.

        Raises:
            UserError: the checkpoint is another network's.
        """
        network = SpikingNetwork(
            self.setting,
            data.shape,
            data.n_classes,
            sharing=self.settings.sharing,
            floor=self.settings.floor,
        )
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            raise UserError(
                f"{self.folder / 'checkpoint.pt'} is a checkpoint of another network than its "
                f"config.json tells of ({str(error).splitlines()[0]}): train it again"
            ) from error
        return network.to(data.train.device)


def read(folder: Path) -> Trained:
    """What a run left in its folder.

    Raises:
        UserError: it is no run of this paper, or its checkpoint is damaged.
    """
    try:
        settings = train.EXPERIMENT.saved(folder)
        state = read_checkpoint(folder / "checkpoint.pt")["state"]
        return Trained(folder, settings, setting_of(settings), state["network"])
    except (UserError, KeyError) as error:
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
        if one.settings.data != networks[0].settings.data:
            raise UserError(
                f"{one.folder} was trained on {one.settings.data}, {networks[0].folder} on "
                f"{networks[0].settings.data}: they cannot decide together"
            )


def load_for(one: Trained, settings: Settings, device: torch.device) -> Data:
    """The data set of a trained network, recordings cut into its number of frames."""
    limit = QUICK_SAMPLES if settings.quick else None
    name, steps = one.settings.data, one.setting.steps
    return load(name, settings.data_root, steps, device, limit=limit)


def decide(settings: Settings, data: Data, device: torch.device, run: Run) -> None:
    """Test every network alone and all together, and write the result.

    Raises:
        UserError: a network cannot be had.
    """
    trained = [read(folder) for folder in settings.runs]
    check_alike(trained)
    votes, metrics = [], {}
    for number, one in enumerate(trained, 1):
        if data.recorded and data.train.inputs.shape[1] != one.setting.steps:
            data = load_for(one, settings, device)
        presentation = Presentation(
            one.setting.steps, one.setting.batch_size, one.settings.precision
        )
        trainer = Trainer(one.network(data), data, presentation)
        own = [trainer.votes(data.test, draw=draw) for draw in range(settings.decisions)]
        metrics[f"test_accuracy_network_{number}"] = accuracy(own[0], data.test.labels)
        votes += own
    labels = data.test.labels
    metrics |= {"decisions": len(votes), "test_accuracy_joint": joint_accuracy(votes, labels)}
    run.finish(epochs=trained[0].settings.epochs, metrics=metrics)


def joint_name(settings: train.Settings, data: str) -> str:
    """How the run's name begins: as that of the first network's run."""
    return f"{train.EXPERIMENT.name(settings, data)}_joint"


EXPERIMENT = Experiment(
    paper="stl_snn",
    description=__doc__,
    settings=Settings,
    load=lambda settings, device: load_for(read(settings.runs[0]), settings, device),
    session=lambda settings, data: joint_name(read(settings.runs[0]).settings, data),
)


if __name__ == "__main__":
    script(lambda: EXPERIMENT.main(decide))
