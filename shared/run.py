"""A run: its options, its folder, its checkpoints, its result.

A run's folder holds

    config.json      the experiment, every option, the data, the command, and each machine that the
                     run was on
    metrics.jsonl    one line per epoch, flushed
    checkpoint.pt    all that a killed run needs to go on bit for bit; checkpoint.previous.pt is the
                     one before it. Tensors are saved by torch, arrays of NumPy or JAX by NumPy
    result.json      at the end; its keys are `Result`'s fields
    *.png            figures; *.pdf with --pdf

A run that was killed, interrupted or that filled the disk goes on when the same command is given
again, and one that has ended goes on where more epochs are asked for and its schedule allows it.
One folder takes one run at a time, one experiment, one set of options and one data set: what a
folder holds is compared with what is asked for, whether config.json is there or result.json alone.
"""

import contextlib
import dataclasses
import importlib.metadata
import io
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import filelock
import numpy as np
from tqdm import tqdm

from shared import parallel
from shared.errors import UserError
from shared.options import FULL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[1]
RUNS = Path("runs")
PACKAGES = ("numpy", "torch", "torchvision", "numba", "triton", "jax", "jaxlib", "scikit-learn")

# Options that say where things lie, where and how they are computed, or how they are shown, not
# what is computed. Device and threads of every part of a run are recorded instead.
NOT_COMPARED = ("out", "data_root", "device", "pdf", "resume", "tensorboard", "threads")
# Options of a command that have no place in a stored one, which is run again somewhere else, and
# whether a value stands behind them.
_NOT_REPEATED = {
    "--out": True, "--into": True, "--data-root": True, "--p": True, "--resume": False,
    "--no-resume": False,
}  # fmt: skip


class RunError(UserError):
    """A run's folder cannot be used as asked."""


# ------------------------------------------------------------------------------------- results


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run found: the content of result.json.

    Attributes:
        experiment: the nox session's name and the variant, such as sl_mnist_exact.
        paper: the paper's folder.
        figure: file name of the run's main figure, or None.
        dataset: data set trained and tested on.
        seed: seed of all random draws.
        epochs: passes over the training set.
        device: device and its name; of a run that went on on another, one after the other.
        processor: model of the processor, likewise.
        threads: CPU threads of the last part; of several processes those of each.
        processes: of the last part, each with its share of every batch (`shared.parallel`). Times
            and memory are the first one's.
        seconds: time of training and evaluation, over all parts of a run that was continued, with
            what it waited for a machine that had other work.
        cpu_seconds: time that its threads computed, which such waiting does not count in.
        peak_memory_mb: largest resident size of the process, on CUDA largest allocation.
        metrics: numbers by name; accuracies are fractions of 1.
        published: the paper's numbers under the same names, or None where none can be confirmed.
        options: every option that says what is computed.
        data: name, number of samples and checksum of what was trained and tested on; None where
            the script does not tell, such as one that makes its data from the seed.
        command: the command that gives the result again, in any folder.
        commit: commit of the code, with "+" where it was changed since; None outside of git.
        versions: python's and the libraries' versions.
    """

    experiment: str
    paper: str
    figure: str | None
    dataset: str
    seed: int
    epochs: int
    device: str
    processor: str
    threads: int
    processes: int
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    metrics: Mapping[str, float | None]
    published: Mapping[str, float] | None
    options: Mapping[str, Any]
    data: Mapping[str, Any] | None
    command: str
    commit: str | None
    versions: Mapping[str, str]


def print_table(result: Mapping[str, Any]) -> None:
    """Print a result's metrics with the published numbers beside them."""
    published = result["published"] or {}
    width = max(len(name) for name in result["metrics"])
    print(f"\n{result['experiment']}, {result['dataset']}, seed {result['seed']}, "
          f"{result['epochs']} epochs, {result['seconds']:.0f} s")  # fmt: skip
    print(f"{'':{width}}  {'measured':>10}  published")
    for name, value in result["metrics"].items():
        number = f"{value:.6g}" if isinstance(value, float) else str(value)
        print(f"{name:{width}}  {number:>10}  {published.get(name, 'not published')}")


def commit() -> str | None:
    """The checked-out commit, with "+" behind it where tracked files have changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "*.toml")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Versions of python and of the installed libraries that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def device_name(device: Any) -> str:
    """A torch device with the name of the hardware behind it."""
    if getattr(device, "type", None) == "cuda":
        import torch

        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({os.cpu_count()} cores, {platform.machine()})"


def processor() -> str:
    """The model of this machine's processor, as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def threads() -> int:
    """How many CPU threads torch uses, or JAX; without either, how many this process may."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    if "jax" in sys.modules and os.environ.get("NPROC", "").isdecimal():
        return int(os.environ["NPROC"])  # the size of XLA's pool
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def repeatable_command(words: Sequence[str], seed: int | None = None) -> str:
    """A command line that does the same from the repository's folder, on any machine.

    Args:
        words: the script's path and its options, as in `sys.argv`.
        seed: of the run; of several --trials it asks for this one alone.

    Returns:
        The command without where its files lay.
    """
    script, *options = words
    with contextlib.suppress(ValueError):
        script = Path(script).resolve().relative_to(REPOSITORY).as_posix()
    not_repeated = dict(_NOT_REPEATED)
    kept: list[str] = []
    if seed is not None and any(word.split("=")[0] == "--trials" for word in options):
        not_repeated |= {"--trials": True, "--seed": True}
        kept = ["--seed", str(seed)]
    while options:
        word, options = options[0], options[1:]
        name, equals, _ = word.partition("=")
        takes_value = not_repeated.get(name.replace("_", "-"))  # either is taken in an option
        if takes_value is None:
            kept.append(word)
        elif takes_value and not equals:
            options = options[1:]
    return shlex.join(["python", script, *kept])


def peak_memory_mb() -> float:
    """Largest resident size of this process so far; on CUDA the largest allocation. In MB."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated() / 1e6)
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset / 1e6)
    import resource

    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


RESULT_KEYS = ("experiment", "dataset", "epochs")
"""What a result.json must tell, to stand beside others."""


def read_result(path: Path) -> dict[str, Any]:
    """The content of a result.json: what tells its run, and its metrics, numbers or None.

    Raises:
        UserError: it cannot be read, or is no result of a run.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); restore or delete it") from error
    except ValueError as error:
        words = f"{path} cannot be read, as it is not JSON ({error})"
        raise UserError(f"{words}; restore or delete it") from error
    missing = [key for key in RESULT_KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise UserError(
            f"{path} is no result of a run (it has no {missing[0]}); restore or delete it"
        )
    metrics = content.setdefault("metrics", {})
    numbers = metrics.values() if isinstance(metrics, dict) else [metrics]
    if wrong := [n for n in numbers if not (n is None or isinstance(n, int | float))]:
        raise UserError(f"{path} has the metric {wrong[0]!r}, no number; restore or delete it")
    return content


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint that `Run.save` wrote: its epoch, seconds and state.

    Raises:
        RunError: it is not there, damaged or no checkpoint of a run.
    """
    if not path.exists():
        raise RunError(f"{path} is not there: a stored result has none, run its command again")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # checks every part's CRC, which torch does not
            is_arrays = f"{_STRUCTURE}.npy" in archive.namelist()
        if damaged is not None:
            raise zipfile.BadZipFile(f"bad checksum of {damaged}")
        content: dict[str, Any]
        if is_arrays:
            content = _read_arrays(path)
        else:
            import torch

            content = torch.load(path, map_location="cpu", weights_only=True)
        if not {"epoch", "seconds", "state"} <= set(content):
            raise ValueError("it is no checkpoint of a run")
    except Exception as error:  # torch.load names no common class for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{path} is damaged ({reason})") from error
    return content


def stored_options(folder: Path) -> dict[str, Any]:
    """The options of the run that a folder holds, by name, as JSON has them.

    Raises:
        RunError: it holds none, or its records are damaged.
    """
    for name in ("config.json", "result.json"):
        path = folder / name
        if path.exists():
            try:
                options: dict[str, Any] = json.loads(path.read_text())["options"]
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(f"{path} is damaged: it does not say the run's options") from error
            return options
    raise RunError(f"{folder} holds no run: neither config.json nor result.json is there")


# A checkpoint of arrays is an .npz: its arrays by number, and a JSON text of what holds them.
_STRUCTURE = "structure"


def _is_array(value: Any) -> bool:
    """Whether a value is an array of NumPy or JAX."""
    return isinstance(value, np.ndarray) or type(value).__module__.startswith("jax")


def _leaves(state: Any) -> Iterator[Any]:
    if isinstance(state, Mapping):
        state = list(state.values())
    if isinstance(state, list | tuple):
        for item in state:
            yield from _leaves(item)
    else:
        yield state


def _is_for_numpy(state: Any) -> bool:
    """Whether a state holds arrays, and nothing of torch's."""
    leaves = list(_leaves(state))
    of_torch = (type(leaf).__module__.partition(".")[0] == "torch" for leaf in leaves)
    return any(map(_is_array, leaves)) and not any(of_torch)


def _write_arrays(content: Mapping[str, Any], file: io.BytesIO) -> None:
    """Write dicts, lists and tuples of arrays and plain values."""
    arrays: list[np.ndarray[Any, Any]] = []

    def described(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {"dict": [[key, described(item)] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [described(item) for item in value]}
        if _is_array(value):
            arrays.append(np.asarray(value))
            return {"array": len(arrays) - 1}
        return value

    text = json.dumps(described(content)).encode()
    numbered = {str(i): array for i, array in enumerate(arrays)}
    np.savez(file, allow_pickle=False, **{_STRUCTURE: np.frombuffer(text, np.uint8)}, **numbered)


def _read_arrays(path: Path) -> dict[str, Any]:
    """Read what `_write_arrays` wrote; all arrays are NumPy's."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)

    def made(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "array":
            return arrays[str(content)]
        if kind == "dict":
            return {key: made(item) for key, item in content}
        return {"list": list, "tuple": tuple}[kind](map(made, content))

    found: dict[str, Any] = made(json.loads(arrays[_STRUCTURE].tobytes()))
    return found


# ----------------------------------------------------------------------------------- the folder


class Run:
    """A run's folder, used as a context.

    Args:
        folder: where the run's files go; made where it is not there.
        config: every option of the run, JSON values and paths.
        device: the device it runs on, for the records.
        data: name, number of samples and checksum of what it trains and tests on, such as
            `shared.datasets.fingerprint` gives; None where they are not compared, such as data
            made from the seed.
        experiment: as in `Result`, and the next three.
        paper: the paper's folder.
        dataset: that is trained and tested on.
        published: the paper's numbers.
        grows: a run of fewer epochs is the beginning of this one; False where the epochs decide
            more than when it ends, such as a step size that falls over all of them.

    Raises:
        RunError: another run is using the folder, the folder holds a run with other options, on
            other data or of another experiment, or it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        device: Any,
        data: Mapping[str, Any] | None = None,
        *,
        experiment: str = "",
        paper: str = "",
        dataset: str = "",
        published: Mapping[str, float] | None = None,
        grows: bool = False,
    ) -> None:
        self.folder = folder
        self.experiment, self.paper, self.dataset = experiment, paper, dataset
        self.published, self.grows = published, grows
        self.config = json.loads(json.dumps(dict(config), default=str))
        self.data = json.loads(json.dumps(data))
        self.device = device_name(device)
        self._parts: list[dict[str, Any]] = []
        self._commit = commit()  # of the code that runs, whatever is checked out at its end
        self._writer: Any = None
        # The system drops the lock when the process ends, however it ends.
        self._lock = filelock.FileLock(folder / ".lock")

    @property
    def finished(self) -> dict[str, Any] | None:
        """The content of result.json where this run has ended already, else None.

        Of several processes all ask, and are told what the first one reads.
        """
        return parallel.of_first(self._finished)

    def _finished(self) -> dict[str, Any] | None:
        if not self._result_path.exists():
            return None
        return self._read_json(self._result_path)

    @staticmethod
    def _read_json(path: Path) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(path.read_text())
            if not isinstance(content, dict) or not content:
                raise ValueError("it says nothing")
        except ValueError as error:
            raise RunError(
                f"{path} is damaged ({error}); choose another --out, or replace that run with "
                "--no-resume"
            ) from error
        return content

    @property
    def _result_path(self) -> Path:
        return self.folder / "result.json"

    @property
    def checkpoint_path(self) -> Path:
        """The newest checkpoint."""
        return self.folder / "checkpoint.pt"

    @property
    def previous_checkpoint_path(self) -> Path:
        """The checkpoint before the newest."""
        return self.folder / "checkpoint.previous.pt"

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RunError(
                f"another run is writing to {self.folder}; wait for it or choose another --out"
            ) from error
        except OSError as error:
            raise RunError(
                f"--out {self.folder} cannot be written ({error.strerror}); choose another folder"
            ) from error
        try:
            if not self.config.get("resume", True):
                self._set_aside()
            self._write_config()
        except BaseException:
            self._lock.release()
            raise
        self._start()
        return self

    def _start(self) -> None:
        self._started, self._cpu_started = time.monotonic(), time.process_time()
        self._seconds_before = self._cpu_seconds_before = 0.0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        if isinstance(error, Exception) and self._fresh and not self.checkpoint_path.exists():
            # A run that failed before its first epoch is no run: the corrected command shall find
            # the folder free.
            (self.folder / "config.json").unlink(missing_ok=True)
            self._take_back()
        self._lock.release()

    @property
    def _replaced(self) -> Path:
        return self.folder / ".replaced"

    def _set_aside(self) -> None:
        """Make room for a run that replaces another, which is kept until this one has a result."""
        # Checkpoints first: without config.json nobody would know what they belong to.
        patterns = ("checkpoint*.pt", "metrics.jsonl", "result*.json", "config.json")
        there = [path for pattern in patterns for path in self.folder.glob(pattern)]
        is_first = bool(there) and not self._replaced.exists()  # else these are of a failed attempt
        if is_first:
            self._replaced.mkdir()
        for path in there:
            if is_first:
                os.replace(path, self._replaced / path.name)
            else:
                path.unlink()

    def _take_back(self) -> None:
        """Put back what was to be replaced by a run that failed before its first checkpoint."""
        if self._replaced.exists():
            for path in self._replaced.iterdir():
                os.replace(path, self.folder / path.name)
            self._replaced.rmdir()

    def _write_config(self) -> None:
        path = self.folder / "config.json"
        self._fresh = not path.exists()
        if not self._fresh:
            before = self._read_json(path)
            self._compare(
                before.get("options", {}), before.get("data", self.data), before.get("experiment")
            )
            self._parts = before.get("parts", [])
        elif self._result_path.exists():
            before = self._read_json(self._result_path)
            if "options" not in before:
                raise RunError(
                    f"{self._result_path} does not say by which options it was computed; choose "
                    "another --out, or replace that run with --no-resume"
                )
            self._compare(before["options"], before["data"], before.get("experiment"))
        part = {
            "device": self.device,
            "processor": processor(),
            "threads": threads(),
            "processes": parallel.processes(),
            "commit": self._commit,
            "versions": versions(),
        }
        if not self._parts or self._parts[-1] != part:
            self._parts = [*self._parts, part]
        record = {
            "experiment": self.experiment,
            "options": self.config,
            "data": self.data,
            "command": repeatable_command(sys.argv, self.config.get("seed")),
            "parts": self._parts,
        }
        self._write(path, (json.dumps(record, indent=1) + "\n").encode())

    def _compare(
        self, options: Mapping[str, Any], data: Mapping[str, Any] | None, experiment: str | None
    ) -> None:
        """Refuse what this folder's run was not made with.

        Raises:
            RunError: an option, the data or the experiment differ; it is named.
        """
        remedy = "choose another --out, or replace that run with --no-resume"
        before, asked = _without_length(experiment or ""), _without_length(self.experiment)
        is_another = bool(before and asked) and before != asked
        another = RunError(f"{self.folder} holds a run of {before}, not of {asked}; {remedy}")
        if is_another and (options.keys() ^ self.config.keys()) - {*NOT_COMPARED}:
            raise another  # of a program with other options, none of which need be named
        for name in sorted({*options, *self.config} - {*NOT_COMPARED}):
            then, now = options.get(name), self.config.get(name)
            is_length = name == "epochs" and None not in (then, now)  # not all programs have one
            if then != now and is_length and (obstacle := self._obstacle(then, now)):
                raise RunError(f"{self.folder} holds a run of {then} epochs{obstacle}; {remedy}")
            if then != now and not is_length:
                raise RunError(
                    f"{self.folder} holds a run with --{name.replace('_', '-')} {then}, not {now}; "
                    f"{remedy}"
                )
        if data != self.data:
            raise RunError(
                f"{self.folder} holds a run on {_described(data)}, not on {_described(self.data)}; "
                f"give it those data, {remedy}"
            )
        # Two programs can have the same options: what a script trains by need not be one of them.
        if is_another:
            raise another
        if options.get("epochs") != self.config.get("epochs") and self._result_path.exists():
            os.replace(self._result_path, self.folder / f"result.{options['epochs']}-epochs.json")

    def _obstacle(self, then: Any, now: Any) -> str | None:
        """Why a run of `then` epochs cannot go on to `now` epochs, or None where it can."""
        if not self.grows:
            return f", whose schedule depends on their number, so it does not begin one of {now}"
        if now < then:
            return f", more than {now}"
        if self._result_path.exists() and not self.checkpoint_path.exists():
            return f" without its checkpoint, so it cannot go on to {now}"
        return None

    @property
    def seconds(self) -> float:
        """Time spent on the run so far, in all its parts, in s."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def cpu_seconds(self) -> float:
        """Time that the run's threads have computed so far, in all its parts, in s."""
        return self._cpu_seconds_before + time.process_time() - self._cpu_started

    # -- checkpoints

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Write the checkpoint of an epoch; the one before it stays as checkpoint.previous.pt.

        Args:
            epoch: the number of epochs that are done.
            state: tensors and plain values in dicts, lists and tuples: models, optimizers,
                random states. In place of tensors, arrays of NumPy or JAX: they come back as
                NumPy's, and torch is not needed.

        Raises:
            RunError: the disk is full or the folder cannot be written; the older checkpoint is
                untouched.
        """
        memory = io.BytesIO()
        content = {
            "epoch": epoch,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "state": dict(state),
        }
        if _is_for_numpy(state):
            _write_arrays(content, memory)
        else:
            import torch

            torch.save(content, memory)
        temporary = self.folder / "checkpoint.pt.tmp"
        self._write_synced(temporary, memory.getvalue())
        if self.checkpoint_path.exists():
            os.replace(self.checkpoint_path, self.previous_checkpoint_path)
        os.replace(temporary, self.checkpoint_path)
        self._sync_folder()
        shutil.rmtree(self._replaced, ignore_errors=True)

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """The epoch and state of the newest checkpoint, or None where there is none.

        Metrics of epochs after it are dropped: they will be computed again. Of several processes
        all load, and are told what the first one reads.

        Raises:
            RunError: the checkpoint is damaged. It is named, and nothing is changed.
        """
        return parallel.of_first(self._load)

    def _load(self) -> tuple[int, dict[str, Any]] | None:
        path = self.checkpoint_path
        if not path.exists():
            path = self.previous_checkpoint_path
        if not path.exists():
            self._keep_metrics_until(0)
            return None
        content = self._read_checkpoint(path)
        self._seconds_before = content["seconds"]
        self._cpu_seconds_before = content.get("cpu_seconds", content["seconds"])
        self._keep_metrics_until(content["epoch"])
        return content["epoch"], content["state"]

    def checkpoint(self, epoch: int, **parts: Any) -> None:
        """`save` the states of modules, optimizers, schedulers and random generators, by name."""
        self.save(
            epoch,
            {
                name: part.state_dict() if hasattr(part, "state_dict") else part.get_state()
                for name, part in parts.items()
            },
        )

    def restore(self, **parts: Any) -> int:
        """`load` the newest checkpoint into the parts that `checkpoint` saved, where there is one.

        Returns:
            The number of epochs that are done.
        """
        saved = self.load()
        if saved is None:
            return 0
        epoch, state = saved
        for name, part in parts.items():
            take = part.load_state_dict if hasattr(part, "load_state_dict") else part.set_state
            take(state[name])
        return epoch

    def _read_checkpoint(self, path: Path) -> dict[str, Any]:
        try:
            return read_checkpoint(path)
        except RunError as error:
            advice = "pass --no-resume to start anew"
            if path == self.checkpoint_path and self.previous_checkpoint_path.exists():
                advice = (
                    f"delete it to go on from {self.previous_checkpoint_path.name}, or {advice}"
                )
            raise RunError(f"{error}; {advice}") from error

    def _keep_metrics_until(self, epoch: int) -> None:
        path = self.folder / "metrics.jsonl"
        if path.exists():
            kept = [row for row in self.metrics() if row["epoch"] <= epoch]
            self._write(path, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def _write(self, path: Path, data: bytes) -> None:
        """Replace a file in one step, so that a reader or a crash never sees half of it."""
        temporary = path.with_name(path.name + ".tmp")
        self._write_synced(temporary, data)
        os.replace(temporary, path)

    def _write_synced(self, path: Path, data: bytes) -> None:
        try:
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            path.unlink(missing_ok=True)
            what = "the disk is full" if error.errno in FULL else error.strerror
            raise RunError(
                f"{what}: {path.name.removesuffix('.tmp')} could not be written to {self.folder}; "
                "what was saved before is intact: make room, then give the same command again"
            ) from error

    def _sync_folder(self) -> None:
        if os.name != "posix":
            return  # only there can a folder be opened and synced
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    # -- metrics, progress, figures, result

    def log(self, epoch: int, metrics: Mapping[str, float], *, show: bool = True) -> None:
        """Record an epoch's metrics in metrics.jsonl, and print them as a line.

        Args:
            epoch: number of epochs done, from 1.
            metrics: values by name.
            show: False records without printing, for epochs of milliseconds.

        Raises:
            RunError: the disk is full or the folder cannot be written.
        """
        row = {"epoch": epoch, **metrics}
        try:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise RunError(
                f"metrics.jsonl could not be written to {self.folder} ({error.strerror}); the last "
                "checkpoint is intact: make room, then give the same command again"
            ) from error
        if show:
            line = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            print(f"epoch {epoch:3d}  {line}", flush=True)
        if self.config.get("tensorboard"):
            for name, value in metrics.items():
                self._tensorboard().add_scalar(name, value, epoch)

    def metrics(self) -> list[dict[str, float]]:
        """All recorded epochs, a dict a line of metrics.jsonl."""
        path = self.folder / "metrics.jsonl"
        rows = []
        for line in path.read_text().splitlines() if path.exists() else []:
            with contextlib.suppress(json.JSONDecodeError):  # a kill can cut the last line
                rows.append(json.loads(line))
        return rows

    def _tensorboard(self) -> Any:
        if self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise RunError(
                    "--tensorboard needs the package tensorboard: pip install '.[tensorboard]'"
                ) from error
            self._writer = SummaryWriter(str(self.folder / "tensorboard"))
        return self._writer

    def save_figure(self, figure: "Figure", name: str) -> str:
        """Write a figure into the folder, as PNG and with --pdf as PDF too, and close it.

        Returns:
            The PNG's file name.
        """
        from shared.figures import save_figure  # matplotlib takes a while to load

        save_figure(figure, self.folder / name, pdf=bool(self.config.get("pdf")))
        return f"{name}.png"

    def finish(
        self,
        *,
        epochs: int,
        metrics: Mapping[str, float | None],
        figure: str | None = None,
    ) -> dict[str, Any]:
        """Write result.json and print it as a table; arguments as in `Result`.

        Returns:
            The content of result.json.
        """
        result = Result(
            experiment=self.experiment,
            paper=self.paper,
            figure=figure,
            dataset=self.dataset,
            seed=self.config["seed"],
            epochs=epochs,
            device=self._one_after_the_other("device"),
            processor=self._one_after_the_other("processor"),
            threads=threads(),
            processes=parallel.processes(),
            seconds=round(self.seconds, 2),
            cpu_seconds=round(self.cpu_seconds, 2),
            peak_memory_mb=round(peak_memory_mb(), 1),
            metrics=metrics,
            published=self.published,
            options={
                name: value for name, value in self.config.items() if name not in NOT_COMPARED
            },
            data=self.data,
            command=repeatable_command(sys.argv, self.config.get("seed")),
            commit=self._commit,
            versions=versions(),
        )
        content = dataclasses.asdict(result)
        self._write(self._result_path, (json.dumps(content, indent=1) + "\n").encode())
        shutil.rmtree(self._replaced, ignore_errors=True)
        print_table(content)
        return content

    def _one_after_the_other(self, name: str) -> str:
        """What the parts of the run were on, each named once in a row."""
        values = [part[name] for part in self._parts]
        return ", then ".join(v for i, v in enumerate(values) if i == 0 or v != values[i - 1])


class Follower(Run):
    """The run of a process that is not the first of several: its folder is the first one's.

    It writes nothing, and what is to be read the first process tells it. Arguments are those of
    `Run`.
    """

    def __enter__(self) -> Self:
        """Begin to count time; the folder is the first process's."""
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: the folder is the first process's."""

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Nothing; the first process's checkpoint is this one's too."""

    def log(self, epoch: int, metrics: Mapping[str, float], *, show: bool = True) -> None:
        """Nothing; the first process records and prints."""


def _without_length(experiment: str) -> str:
    """An experiment's name without the number of epochs, by which a run may grow."""
    return re.sub(r"_\d+-epochs(?=$|_quick$)", "", experiment)


def _described(data: Mapping[str, Any] | None) -> str:
    """A fingerprint in words."""
    if data is None:
        return "data that are not told"
    return f"{data['name']} ({data['samples']} samples, checksum {data['checksum']})"


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Show a bar on a terminal; elsewhere a run's one line per epoch is enough."""
    is_terminal = parallel.is_first() and sys.stderr is not None and sys.stderr.isatty()
    return iter(tqdm(items, total=total, desc=what, leave=False, disable=not is_terminal))
