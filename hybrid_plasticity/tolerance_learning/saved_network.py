"""Test of a saved network under distortion: the program behind the two test scripts."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hybrid_plasticity.distortion_program import (
    QUICK_LEVELS,
    QUICK_SAMPLES,
    Images,
    add_published_options,
    default_names,
    levels_tested,
    settle_names,
)
from hybrid_plasticity.distortions import LEVELS, NOISE_KINDS
from hybrid_plasticity.figures import draw_levels
from hybrid_plasticity.layer import Rule
from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.published import PublishedModel
from hybrid_plasticity.published import load as load_published
from hybrid_plasticity.tolerance_learning.shared_parameters import SETTINGS
from shared import datasets
from shared.device import prepare
from shared.errors import UserError
from shared.options import add_common_options
from shared.run import Run, carry_out, read_checkpoint

MODELS: dict[str, Rule] = {"mask_model_0": "hp", "mask_model_1": "gp"}
PUBLISHED_KINDS = {"s&p": "sp"}
NOISES = {PUBLISHED_KINDS.get(kind, kind): kind for kind in NOISE_KINDS}


def load_network(path: Path, rule: Rule) -> tuple[FullyConnected, int]:
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


def kinds_chosen(args: argparse.Namespace, kinds: Sequence[str]) -> list[str]:
    """The distortions that --kind or --noise names, each once; all where neither is given.

    Raises:
        UserError: --kind names none of them.
    """
    if noise := getattr(args, "noise", None):
        return [NOISES[noise]]
    named = getattr(args, "kind", None) or kinds
    for kind in named:
        if kind not in kinds:
            raise UserError(f"--kind {kind} is not one of {', '.join(kinds)}")
    return [kind for kind in kinds if kind in named]


def run_name(
    args: argparse.Namespace, session: str, kinds: Sequence[str], chosen: Sequence[str]
) -> str:
    """Name of a test: session and rule, and the kinds of noise where they are not all."""
    words = [session, args.rule]
    if len(chosen) < len(kinds):
        words.append("-".join(PUBLISHED_KINDS.get(kind, kind) for kind in chosen))
    return "_".join([*words, *(["quick"] if args.quick else [])])


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
    trained, rules = (parser.add_mutually_exclusive_group() for _ in range(2))
    trained.add_argument(
        "--checkpoint",
        type=Path,
        help="checkpoint.pt of a run of main_fashion_<rule>.py (default: that of seed --seed in "
        "its default folder)",
    )
    rules.add_argument("--rule", choices=("hp", "gp"), help="(default: hp)")
    rules.add_argument("--model", choices=tuple(MODELS), help="--rule by its published name")
    add_published_options(parser)
    trained.add_argument(
        "--f",
        type=Path,
        help="folder of <names>.pth and <names>HEBB.t7, in place of --checkpoint; they do not say "
        "with which constants they were trained: this folder's programs write the right ones",
    )
    parser.add_argument("--names", help="only with --f (default: mlp_v1 for hp, mlp_v0 for gp)")
    if len(kinds) > 1:
        noises = parser.add_mutually_exclusive_group()
        noises.add_argument("--noise", choices=tuple(NOISES), help="--kind by its published name")
        noises.add_argument(
            "--kind",
            action="append",
            help=f"a kind of noise, may be given several times: {', '.join(kinds)} (default: all)",
        )
    add_common_options(parser, session, epochs=None, threads=1)
    args = parser.parse_args()
    args.rule = MODELS[args.model] if args.model else args.rule or "hp"
    settle_names(args, default_names(args.rule))
    if args.f is not None and not args.f.is_dir():
        raise UserError(f"--f {args.f} is no folder: name that of {args.names}.pth")
    if args.checkpoint is None:
        folder = f"hp_tolerance_fashion_mnist_{args.rule}"
        args.checkpoint = Path("runs") / folder / f"seed{args.seed}" / "checkpoint.pt"
    chosen = kinds_chosen(args, kinds)
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    name = run_name(args, session, kinds, chosen)
    carry_out(args, name, device, lambda run: test_checkpoint(args, name, chosen, run, device))
