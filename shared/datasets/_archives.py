"""Recordings in folders and zip archives, read by name, in any process."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from shared.datasets._files import is_visible, read_bytes
from shared.datasets._types import DatasetError


class Files(Protocol):
    """Where the content of a recording comes from, by what stands for it."""

    def read(self, item: Any) -> bytes:
        """Its content."""

    def title(self, item: Any) -> str:
        """Its place, for messages."""


class Folder:
    """Files below a folder, by their names from there.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, item: str) -> bytes:
        """Content of a file.

        Raises:
            DatasetError: it cannot be read.
        """
        return read_bytes(self.path / item)

    def title(self, item: str) -> str:
        """Path of a file."""
        return f"{self.path / item}"


class Zips:
    """Files in zip archives, by the number of the archive and the name in it.

    Each process opens the archives for itself: forked ones, such as the workers of a loader, would
    share the position in the file, and read what another one has just moved on to.

    Args:
        sources: paths of the archives, or their contents.
        titles: of each archive, for messages.

    Raises:
        DatasetError: one is no zip archive.
    """

    def __init__(self, sources: Sequence[Path | bytes], titles: Sequence[str]) -> None:
        self._sources, self._titles = tuple(sources), tuple(titles)
        self._process = -1  # that has them open
        self._open: tuple[zipfile.ZipFile, ...] = ()
        self.archives()

    def archives(self) -> tuple[zipfile.ZipFile, ...]:
        """The archives as this process has them open.

        Raises:
            DatasetError: one is no zip archive (any more).
        """
        if self._process != os.getpid():
            pairs = zip(self._sources, self._titles, strict=True)
            self._open = tuple(_opened(source, title) for source, title in pairs)
            self._process = os.getpid()
        return self._open

    def items(self) -> list[tuple[int, str]]:
        """All files but those that an operating system left."""
        return [
            (number, name)
            for number, archive in enumerate(self.archives())
            for name in archive.namelist()
            if is_visible(name)
        ]

    def read(self, item: tuple[int, str]) -> bytes:
        """Content of a file.

        Raises:
            DatasetError: it is damaged, encrypted or cannot be read.
        """
        number, name = item
        try:
            return self.archives()[number].read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise DatasetError(
                f"{self.title(item)} cannot be unpacked ({error}): put a good copy of the archive "
                "in its place."
            ) from error

    def title(self, item: tuple[int, str]) -> str:
        """Name of the archive, and name in it."""
        number, name = item
        return f"{self._titles[number]}/{name}"

    def __getstate__(self) -> dict[str, Any]:
        return {"_sources": self._sources, "_titles": self._titles, "_process": -1, "_open": ()}


def _opened(source: Path | bytes, title: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError) as error:
        raise DatasetError(
            f"{title} is damaged ({error}): put a good copy in its place."
        ) from error
