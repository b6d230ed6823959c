"""What the engine starts: one job, or one figure. Not meant to be called by hand.

python -m reproduce.job run PAPER ROW SEED --threads N --output FILE
python -m reproduce.job again PAPER ROW SEED --output FILE
python -m reproduce.job figure NAME --output FILE

FILE is where the engine looks for what was asked for.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from reproduce.declared import read_all
from reproduce.engine import call_and_wait
from reproduce.graph import FIGURES, Graph, Job
from shared.errors import UserError
from shared.options import script
from shared.run import REPOSITORY, read_result


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only job of a run's folder, which nobody writes to at the start.

    A cluster can hold a job twice: one that was submitted before its engine was killed, too. And
    the script of a job that was killed can be still at work. To wait for either loses nothing: it
    does what is wanted here. The job's lock is its own, beside the folder: one that is waited for
    lasts until the result is kept, and no job tries the script's lock while another starts it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent / f".{folder.name}.lock", folder):
        if folder.exists():
            with _locked(folder / ".lock", folder):
                pass
        yield


@contextlib.contextmanager
def _locked(path: Path, folder: Path) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"waiting for the run that is writing to {folder}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def call(words: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run a script in a folder.

    Args:
        words: the script, below the repository, and its options.
        folder: of the run, below the repository.

    Returns:
        The content of its result.json.

    Raises:
        UserError: it failed; what was wrong it has said itself.
    """
    code = call_and_wait([sys.executable, *words, "--out", str(folder)])
    if code:
        raise UserError(f"{shlex.join(words)} ended with exit code {code}")
    return read_result(REPOSITORY / folder / "result.json")


def run(job: Job, threads: int) -> None:
    """Do a job that is missing, or the rest of it, and keep its result."""
    with alone(REPOSITORY / job.folder):
        if job.is_done:
            return
        row = job.row
        words = [f"{job.paper}/{row.script}", *row.options]
        result = call([*words, "--seed", str(job.seed), "--threads", str(threads)], job.folder)
        job.check(result, job.folder / "result.json")
        keep(REPOSITORY / job.folder, REPOSITORY / job.kept.parent)


def keep(run_folder: Path, kept: Path) -> None:
    """Copy metrics, figures and last the result, each in one step."""
    kept.mkdir(parents=True, exist_ok=True)
    names = [*sorted(run_folder.glob("*.png")), run_folder / "metrics.jsonl"]
    for path in [*(path for path in names if path.exists()), run_folder / "result.json"]:
        _copy(path, kept / path.name)


def _copy(path: Path, target: Path) -> None:
    """Copy a file in one step."""
    temporary = target.with_name(f"{target.name}.tmp")
    shutil.copyfile(path, temporary)
    os.replace(temporary, target)


def deliver(made: Path, output: Path) -> None:
    """Bring a file to where the engine looks for it, if that is another place.

    An engine that reckons with no shared file system has a folder of its own for outputs.
    """
    if not (output.exists() and output.samefile(made)):
        output.parent.mkdir(parents=True, exist_ok=True)
        _copy(made, output)


def again(job: Job) -> None:
    """Do a job anew whose result is kept already, by the command in it."""
    stored = read_result(REPOSITORY / job.kept)
    folder = REPOSITORY / job.anew
    # One that was killed goes on; one that has ended was another day's, but for one that is waited
    # for.
    afresh = ["--no-resume"] if (folder / "result.json").exists() else []
    with alone(folder):
        result = call([*words_of(stored, job), *afresh], job.anew)
        path = REPOSITORY / job.kept_anew
        path.write_text(json.dumps(result, indent=1) + "\n")


def words_of(stored: Mapping[str, Any], job: Job) -> list[str]:
    """The script and options that gave a result.

    Args:
        stored: content of its result.json.
        job: whose result it is. Its row's script and options stand in where the result came from
            another script, such as one that does several runs.
    """
    _, program, *options = shlex.split(stored["command"])
    if program != f"{job.paper}/{job.row.script}":
        program, options = f"{job.paper}/{job.row.script}", list(job.row.options)
    for name, value in (("--seed", stored["seed"]), ("--threads", stored.get("threads"))):
        is_said = any(word.split("=")[0] == name for word in options)
        if not is_said and value is not None:
            options += [name, str(value)]
    return [program, *options]


def draw(name: str, graph: Graph) -> None:
    """Draw a figure from what is kept.

    Raises:
        UserError: fewer than two of its experiments have runs.
    """
    # Imported here: runs need none of it.
    from reproduce.figures import draw_figures
    from shared.report import load_results

    results = load_results(REPOSITORY / "results")
    if not draw_figures(graph.reproductions, results, REPOSITORY / FIGURES, (name,)):
        raise UserError(f"figure {name} needs runs of two of its experiments")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("run", "again"):
        words = kinds.add_parser(kind)
        words.add_argument("paper")
        words.add_argument("row")
        words.add_argument("seed", type=int)
        if kind == "run":
            words.add_argument("--threads", type=int, required=True)
    kinds.add_parser("figure").add_argument("name")
    for words in kinds.choices.values():
        words.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    deliver(REPOSITORY / _make(args, Graph(read_all())), args.output)


def _make(args: argparse.Namespace, graph: Graph) -> Path:
    """Make what is asked for.

    Returns:
        The file, below the repository.
    """
    if args.kind == "figure":
        draw(args.name, graph)
        return FIGURES / f"{args.name}.png"
    job = Job(args.paper, graph.row(args.paper, args.row), args.seed)
    if args.kind == "again":
        again(job)
        return job.kept_anew
    run(job, args.threads)
    return job.kept


if __name__ == "__main__":
    script(main)
