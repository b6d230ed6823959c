"""Test of a saved network under distortion: the program of the two test scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from hybrid_plasticity.distortion_program import (
    QUICK_LEVELS,
    QUICK_SAMPLES,
    check_names,
    default_names,
    intensities,
    levels_tested,
)
from hybrid_plasticity.distortions import LEVELS, NOISE_KINDS
from hybrid_plasticity.figures import draw_levels
from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.published import PublishedModel
from hybrid_plasticity.published import load as load_published
from hybrid_plasticity.tolerance_learning.shared_parameters import SETTINGS, Compared
from shared import datasets, experiment
from shared.errors import UserError
from shared.experiment import UNNAMED, Experiment, Positive, spelled
from shared.run import RUNS, Run, read_checkpoint
from shared.tensors import Samples

PAPER = "hybrid_plasticity"
MODELS: dict[str, Compared] = {"mask_model_0": "hp", "mask_model_1": "gp"}
PUBLISHED_KINDS = {"s&p": "sp"}
NOISES = {PUBLISHED_KINDS.get(kind, kind): kind for kind in NOISE_KINDS}


@dataclass(frozen=True)
class Options(experiment.Settings):
    """The command line of a test script."""

    threads: Annotated[Positive[int] | None, UNNAMED] = 1
    """CPU threads; more would wait for each other longer than they work."""
    data_root: Annotated[Path | None, UNNAMED, spelled("data-root", "--p")] = None
    """Folder of the data sets; without it the environment variable SNN_DATA, else datasets/."""
    checkpoint: Annotated[Path | None, UNNAMED] = None
    """checkpoint.pt of a run of main_fashion_<rule>.py; without it that of the seed in its default
    folder."""
    rule: Annotated[Compared | None, UNNAMED] = None
    """Rule of the network; without it hp."""
    model: Annotated[Literal["mask_model_0", "mask_model_1"] | None, UNNAMED] = None
    """The rule by its published name."""
    f: Annotated[Path | None, UNNAMED] = None
    """Folder of <names>.pth and <names>HEBB.t7, in place of --checkpoint; they do not say with
    which constants they were trained: this folder's programs write the right ones."""
    names: Annotated[str | None, UNNAMED] = None
    """Only with --f; without it mlp_v1 for hp, mlp_v0 for gp."""

    @property
    def chosen_rule(self) -> Compared:
        """The rule by either option."""
        return MODELS[self.model] if self.model else self.rule or "hp"

    @property
    def chosen_names(self) -> str:
        """How the names of the files begin."""
        return self.names or default_names(self.chosen_rule)

    @property
    def chosen_checkpoint(self) -> Path:
        """The checkpoint, named or by default."""
        run = f"hp_tolerance_fashion_mnist_{self.chosen_rule}/seed{self.seed}"
        return self.checkpoint or RUNS / PAPER / run / "checkpoint.pt"

    def kinds(self) -> list[str]:
        """The distortions that are tested."""
        return ["crop"]

    def check(self) -> None:
        """Refuse two names of one thing, and files that are not there."""
        _give_one(f=self.f, checkpoint=self.checkpoint)
        _give_one(model=self.model, rule=self.rule)
        check_names(self.names, self.f)
        if self.f is not None and not self.f.is_dir():
            raise UserError(f"--f {self.f} is no folder: name that of {self.chosen_names}.pth")


@dataclass(frozen=True)
class NoiseOptions(Options):
    """The command line of the test on noisy images."""

    noise: Annotated[Literal["gaussian", "salt", "pepper", "sp", "speckle"] | None, UNNAMED] = None
    """A kind of noise by its published name."""
    kind: Annotated[
        tuple[Literal["gaussian", "salt", "pepper", "s&p", "speckle"], ...],
        UNNAMED,
        tyro.conf.UseAppendAction,
    ] = ()
    """A kind of noise, may be given several times; without it all."""

    def kinds(self) -> list[str]:
        """The kinds of noise that --kind or --noise names, each once; all where neither does."""
        named = [NOISES[self.noise]] if self.noise else self.kind or NOISE_KINDS
        return [kind for kind in NOISE_KINDS if kind in named]

    def check(self) -> None:
        """Refuse two names of one thing, too."""
        super().check()
        _give_one(noise=self.noise, kind=self.kind or None)


def _give_one(**values: object) -> None:
    first, second = values
    if all(value is not None for value in values.values()):
        raise UserError(f"--{first} contradicts --{second}: give one of them")


@dataclass(frozen=True)
class SavedNetwork:
    """A saved network and what it is tested on.

    Attributes:
        network: with the traces that training left.
        epochs: that it was trained; 0 where its files do not say.
        data: the data set.
    """

    network: FullyConnected
    epochs: int
    data: datasets.Dataset

    @property
    def name(self) -> str:
        """Of the data set."""
        return self.data.name

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Of the test set and of the network: another checkpoint in the same place has another."""
        test, state = self.data.test, self.network.state_dict().values()
        arrays = (value.cpu().numpy() for value in state)
        return datasets.fingerprint(self.name, len(test), test.inputs, test.labels, *arrays)


def load(options: Options, device: torch.device) -> SavedNetwork:
    """The network that the options name, then the data.

    Raises:
        UserError: either is not there.
    """
    if options.f:
        network, epochs = SETTINGS.network(options.chosen_rule), 0
        load_published(PublishedModel(network), options.f, options.chosen_names)
    else:
        network, epochs = load_network(options.chosen_checkpoint, options.chosen_rule)
    data = datasets.load("fashion_mnist", options.data_root, validation=0)
    data = data.first(QUICK_SAMPLES) if options.quick else data
    return SavedNetwork(network.to(device), epochs, data)


def load_network(path: Path, rule: Compared) -> tuple[FullyConnected, int]:
    """The network of a checkpoint of `main_*_<rule>.py`.

    Args:
        path: a run's checkpoint.pt.
        rule: the rule it is expected to be of.

    Returns:
        The network, and the epochs that it was trained.

    Raises:
        UserError: there is no such file, it is damaged, or it is of another rule or size, or of
            other constants, as the networks of the simple example are.
    """
    if not path.exists():
        raise UserError(
            f"there is no checkpoint {path}: train a network first, or name another --checkpoint"
        )
    try:
        content = read_checkpoint(path)
    except UserError as error:
        raise UserError(f"{error}: name another --checkpoint") from error
    state = content["state"].get("network", {})
    check_settings(path, content["state"].get("settings"))
    network = SETTINGS.network(rule)
    expected = {name: value.shape for name, value in network.state_dict().items()}
    found = {name: value.shape for name, value in state.items()}
    if found == expected:
        network.load_state_dict(state)
        return network, int(content["epoch"])
    if set(found) == set(SETTINGS.network("gp" if rule == "hp" else "hp").state_dict()):
        other = "gp" if rule == "hp" else "hp"
        raise UserError(f"{path} holds a network of the rule {other}: pass --rule {other}")
    different = sorted(
        name for name in {*expected, *found} if expected.get(name) != found.get(name)
    )
    raise UserError(
        f"{path} holds another network than 784-{SETTINGS.hidden}-10 (its {different[0]} differs): "
        "name a checkpoint of this folder's programs"
    )


def check_settings(path: Path, found: Mapping[str, Any] | None) -> None:
    """Ask that a network was trained with the constants of fault tolerance.

    Args:
        path: of the checkpoint.
        found: what it says of its settings; None where it says nothing.

    Raises:
        UserError: another was.
    """
    if found is None:
        return  # another program's, which `load_network` refuses, or of before they were kept
    for name, value in SETTINGS.state_dict().items():
        if found.get(name) != value:
            raise UserError(
                f"{path} holds a network with other constants than fault tolerance's (its {name} "
                f"is {found.get(name)}, not {value}): name a checkpoint of this folder's programs"
            )


def test_network(options: Options, tested: SavedNetwork, device: torch.device, run: Run) -> None:
    """Test the network at every level of every kind; figure and result go to the run's folder."""
    test = Samples.of(tested.data.test, device).map(intensities)
    levels, kinds = QUICK_LEVELS if options.quick else LEVELS, options.kinds()
    metrics: dict[str, float | None] = {
        **levels_tested(tested.network, test, kinds, levels, SETTINGS.batch_size)
    }
    figure = draw_levels(metrics, kinds, options.chosen_rule, run.experiment)
    run.finish(
        epochs=tested.epochs,
        metrics=metrics,
        figure=run.save_figure(figure, "distortions"),
    )


def session_of(options: Options, data: str, session: str, kinds: Sequence[str]) -> str:
    """How a test's name begins: session and rule, and the kinds of noise where they are not all."""
    words = [session, options.chosen_rule]
    if len(options.kinds()) < len(kinds):
        words.append("-".join(PUBLISHED_KINDS.get(kind, kind) for kind in options.kinds()))
    return "_".join(words)


def run_test(session: str, options: type[Options], description: str | None) -> None:
    """Read the options of a test script and run it.

    Args:
        session: name of the runs, before the rule.
        options: class of its command line.
        description: the script's docstring, for --help.
    """
    Experiment(
        paper=PAPER,
        description=description,
        settings=options,
        load=load,
        session=partial(session_of, session=session, kinds=options().kinds()),
    ).main(test_network)
