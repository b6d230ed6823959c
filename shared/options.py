"""The options and the ending that every script shares."""

import argparse
import errno
import io
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from shared.errors import UserError


def add_common_options(
    parser: argparse.ArgumentParser,
    experiment: str,
    epochs: int | None,
    threads: int | None = None,
    devices: Sequence[str] = ("cuda", "mps", "cpu"),
) -> None:
    """Add the options that every script has.

    Args:
        parser: the script's parser.
        experiment: name of the default folder, runs/<experiment>/seed<seed>.
        epochs: the default of --epochs, the paper's value; None where nothing is trained.
        threads: the default of --threads; 1 for networks so small that threads wait for each other
            longer than they work.
        devices: that the script can use, in the order in which auto looks for them.
    """
    group = parser.add_argument_group("options of every script")
    group.add_argument(
        "--seed", type=int, default=0, help="seed of all random draws (default: %(default)s)"
    )
    offered = ", ".join(devices)
    group.add_argument(
        "--device",
        default="auto",
        help=f"auto, {offered} or cuda:N (default: auto, the first there is of {offered})",
    )
    group.add_argument(
        "--data-root",
        type=Path,
        help="folder of the data sets (default: the environment variable SNN_DATA, else datasets/)",
    )
    group.add_argument(
        "--out",
        type=Path,
        help=f"folder of the run (default: runs/{experiment}[_variant]/seed<seed>)",
    )
    if epochs is not None:
        group.add_argument(
            "--epochs",
            type=int,
            default=epochs,
            help=f"passes over the training set (default and paper: {epochs})",
        )
    group.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on from the checkpoint in --out where there is one (default); --no-resume starts "
        "anew and replaces what the folder holds",
    )
    group.add_argument(
        "--quick",
        action="store_true",
        help="every step of the real path on little data, in under a minute; its numbers mean "
        "nothing",
    )
    group.add_argument(
        "--threads",
        type=int,
        default=threads,
        help=f"CPU threads (default: {threads or 'all cores'})",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="deterministic algorithms only: the same seed gives the same bytes on one machine",
    )
    group.add_argument(
        "--tensorboard",
        action="store_true",
        help="write the metrics for TensorBoard too (needs the extra `tensorboard`)",
    )


def add_preset_options(
    parser: argparse.ArgumentParser,
    presets: Mapping[str, Any],
    choices: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Add --preset, and an option for every field of its settings.

    Args:
        parser: the script's parser.
        presets: settings by name, dataclass objects of one class; "tuned" is the default,
            "published" holds the paper's values.
        choices: the words that a field takes, by the field's name.
    """
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--preset",
        choices=tuple(presets),
        default="tuned",
        help="values of the options below that are not given (default: tuned)",
    )
    for name, paper in asdict(presets["published"]).items():
        tuned = getattr(presets["tuned"], name)
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=float if isinstance(paper, float) else type(paper),
            choices=(choices or {}).get(name),
            help=f"tuned: {tuned}, paper: {paper}",
        )


def parse(
    parser: argparse.ArgumentParser,
    preset_of: Callable[[argparse.Namespace], Any],
    argv: Sequence[str] | None = None,
) -> argparse.Namespace:
    """Read the command line; options that were not given take their preset's value.

    Args:
        parser: with the options of `add_preset_options`.
        preset_of: gives the settings that the options read so far ask for.
        argv: options in place of the command line's.
    """
    args = parser.parse_args(argv)
    for name, value in asdict(preset_of(args)).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def experiment_name(session: str, args: argparse.Namespace, preset: Any) -> str:
    """Name of a run: the session's, with what differs from its default behind it.

    Args:
        session: the nox session's name.
        args: the options read.
        preset: settings of the preset that was asked for; options that differ are named.

    Returns:
        Such as sl_mnist, sl_mnist_exact or sl_mnist_published_wake-0.1.
    """
    words = [session]
    if args.preset != "tuned":
        words.append(args.preset)
    for name, value in asdict(preset).items():
        if getattr(args, name) != value:
            words.append(f"{name}-{getattr(args, name)}")
    if getattr(args, "rule", "shifting") != "shifting":
        words.append(args.rule)
    if args.quick:
        words.append("quick")
    return "_".join(words)


def check_positive(**values: float | None) -> None:
    """Refuse options that must be above 0, and finite.

    Raises:
        UserError: one of the values is not, named by its keyword.
    """
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            words = "above 0" if value <= 0 else "above 0 and finite"
            raise UserError(f"--{name.replace('_', '-')} {value} must be {words}")


def script(main: Callable[[], None]) -> NoReturn:
    """Run a script's main and turn what can go wrong into an exit code and one sentence.

    Exit codes: 0 for success, 2 for input that the user can mend or that needs more memory or room
    than there is, 130 for Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else closed, or a test's
            stream.reconfigure(errors="replace")  # a terminal without "±" shows "?"
    try:
        main()
        if sys.stdout is not None:
            sys.stdout.flush()
    except UserError as error:
        _complain(f"error: {error}")
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output left (`| head`); nothing more can be said to it.
        _silence()
        sys.exit(1)
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            _silence()
            _complain(
                "error: no room left where the output goes: make room, then give the same command "
                "again; it goes on from the last checkpoint"
            )
            sys.exit(2)
        if any(isinstance(cause, KeyboardInterrupt) for cause in _behind(error)):
            _complain("interrupted: the same command goes on from the last checkpoint")
            sys.exit(130)
        if any(map(_is_out_of_memory, _behind(error))):
            _complain("error: not enough memory: lower --batch-size, or make the network smaller")
            sys.exit(2)
        raise
    sys.exit(0)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors that say that a disk or a quota is full."""


def _complain(words: str) -> None:
    """Say it on standard error, where there is one."""
    if sys.stderr is not None:  # closed by `2>&-`, and then print would take standard output
        print(words, file=sys.stderr)


def _silence() -> None:
    """Send what is still to be written to standard output nowhere."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those behind it: compiled code can wrap one in one of its own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# How torch on a CPU (the second is Windows') and JAX say it; torch on a GPU has a class for it.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "RESOURCE_EXHAUSTED")


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy, torch or JAX says that memory is used up.

    By names and words: torch and JAX need not be there.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
