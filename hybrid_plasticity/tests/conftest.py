"""What the tests of the scripts share: running one as a user does, and looking at what it wrote."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "hybrid_plasticity"
NO_NETWORK = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


class Scripts:
    """Runs this paper's scripts."""

    def command(self, script: str, *options: str | Path) -> list[str]:
        return [sys.executable, str(FOLDER / script), *map(str, options)]

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
        self, script: str, *options: str | Path, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(script, *options),
            capture_output=True,
            text=True,
            timeout=500,
            env=self.environment(**changes),
        )

    def kill_after_a_checkpoint(self, folder: Path, script: str, *options: str | Path) -> None:
        """Kill -9 a run as soon as its first checkpoint is there."""
        self._until(lambda: (folder / "checkpoint.pt").exists(), script, *options, "--out", folder)

    def _until(self, reached: Callable[[], bool], script: str, *options: str | Path) -> None:
        with subprocess.Popen(
            self.command(script, *options), stdout=subprocess.DEVNULL, env=self.environment()
        ) as process:
            deadline = time.monotonic() + 300
            while not reached():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.kill()

    def result(self, folder: Path) -> dict[str, object]:
        return json.loads((folder / "result.json").read_text())

    def state(self, folder: Path) -> dict[str, object]:
        return torch.load(folder / "checkpoint.pt", weights_only=True)["state"]

    def assert_refused(self, done: subprocess.CompletedProcess[str], words: str) -> None:
        """Exit code 2 and one sentence that holds the words."""
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1 or "usage:" in done.stderr

    def assert_same(self, one: object, other: object) -> None:
        """Equal to the bit, through dicts and lists of tensors."""
        if isinstance(one, dict):
            assert one.keys() == other.keys()
            for key in one:
                self.assert_same(one[key], other[key])
        elif isinstance(one, list | tuple):
            assert len(one) == len(other)
            for a, b in zip(one, other, strict=True):
                self.assert_same(a, b)
        elif isinstance(one, torch.Tensor):
            assert torch.equal(one, other)
        else:
            assert one == other

    def assert_finished(self, folder: Path, experiment: str, figures: list[str]) -> None:
        """A result of that name with figures, a line an epoch, and accuracies that are shares."""
        result = self.result(folder)
        assert result["paper"] == "hybrid_plasticity"
        assert result["experiment"] == experiment
        assert (folder / result["figure"]).exists()
        for figure in figures:
            assert (folder / f"{figure}.png").stat().st_size > 5000
            assert (folder / f"{figure}.pdf").stat().st_size > 2000
        for name, value in result["metrics"].items():
            if "accuracy" in name and value is not None:
                assert 0 <= value <= 1, name


@pytest.fixture(scope="session")
def scripts() -> Scripts:
    return Scripts()


@pytest.fixture(scope="session")
def has_fashion_mnist() -> bool:
    root = Path(os.environ.get("SNN_DATA") or ROOT / "datasets")
    return (root / "FashionMNIST" / "raw").is_dir()
