"""What the papers' tests share: running a script as a user does, and looking at what it wrote."""

import shared.waiting

import ast
import contextlib
import functools
import importlib
import inspect
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from shared.options import script
from shared.run import read_checkpoint

ROOT = Path(__file__).resolve().parent
# Port 9 refuses connections at once: no network, without waiting for one.
NO_NETWORK = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


def value_of(words: str, module: ModuleType) -> Any:
    """A default as `published.toml` gives it: a name of the module, else a literal."""
    return vars(module)[words] if words in vars(module) else ast.literal_eval(words)


class Scripts:
    """Runs the scripts of a paper and looks at the folders of their runs.

    Args:
        folder: the paper's folder, whose name is the paper's; scripts are named from there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paper = folder.name

    # -- running

    def command(self, script: str | Path, *options: object) -> list[str]:
        return [sys.executable, str(self.folder / script), *map(str, options)]

    def environment(self, **changes: str) -> dict[str, str]:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            "MPLBACKEND": "agg",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONDONTWRITEBYTECODE": "",  # compiling torch's sources at every start takes 20 s
            "OMP_NUM_THREADS": "1",  # threads that wait for a busy core hold small networks up
            **changes,
        }

    def run(
        self, script: str | Path, *options: object, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a script to its end; keywords change its environment."""
        return subprocess.run(
            self.command(script, *options),
            capture_output=True,
            text=True,
            timeout=500,
            env=self.environment(**changes),
        )

    def call(self, main: Callable[[], None], *options: object) -> subprocess.CompletedProcess[str]:
        """Run a script's main in this process, which takes no time for imports."""
        command = ["script", *map(str, options)]
        out, err, before = io.StringIO(), io.StringIO(), sys.argv
        sys.argv = command
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as ended,
            ):
                script(main)
        finally:
            sys.argv = before
            if "torch" in sys.modules:  # scripts flush; hypothesis wants numbers that small
                sys.modules["torch"].set_flush_denormal(False)
        code = int(ended.value.code or 0)
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

    def run_or_call(
        self, main: Callable[[], None] | None, script: str | Path, *options: object
    ) -> subprocess.CompletedProcess[str]:
        """Run a script, or its main in this process where that is given."""
        return self.run(script, *options) if main is None else self.call(main, *options)

    def run_offline(self, script: str | Path, *options: object) -> subprocess.CompletedProcess[str]:
        return self.run(script, *options, **NO_NETWORK)

    def stopped_run(
        self,
        folder: Path,
        number: signal.Signals,
        script: str | Path,
        *options: object,
        behind: str = "checkpoint.previous.pt",
    ) -> tuple[int, str]:
        """Send a run a signal while it trains on behind a checkpoint, by default its second.

        Args:
            folder: of the run, its --out.
            number: the signal.
            script: the script.
            options: its options but --out.
            behind: the signal is sent as soon as this file is there.

        Returns:
            Exit code and what it wrote to standard error.
        """
        # A test run in the background of a shell ignores Ctrl-C, and its children would too; what
        # is handled here is the system's default there. A `preexec_fn` would fork python as it is,
        # which JAX warns of.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen(
                self.command(script, *options, "--out", folder),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=self.environment(),
            )
        finally:
            signal.signal(signal.SIGINT, before)
        with process:
            try:
                deadline = time.monotonic() + 300
                while not (folder / behind).exists():
                    assert process.poll() is None, process.communicate()[1]
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                process.send_signal(number)
                _, words = process.communicate(timeout=60)
            finally:
                process.kill()  # where an assertion failed it would run on
        return process.returncode, words

    def data_root(self) -> Path:
        """Where data sets that may not be committed lie, if they do."""
        return Path(os.environ.get("SNN_DATA") or ROOT.parent / "shared" / "data")

    # -- what a run wrote

    def result(self, folder: Path) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return result

    def rows(self, folder: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

    def state(self, folder: Path) -> dict[str, Any]:
        state: dict[str, Any] = read_checkpoint(folder / "checkpoint.pt")["state"]
        return state

    # -- assertions

    def assert_published_names(self) -> None:
        """Every name that `tests/published.toml` lists is there, or stands in docs/deviations.md.

        The list has a table `[[file]]` for each file of the published program: `path` below the
        paper's folder; `names` to import from it, with dots for attributes of classes; `calls`,
        which are names with the parameters that they must take, `forward(bs, z_in, dv=1)`, and
        their defaults where they are given; `options` that its command line must know. Where there
        is `star`, `from module import *` must give these names and those of `names` and `calls`.
        `absent` is what is not here, each with the words by which docs/deviations.md explains it. A
        file that is absent itself has `absent_file` words.
        """
        listed = tomllib.loads((self.folder / "tests/published.toml").read_text())
        deviations = " ".join((ROOT / "docs/deviations.md").read_text().split())
        assert listed["file"]
        for file in listed["file"]:
            if "absent_file" in file:
                assert file["absent_file"] in deviations, file["path"]
                continue
            path = self.folder / file["path"]
            assert path.exists(), f"{path} is published and missing"
            for name, words in file.get("absent", {}).items():
                assert words in deviations, f"{file['path']}: {name} is not explained"
            if path.suffix != ".py":
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = importlib.import_module(".".join(parts))
            for name in file.get("names", []):
                functools.reduce(getattr, name.split("."), module)
            for call in file.get("calls", []):
                name, _, parameters = call.rstrip(")").partition("(")
                taken = inspect.signature(functools.reduce(getattr, name.split("."), module))
                for word in filter(None, map(str.strip, parameters.split(","))):
                    wanted, _, default = word.partition("=")
                    assert wanted in taken.parameters, f"{file['path']}: {name} takes no {wanted}"
                    if default:
                        found = taken.parameters[wanted].default
                        assert found == value_of(default, module), f"{file['path']}: {name}, {word}"
            if "star" in file:
                given: dict[str, Any] = {}
                exec(f"from {module.__name__} import *", given)
                listed_names = [*file["star"], *file.get("names", []), *file.get("calls", [])]
                heads = {re.split(r"\W", name)[0] for name in listed_names}
                missing = heads - set(given)
                assert not missing, f"{file['path']}: import * does not give {sorted(missing)}"
            if options := file.get("options"):
                # Its own start is what takes the time: where it can be, it is called here.
                own = getattr(module, "EXPERIMENT", None)
                main = getattr(module, "main", own and own.parse)
                done = self.run_or_call(main, file["path"], "--help")
                known = set(done.stdout.replace(",", " ").split())
                # tyro takes "_" and "-" for the same, and shows "-".
                missing = {x for x in options if not {x, x.replace("_", "-")} & known}
                assert not missing, f"{file['path']} knows no {sorted(missing)}"

    def assert_finished(self, folder: Path, figures: list[str]) -> dict[str, Any]:
        """A result with figures, numbered epochs, and accuracies that are shares.

        Returns:
            The result.
        """
        result = self.result(folder)
        assert result["paper"] == self.paper
        assert (folder / result["figure"]).exists()
        for figure in figures:
            assert (folder / f"{figure}.png").stat().st_size > 5000
        for name, value in result["metrics"].items():
            if "accuracy" in name and value is not None:
                assert 0 <= value <= 1, name
        rows = self.rows(folder)
        assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
        return result

    def assert_refused(self, done: subprocess.CompletedProcess[str], words: str) -> None:
        """Exit code 2 and one sentence that holds the words."""
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1 or done.stderr.startswith("usage:")

    def has_data(self, place: str) -> bool:
        """Whether a file or folder is there below the data folder that scripts look into."""
        return (Path(os.environ.get("SNN_DATA") or ROOT / "datasets") / place).exists()

    def has_ended(self, done: subprocess.CompletedProcess[str], name: str, place: str) -> bool:
        """Whether a run ended well; one whose data are nowhere must have been refused.

        Args:
            done: the run.
            name: of the data set, as the refusal says it.
            place: of its files, below the data folder; only where it is missing may the run fail.
        """
        if done.returncode and not self.has_data(place):
            self.assert_refused(done, f"{name} was not found")
            return False
        assert done.returncode == 0, done.stderr
        return True

    def assert_same(self, one: Any, other: Any) -> None:
        """Equal to the bit, through dicts and lists of tensors or arrays."""
        assert type(one) is type(other)
        if isinstance(one, dict):
            assert one.keys() == other.keys()
            for key in one:
                self.assert_same(one[key], other[key])
        elif isinstance(one, list | tuple):
            assert len(one) == len(other)
            for a, b in zip(one, other, strict=True):
                self.assert_same(a, b)
        elif hasattr(one, "__array__"):
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other

    def assert_same_run(self, folder: Path, other: Path) -> None:
        """Runs with equal last checkpoints and metrics, those of every epoch to the byte."""
        self.assert_same(self.state(folder), self.state(other))
        rows = [(path / "metrics.jsonl").read_bytes() for path in (folder, other)]
        assert rows[0] == rows[1]
        assert self.result(folder)["metrics"] == self.result(other)["metrics"]

    def assert_goes_on(
        self,
        undisturbed: Path,
        folder: Path,
        number: signal.Signals,
        script: str | Path,
        *options: object,
        behind: str = "checkpoint.previous.pt",
        main: Callable[[], None] | None = None,
    ) -> None:
        """A run that a signal stopped ends, given again, as the undisturbed one did.

        Args:
            undisturbed: folder of the run of that script and those options.
            folder: where to do it again.
            number, script, options, behind: as in `stopped_run`.
            main: as in `run_or_call`, of the part that goes on.
        """
        code, words = self.stopped_run(folder, number, script, *options, behind=behind)
        if number == signal.SIGINT:
            assert code == 130, words
            assert "the same command goes on from the last checkpoint" in words
        else:
            assert code == -number, words
        assert not (folder / "result.json").exists()
        done = self.run_or_call(main, script, *options, "--out", folder)
        assert done.returncode == 0, done.stderr
        self.assert_same_run(folder, undisturbed)

    def assert_seed_decides(
        self,
        undisturbed: Path,
        folder: Path,
        weights: str,
        script: str | Path,
        *options: object,
        main: Callable[[], None] | None = None,
    ) -> None:
        """Seed 0 gives the undisturbed run's bytes, seed 1 other weights of that name."""
        states = []
        for seed in (0, 1):
            out = folder / f"seed{seed}"
            done = self.run_or_call(main, script, *options, "--seed", seed, "--out", out)
            assert done.returncode == 0, done.stderr
            states.append(self.state(out))
        before = self.state(undisturbed)
        self.assert_same(states[0], before)
        assert not np.array_equal(states[1]["network"][weights], before["network"][weights])


@pytest.fixture(autouse=True)
def _small_numbers() -> None:
    """Programs flush numbers too small for a normal float; hypothesis wants numbers that small."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def compiled_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """What JAX compiles for a test, script or notebook is there for the next, and for later tests.

    With a limit JAX locks the folder, so that no process reads what another still writes; then
    all that write to it must have the limit, for the least recently used are found by files that
    only a limited cache writes.
    """
    import jax  # which tests of the other papers do not wait for

    limited = {
        "jax_compilation_cache_dir": str(request.config.cache.mkdir("compiled")),
        "jax_compilation_cache_max_size": 300_000_000,  # bytes
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: getattr(jax.config, name) for name in limited}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limited.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No network for what runs in this process."""
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    # urllib keeps the proxies of its first request: they shall be these, and not stay.
    urllib.request.install_opener(None)
    yield
    urllib.request.install_opener(None)


@pytest.fixture(scope="session")
def scripts_of() -> Callable[[str], Scripts]:
    """The scripts of a paper, by the name of its folder."""
    return lambda paper: Scripts(ROOT / paper)


@pytest.fixture(scope="module")
def undisturbed(
    request: pytest.FixtureRequest, scripts: Scripts, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of a run to its end of the script and options that the test's file calls REPEATED."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = scripts.run(*request.module.REPEATED, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def on_two_processes() -> Callable[..., None]:
    """Runs a program as torchrun runs its two processes, without torchrun's own start.

    Takes the program's path and its arguments; the processes are told apart by RANK.
    """

    def run(program: str, *words: object) -> None:
        port = str(_free_port())
        command = [sys.executable, program, *map(str, words)]
        environment = Scripts(ROOT).environment(
            WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port
        )
        with contextlib.ExitStack() as stack:
            started = [
                stack.enter_context(
                    subprocess.Popen(
                        command,
                        env={**environment, "RANK": rank, "LOCAL_RANK": rank},
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                    )
                )
                for rank in "01"
            ]
            try:
                said = [process.communicate(timeout=200)[0] for process in started]
            finally:
                for process in started:
                    process.kill()  # where one failed, the other would wait for it
        assert [process.returncode for process in started] == [0, 0], "\n".join(said)

    return run


@pytest.fixture(scope="session")
def assert_keeps_one_thread() -> Callable[[str], None]:
    """Asserts that torch, told to use one thread, still does so behind lines that run a kernel.

    In a process of its own: the first kernel starts numba's threads.
    """

    def check(lines: str) -> None:
        program = f"import torch\ntorch.set_num_threads(1)\n{lines}\nprint(torch.get_num_threads())"
        environment = {**os.environ, "NUMBA_NUM_THREADS": str(min(2, os.cpu_count() or 1))}
        environment.pop("OMP_NUM_THREADS", None)
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == "1", done.stderr

    return check


@pytest.fixture(scope="session")
def interpret() -> Callable[[str], None]:
    """Runs a file of tests in Triton's interpreter, which needs no GPU; all must pass.

    The interpreter has to be chosen before Triton is imported: a process of its own does.
    """

    def run(file: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
            cwd=ROOT,
            env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert " passed" in done.stdout
        assert "skipped" not in done.stdout

    return run


@pytest.fixture(scope="session")
def compile_for_hopper() -> Callable[..., Any]:
    """Compiles a Triton kernel for compute capability 9.0: the compiler sees more than a run does.

    Takes the kernel, its arguments, its constants by name and compiler options by name.
    """

    def compiled(
        kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any], **options: Any
    ) -> Any:
        import torch
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource, compile

        short = {
            torch.float32: "*fp32",
            torch.float64: "*fp64",
            torch.int32: "*i32",
            torch.int64: "*i64",
        }
        named = dict(zip(kernel.arg_names, arguments, strict=False))
        assert kernel.arg_names == [*named, *constants]
        # A launch would compile again for sizes that are 1 or multiples of 16.
        assert all(x.do_not_specialize for x in kernel.params if x.name in named)
        signature = {
            k: short[x.dtype] if isinstance(x, torch.Tensor) else "i32" for k, x in named.items()
        } | dict.fromkeys(constants, "constexpr")
        made = compile(
            ASTSource(kernel, signature, constants),
            target=GPUTarget("cuda", 90, 32),
            options=options,
        )
        assert made.asm["cubin"]
        return made

    return compiled
