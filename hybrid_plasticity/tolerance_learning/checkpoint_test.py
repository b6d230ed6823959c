"""Test of a saved network under distortion: the program behind the two test scripts."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from hybrid_plasticity.distortions import LEVELS, NOISE_KINDS
from hybrid_plasticity.figures import draw_levels
from hybrid_plasticity.fully_connected import (
    QUICK_LEVELS,
    QUICK_SAMPLES,
    Images,
    add_published_options,
    levels_tested,
)
from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.plastic import Rule
from hybrid_plasticity.published import PublishedModel
from hybrid_plasticity.published import load as load_published
from hybrid_plasticity.tolerance_learning.shared_parameters import SETTINGS
from shared import datasets
from shared.device import prepare
from shared.errors import UserError
from shared.options import add_common_options
from shared.run import Run, carry_out, read_checkpoint

MODELS: dict[str, Rule] = {"mask_model_0": "hp", "mask_model_1": "gp"}
NOISES = {"sp" if kind == "s&p" else kind: kind for kind in NOISE_KINDS}


def load_network(path: Path, rule: Rule) -> tuple[FullyConnected, int]:
    """The network of a checkpoint of `main_*_<rule>.py`.

    Args:
        path: a run's checkpoint.pt.
        rule: the rule it is expected to be of.

    Returns:
        The network, and the epochs that it was trained.

    Raises:
        UserError: there is no such file, it is damaged, or it is of another rule or size.
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


def test_checkpoint(
    args: argparse.Namespace, name: str, kinds: Sequence[str], run: Run, device: torch.device
) -> None:
    """Test the network at every level of every kind; figure and result go to the run's folder."""
    if args.f:
        network, epochs = SETTINGS.network(args.rule), 0  # the files do not say how many
        load_published(PublishedModel(network), args.f, args.names)
    else:
        network, epochs = load_network(args.checkpoint, args.rule)
    network.to(device)
    data = datasets.load("fashion_mnist", args.data_root, validation=0)
    if args.quick:
        data = data.first(QUICK_SAMPLES)
    levels = QUICK_LEVELS if args.quick else LEVELS
    metrics: dict[str, float | None] = {
        **levels_tested(network, Images(data.test, device), kinds, levels, SETTINGS.batch_size)
    }
    run.finish(
        experiment=name,
        paper="hybrid_plasticity",
        dataset=data.name,
        epochs=epochs,
        metrics=metrics,
        figure=run.save_figure(draw_levels(metrics, kinds, name), "distortions"),
    )


def run_test(session: str, kinds: Sequence[str], description: str | None) -> None:
    """Read the options of a test script and run it.

    Args:
        session: name of the runs, before the rule.
        kinds: the distortions that it tests; --kind chooses among them where there are several.
        description: the script's docstring, for --help.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="checkpoint.pt of a run of main_fashion_<rule>.py (default: that of seed --seed in "
        "its default folder)",
    )
    parser.add_argument("--rule", choices=("hp", "gp"), default="hp", help="(default: hp)")
    add_published_options(parser)
    parser.add_argument(
        "--f", type=Path, help="folder of <names>.pth and <names>HEBB.t7, in place of --checkpoint"
    )
    parser.add_argument("--names", default="mlp_v1", help="(default: mlp_v1)")
    parser.add_argument("--model", choices=tuple(MODELS), help="--rule by its published name")
    if len(kinds) > 1:
        parser.add_argument("--noise", choices=tuple(NOISES), help="--kind by its published name")
        parser.add_argument(
            "--kind",
            action="append",
            help=f"a kind of noise, may be given several times: {', '.join(kinds)} (default: all)",
        )
    add_common_options(parser, session, epochs=None, threads=1)
    args = parser.parse_args()
    if args.checkpoint is None:
        trained = f"hp_tolerance_fashion_mnist_{args.rule}"
        args.checkpoint = Path("runs") / trained / f"seed{args.seed}" / "checkpoint.pt"
    if args.model:
        args.rule = MODELS[args.model]
    chosen = getattr(args, "kind", None) or list(kinds)
    if noise := getattr(args, "noise", None):
        chosen = [NOISES[noise]]
    for kind in chosen:
        if kind not in kinds:
            raise UserError(f"--kind {kind} is not one of {', '.join(kinds)}")
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    name = f"{session}_{args.rule}{'_quick' if args.quick else ''}"
    carry_out(args, name, device, lambda run: test_checkpoint(args, name, chosen, run, device))
