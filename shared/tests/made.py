"""What the tests of data sets share: files that are made, a mirror on this machine, assertions.

Tests of real files use those below SNN_DATA (or ../shared/data beside the checkout); where there
are none, the same tests run on files that are made.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import socket
import subprocess
import sys
import textwrap
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from shared import datasets
from shared.datasets import _files

CHECKOUT = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get("SNN_DATA") or CHECKOUT.parent / "shared" / "data")
PARTS = {"train": 40, "t10k": 20}


def has_real(archive: _files.Archive) -> bool:
    folder = REAL / archive.folder
    return all(
        any((folder / file).is_file() for file in archive.variants(name)) for name in archive.files
    )


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(root: Path, files: dict[str, bytes], folder: str = "MNIST/raw") -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / folder / name).write_bytes(content)
    return root


def listing(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in [root, *root.rglob("*")]
    }


def flip(path: Path, position: int = -20) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def assert_small_set(loaded: datasets.Dataset) -> None:
    assert loaded.name == "mnist"
    assert loaded.n_classes == 10
    assert [len(loaded.train), len(loaded.validation), len(loaded.test)] == [36, 4, 20]
    for part in (loaded.train, loaded.validation, loaded.test):
        assert part.inputs.shape == (len(part), 1, 28, 28)
        assert part.inputs.dtype == np.uint8
        assert part.labels.dtype == np.int64
        assert (part.inputs == part.labels[:, None, None, None]).all()


def run_python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run lines in an interpreter of their own."""
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Mirror:
    """A mirror on this machine; ``cut`` names a file of which it sends one half."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.cut = ""
        self.then_wait = threading.Event()
        self.then_wait.set()
        mirror = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                mirror.requests.append(name)
                if name != mirror.cut:
                    super().do_GET()
                    return
                content = (mirror.folder / name).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                mirror.then_wait.wait(60)

        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.then_wait.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def assert_one_sentence(refusal: pytest.ExceptionInfo[Exception], words: str) -> None:
    """The message holds the words, and is one line."""
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def assert_says_what_to_do(message: str, looked_at: Path, tried: str) -> None:
    """A missing set's sentence names the place, what was tried, and the two ways out."""
    assert str(looked_at) in message
    assert tried in message
    assert "datasets/README.md" in message
    assert "--data-root or SNN_DATA" in message
    assert "\n" not in message


def put_tree(root: Path, files: dict[str, bytes], folder: str = "") -> Path:
    """Files whose names may have folders."""
    for name, content in files.items():
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def zip_of(files: dict[str, bytes]) -> bytes:
    """A zip archive of files, and of one that macOS left."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("__MACOSX/images_background/._x.png", b"")
    return memory.getvalue()


def encoded(*events: tuple[int, int, int, int]) -> bytes:
    """Content of a file of events (x, y, polarity, time)."""
    return b"".join(
        bytes([x, y, polarity << 7 | time >> 16, time >> 8 & 255, time & 255])
        for x, y, polarity, time in events
    )


def digit(label: int, number: int) -> bytes:
    """A recording that tells its label and number."""
    return encoded((label, number % 30, number % 2, 10), (label, 31, 1, 300_000))
