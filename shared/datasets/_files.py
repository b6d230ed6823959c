"""Finds the files of a data set, checks them, and fetches missing ones.

A file is used only if its SHA-256, or the MD5 where its source publishes no other, is the published
one. The check is made on the very bytes that are parsed, so nothing can change in between; it costs
a few hundredths of a second.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import queue
import socket
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from shared.datasets._types import DatasetError, DatasetMissingError

ENVIRONMENT_VARIABLE = "SNN_DATA"

# A host that has not answered by then counts as unreachable.
PROBE_SECONDS = 5.0
# A connection that has gone quiet for so long counts as broken.
STALL_SECONDS = 15.0


@dataclass(frozen=True)
class Archive:
    """The files of a data set.

    Attributes:
        title: the set's name in messages.
        folder: where the files lie below the data root.
        files: name of each file, as published, and its SHA-256, or its MD5 where nobody publishes
            more than that.
        unpacked: SHA-256 of what is in each ``.gz``, by the name without ``.gz``; a file may lie
            packed, unpacked or both.
        mirrors: addresses of folders that hold the files, best first.
        bundle: address of a .tar.gz that holds all files, for a set without mirrors; with neither,
            no download is offered.

    """

    title: str
    folder: str
    files: Mapping[str, str]
    unpacked: Mapping[str, str] = field(default_factory=dict)
    mirrors: Sequence[str] = ()
    bundle: str = ""

    def addresses(self, name: str) -> list[str]:
        """Where the file ``name`` can be fetched from, best first."""
        return [self.bundle] if self.bundle else [mirror + name for mirror in self.mirrors]

    def variants(self, name: str) -> dict[str, str]:
        """Names under which the file ``name`` may lie, unpacked first, with their SHA-256."""
        plain = name.removesuffix(".gz")
        packed = {name: self.files[name]}
        return {plain: self.unpacked[plain], **packed} if plain in self.unpacked else packed


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of all data sets: ``root``, else SNN_DATA, else ``datasets`` of the checkout."""
    chosen = root or os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return Path(os.path.expanduser(chosen))
    checkout = Path(__file__).resolve().parents[2]
    # Installed without its checkout there is no such folder: use the one in the working folder.
    return (checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()) / "datasets"


def read(archive: Archive, root: Path, *, download: bool) -> dict[str, bytes]:
    """Content of every file of a set, unpacked, by its name without ``.gz``.

    Raises:
        DatasetMissingError: a file is absent and could not be fetched.
        DatasetError: a file that is there is damaged or unreadable.

    """
    folder = root / archive.folder
    there = [name for name in archive.files if _present(archive, folder, name)]
    # Checked before anything is fetched: a damaged file must not pass for a missing set.
    contents = {name: _content(archive, folder, name) for name in there}
    missing = [name for name in archive.files if name not in contents]
    if missing:
        fetch(archive, root, missing, download=download)
        contents.update({name: _content(archive, folder, name) for name in missing})
    # In the archive's order, whichever of them were there.
    return {name.removesuffix(".gz"): contents[name] for name in archive.files}


def is_there(path: Path) -> bool:
    """Whether a file or folder is there, by itself or through symbolic links.

    Raises:
        DatasetError: a link leads nowhere, or a folder may not be entered: whether the set is there
            cannot be told, so that it is not *missing*, and nothing may stand in for it.

    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        for link in (path, *path.parents):
            if os.path.islink(link) and not os.path.exists(link):
                raise DatasetError(
                    f"{link} is a symbolic link to {os.readlink(link)}, which is not there: mend "
                    "or delete the link."
                ) from None
        return False
    except OSError as error:
        raise DatasetError(f"{path} cannot be looked at: {error.strerror or error}.") from error
    return True


def is_visible(name: str) -> bool:
    """Whether a file belongs to a set: no part of its path begins with a dot or is __MACOSX.

    macOS leaves files ._NAME beside others, notebooks a folder .ipynb_checkpoints.
    """
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def names_below(folder: Path) -> list[str]:
    """Names of all visible files and folders below a folder, sorted, with slashes.

    Folders that are symbolic links are gone into, each but once; a folder that is not there has no
    names.

    Raises:
        DatasetError: a folder cannot be read.

    """

    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename} cannot be read: {error.strerror or error}.")

    if not is_there(folder):
        return []
    found: list[str] = []
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        if os.path.realpath(parent) in seen:  # a link to a folder above would never end
            folders.clear()
            continue
        seen.add(os.path.realpath(parent))
        folders[:] = sorted(filter(is_visible, folders))
        here = Path(parent).relative_to(folder)
        found += [(here / name).as_posix() for name in (*folders, *files) if is_visible(name)]
    return sorted(found)


def check_md5(path: Path, published: str) -> None:
    """Refuse a file that is too large to be kept in memory by its checksum.

    Raises:
        DatasetError: it cannot be read, or its MD5 is not the published one.

    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}.") from error
    if digest.hexdigest() != published:
        raise DatasetError(
            f"{path} is damaged (its MD5 is {digest.hexdigest()}, the published one {published}): "
            "put a good copy in its place."
        )


def read_bytes(path: Path) -> bytes:
    """Content of a file.

    Raises:
        DatasetError: it cannot be read.

    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_checked(archive: Archive, path: Path, published: str) -> bytes:
    """Content of a file of a set, whose checksum must be the published one (SHA-256 or MD5).

    Raises:
        DatasetError: it cannot be read, or has another checksum.

    """
    content = read_bytes(path)
    kind, found = _checksum(content, published)
    if found != published:
        raise _damaged(archive, path, f"its {kind} is {found}, the published one {published}")
    return content


def _checksum(content: bytes, published: str) -> tuple[str, str]:
    """Name and value of a content's checksum of the kind that is published."""
    if len(published) == 32:
        return "MD5", hashlib.md5(content, usedforsecurity=False).hexdigest()
    return "SHA-256", hashlib.sha256(content).hexdigest()


def _present(archive: Archive, folder: Path, name: str) -> list[Path]:
    return [folder / file for file in archive.variants(name) if is_there(folder / file)]


def _content(archive: Archive, folder: Path, name: str) -> bytes:
    """Checks every variant of a file that is there and gives the content of the first."""
    contents = []
    for path in _present(archive, folder, name):
        published = archive.variants(name)[path.name]
        contents.append((path, read_checked(archive, path, published)))
    path, content = contents[0]
    return _unpack(archive, path, content) if path.suffix == ".gz" else content


def _unpack(archive: Archive, path: Path, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(archive, path, f"it cannot be unpacked: {error}") from error


def _damaged(archive: Archive, path: Path, how: str) -> DatasetError:
    remedy = "delete it, and it will be fetched again, or " if archive.addresses("") else ""
    return DatasetError(f"{path} is damaged ({how}): {remedy}put a good copy in its place.")


def fetch(archive: Archive, root: Path, missing: Sequence[str], *, download: bool) -> None:
    """Downloads files into a temporary folder below ``root``, checks and then renames them.

    Raises:
        DatasetMissingError: no download is wanted, is offered or succeeds.

    """

    def refusal(tried: str) -> DatasetMissingError:
        nothing = len(missing) == len(archive.files)
        lacks = "has none of its files" if nothing else f"lacks {', '.join(missing)}"
        return DatasetMissingError(
            f"{archive.title} was not found: {root / archive.folder} {lacks}, and {tried}; put "
            "the files that datasets/README.md lists there, or name the data folder that holds "
            f"them with --data-root or {ENVIRONMENT_VARIABLE}.",
            partial=not nothing,
        )

    if not download:
        raise refusal("no download was asked for")
    addresses = archive.addresses(missing[0])
    if not addresses:
        raise refusal("no download is offered")
    answers = probe(addresses)
    alive = [url.removesuffix(missing[0]) for url in addresses if answers[url] == ""]
    if not alive:
        reasons = ", ".join(f"{url} ({why})" for url, why in answers.items())
        raise refusal(f"the download failed from {reasons}")
    try:
        # Imported here and not before: it takes seconds, and what is there can be read without.
        from torchvision.datasets.utils import download_url
    except (ImportError, RuntimeError) as error:  # not installed, or not for this torch
        raise refusal(f"torchvision, which downloads it, cannot be used ({error})") from error
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary:
            if archive.bundle:
                _download_bundle(download_url, archive, missing, Path(temporary))
            else:
                for name in missing:
                    _download(download_url, alive, name, archive.files[name], Path(temporary))
            (root / archive.folder).mkdir(parents=True, exist_ok=True)
            for name in missing:
                # A rename on one file system: the file is there whole, or not at all.
                os.replace(Path(temporary) / name, root / archive.folder / name)
    except OSError as error:
        raise refusal(f"the download from {alive[0]} could not be stored ({error})") from error
    except _DownloadFailedError as error:
        raise refusal(f"the download failed from {error}") from error


class _DownloadFailedError(Exception):
    """Says which address gave what instead of the file."""


def _download(
    download_url: Callable[..., None],
    mirrors: Sequence[str],
    name: str,
    published: str,
    folder: Path,
) -> None:
    """Downloads one file from the first mirror that gives it with the right checksum."""
    reasons = []
    for mirror in mirrors:
        # What a mirror left half-written would be taken for the file.
        (folder / name).unlink(missing_ok=True)
        try:
            with _socket_timeout(STALL_SECONDS):
                download_url(mirror + name, str(folder), filename=name)
        except (OSError, RuntimeError, HTTPException) as error:
            reasons.append(f"{mirror}{name} ({_reason(error)})")
            continue
        if _checksum((folder / name).read_bytes(), published)[1] == published:
            return
        reasons.append(f"{mirror}{name} (what it sent does not have the published checksum)")
    raise _DownloadFailedError(", ".join(reasons))


def _download_bundle(
    download_url: Callable[..., None], archive: Archive, missing: Sequence[str], folder: Path
) -> None:
    """Downloads a set's .tar.gz and takes the files that are missing out of it."""
    packed = folder / "bundle.tar.gz"
    try:
        with _socket_timeout(STALL_SECONDS):
            download_url(archive.bundle, str(folder), filename=packed.name)
        with tarfile.open(packed, "r:gz") as bundle:
            members = {Path(member.name).name: member for member in bundle if member.isfile()}
            for name in missing:
                # Read, not extracted: a member's path, links and rights are never followed.
                file = bundle.extractfile(members[name]) if name in members else None
                content = file.read() if file else b""
                if _checksum(content, archive.files[name])[1] != archive.files[name]:
                    raise _DownloadFailedError(
                        f"{archive.bundle} (its {name} does not have the published checksum)"
                    )
                (folder / name).write_bytes(content)
    except (OSError, RuntimeError, HTTPException, tarfile.TarError, EOFError, zlib.error) as error:
        raise _DownloadFailedError(f"{archive.bundle} ({_reason(error)})") from error


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    # torchvision's download takes no time limit, but its sockets obey the default one.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def probe(urls: Sequence[str]) -> dict[str, str]:
    """Asks for all addresses at once: "" where one answers, else why not.

    A name look-up cannot be interrupted and may hang for minutes where packets are dropped, so
    each address is asked in a daemon thread, which is left behind at the time limit.
    """
    answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def ask(url: str) -> None:
        request = urllib.request.Request(
            url, method="HEAD", headers={"User-Agent": "pytorch/vision"}
        )
        try:
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                answers.put((url, ""))
        except Exception as error:  # whatever it is, the thread must report it
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            answers.put((url, _reason(error)))

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    result = dict.fromkeys(urls, f"no answer within {PROBE_SECONDS:g} s")
    deadline = time.monotonic() + PROBE_SECONDS
    for _ in urls:
        try:
            url, why = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        result[url] = why
    return result


def _reason(error: Exception) -> str:
    # An HTTPError's text holds the status; another URLError's is its reason in angle brackets.
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return str(error) or type(error).__name__
