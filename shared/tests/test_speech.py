"""Spoken digits: the free set from its zip and from a clone, TIDigits from folders, bad files.

Tests of the real set use the zip below SNN_DATA (or ../shared/data beside the checkout); where
there is none, the same test runs on generated recordings.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.io import wavfile

from shared import datasets
from shared.datasets import DatasetError, DatasetMissingError, Speech, _speech
from shared.tests.made import REAL, put_tree

TAKES = 2

pytestmark = pytest.mark.usefixtures("no_environment")


# --- generated recordings -------------------------------------------------------------------


def noise(seed: int, n: int = 500) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(1 << 15), 1 << 15, n).astype(np.int16)


def wav(samples: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    wavfile.write(file, rate, samples)
    return file.getvalue()


def sphere(samples: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="NIST", subtype="PCM_16")
    return file.getvalue()


def fsdd_samples(speaker: int, digit: int, take: int) -> np.ndarray:
    return noise(100 * speaker + 10 * digit + take, 400 + 10 * digit + take)


def fsdd_files() -> dict[str, bytes]:
    """The files of a small set, in a random order."""
    files = {
        f"{digit}_{name}_{take}.wav": wav(fsdd_samples(speaker, digit, take), 8000)
        for speaker, name in enumerate(_speech.FSDD_SPEAKERS)
        for digit in range(10)
        for take in range(TAKES)
    }
    order = np.random.default_rng(0).permutation(list(files))
    return {str(name): files[str(name)] for name in order}


def put_zip(root: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts files into a zip that passes for the published one."""
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / "fsdd.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"recordings/{name}", content)
        archive.writestr("README.md", "words")
    accept(root, monkeypatch)
    return root


def accept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checksum = hashlib.sha256((root / "fsdd.zip").read_bytes()).hexdigest()
    monkeypatch.setattr(_speech, "FSDD", replace(_speech.FSDD, files={"fsdd.zip": checksum}))
    monkeypatch.setattr(_speech, "FSDD_TAKES", TAKES)


def assert_small_set(speech: Speech) -> None:
    assert (speech.name, speech.rate) == ("fsdd", 8000)
    assert len(speech) == len(speech.labels) == len(speech.speakers) == 6 * 10 * TAKES
    assert speech.labels.dtype == np.int64
    index = 0
    for speaker, name in enumerate(_speech.FSDD_SPEAKERS):
        for digit in range(10):
            for take in range(TAKES):
                assert (speech.speakers[index], speech.labels[index]) == (name, digit)
                waveform = speech.waveforms[index]
                assert waveform.dtype == np.float32
                expected = fsdd_samples(speaker, digit, take) / 32768
                np.testing.assert_array_equal(waveform, expected.astype(np.float32))
                index += 1


def assert_sentence(message: str) -> None:
    assert "\n" not in message
    assert message.endswith(".")


# --- the free set ---------------------------------------------------------------------------


def test_zip_and_clone_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = fsdd_files()
    assert_small_set(datasets.load_fsdd(put_zip(tmp_path / "zip", files, monkeypatch)))
    put_tree(tmp_path / "clone" / _speech.FSDD_CLONE, files)
    assert_small_set(datasets.load_fsdd(tmp_path / "clone"))
    monkeypatch.setenv("SNN_DATA", str(tmp_path / "zip"))
    assert_small_set(datasets.load_fsdd())


def test_takes_are_in_the_order_of_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {}
    for name in fsdd_files():
        digit, speaker, take = name.removesuffix(".wav").split("_")
        number = {"0": 9, "1": 10}[take]  # "10" comes before "9" in the order of letters
        samples = noise(0, 500 + number)
        files[f"{digit}_{speaker}_{number}.wav"] = wav(samples, 8000)
    speech = datasets.load_fsdd(put_zip(tmp_path, files, monkeypatch))
    assert [len(waveform) for waveform in speech.waveforms] == [509, 510] * 60


def test_other_files_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = ("._0_george_0.wav", "0_george_0.wav.txt", "0_someone_0.wav", "10_george_0.wav")
    files = fsdd_files() | dict.fromkeys(others, b"anything")
    assert_small_set(datasets.load_fsdd(put_zip(tmp_path, files, monkeypatch)))


def test_a_flipped_byte_of_the_zip_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put_zip(tmp_path, fsdd_files(), monkeypatch) / "fsdd.zip"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    # A clone beside it must not hide the damage.
    put_tree(tmp_path / _speech.FSDD_CLONE, fsdd_files())
    with pytest.raises(DatasetError, match=r"fsdd\.zip is damaged .*: put a good copy") as refusal:
        datasets.load_fsdd(tmp_path)
    assert_sentence(str(refusal.value))


def test_a_zip_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fsdd.zip").write_bytes(b"no zip")
    accept(tmp_path, monkeypatch)
    with pytest.raises(DatasetError, match=r"fsdd\.zip cannot be unpacked"):
        datasets.load_fsdd(tmp_path)


def test_an_incomplete_clone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_speech, "FSDD_TAKES", TAKES)
    put_tree(tmp_path / _speech.FSDD_CLONE, fsdd_files())
    (tmp_path / _speech.FSDD_CLONE / "7_lucas_1.wav").unlink()
    with pytest.raises(DatasetError, match="has 1 recordings of 7 by lucas, not 2") as refusal:
        datasets.load_fsdd(tmp_path)
    assert_sentence(str(refusal.value))


def test_a_missing_set_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError) as refusal:
        datasets.load_fsdd(tmp_path)
    message = str(refusal.value)
    assert_sentence(message)
    for words in (str(tmp_path), "no download is offered", "datasets/README.md", "SNN_DATA"):
        assert words in message


@pytest.mark.parametrize("name", ["fsdd", "tidigits"])
def test_load_points_to_the_function_for_speech(name: str) -> None:
    with pytest.raises(DatasetError, match=rf"use load_{name}\."):
        datasets.load(name)


def test_the_real_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (REAL / "fsdd.zip").is_file():
        assert_small_set(datasets.load_fsdd(put_zip(tmp_path, fsdd_files(), monkeypatch)))
        return
    speech = datasets.load_fsdd(REAL)
    assert (speech.name, speech.rate, len(speech)) == ("fsdd", 8000, 3000)
    counts = Counter(zip(speech.speakers, speech.labels.tolist(), strict=True))
    assert set(counts) == {(name, d) for name in _speech.FSDD_SPEAKERS for d in range(10)}
    assert set(counts.values()) == {50}
    lengths = [len(waveform) for waveform in speech.waveforms]
    assert (min(lengths), max(lengths)) == (1148, 18262)
    peaks = [np.abs(waveform).max() for waveform in speech.waveforms]
    assert 0.01 < min(peaks) < max(peaks) <= 1


# --- bad files ------------------------------------------------------------------------------

GOOD = wav(noise(0), 8000)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no wav file, or cut short"),
        (b"anything", "is no wav file, or cut short"),
        (GOOD[:20], "is no wav file, or cut short"),
        (GOOD[:44], "is no wav file, or cut short"),
        (GOOD[:-400], "is no wav file, or cut short"),
        (GOOD[:-401], "is no wav file, or cut short"),
        (wav(noise(0)[:0], 8000), "lasts 0.000 s, too short for a word"),
        (wav(noise(0)[:300], 8000), "lasts 0.037 s, too short for a word"),
        (wav(np.zeros(500, np.int16), 8000), "holds nothing but silence"),
        (wav(noise(0).reshape(-1, 2), 8000), "has 2 channels of int16: convert it to one channel"),
        (wav(noise(0).astype(np.float32), 8000), "has 1 channels of float32"),
        (wav(noise(0).astype(np.uint8), 8000), "has 1 channels of uint8"),
        (wav(noise(0, 3000), 44100), "is sampled at 44100 Hz, not 8000 Hz: put the original"),
    ],
)
def test_bad_recordings_are_refused_by_name(
    content: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fsdd_files() | {"4_theo_1.wav": content}
    with pytest.raises(DatasetError) as refusal:
        datasets.load_fsdd(put_zip(tmp_path, files, monkeypatch))
    message = str(refusal.value)
    assert message.startswith(f"{tmp_path / 'fsdd.zip' / 'recordings' / '4_theo_1.wav'} {words}")
    assert_sentence(message)


def test_notes_inside_a_file_do_no_harm() -> None:
    note = b"note" + (6).to_bytes(4, "little") + b"hello!"
    size = len(GOOD) - 8 + len(note)
    with_note = GOOD[:4] + size.to_bytes(4, "little") + GOOD[8:36] + note + GOOD[36:]
    expected = (noise(0) / 32768).astype(np.float32)
    np.testing.assert_array_equal(_speech._decode(with_note, "it", 8000), expected)


# --- TIDigits -------------------------------------------------------------------------------


def tidigits_files(kind: str = "wav") -> dict[str, bytes]:
    write = wav if kind == "wav" else sphere
    return {
        "ae/2a_endpt.wav": write(noise(2, 2000), 20_000),
        "ae/za_endpt.wav": write(noise(0, 2001), 20_000),
        "ae/9b_endpt.wav": write(noise(9, 2002), 20_000),
        "ae/9a_endpt.wav": write(noise(8, 2003), 20_000),
        "train/man/bc/1B.WAV": write(noise(1, 2004), 20_000),
        # Not isolated digits, or none at all:
        "ae/oa_endpt.wav": b"oh",
        "ae/12a_endpt.wav": b"one two",
        "ae/z9zb.wav": b"zero nine zero",
        "ae/._2a_endpt.wav": b"left by macOS",
        "ae/2a_endpt.txt": b"words",
        "3a.wav": b"nobody's",
    }


@pytest.mark.parametrize("kind", ["wav", "sphere"])
def test_tidigits_reads_isolated_digits(kind: str, tmp_path: Path) -> None:
    put_tree(tmp_path / "tidigits", tidigits_files(kind))
    speech = datasets.load_tidigits(tmp_path)
    assert (speech.name, speech.rate, len(speech)) == ("tidigits", 20_000, 5)
    assert speech.labels.tolist() == [0, 2, 9, 9, 1]
    assert speech.labels.dtype == np.int64
    assert speech.speakers == ("ae", "ae", "ae", "ae", "train/man/bc")
    sources = [(0, 2001), (2, 2000), (8, 2003), (9, 2002), (1, 2004)]
    for waveform, (seed, n) in zip(speech.waveforms, sources, strict=True):
        assert waveform.dtype == np.float32
        np.testing.assert_array_equal(waveform, (noise(seed, n) / 32768).astype(np.float32))


def compressed(content: bytes) -> bytes:
    """The same with a header that says that the samples are compressed."""
    before = b"sample_coding -s3 pcm\n"
    after = b"sample_coding -s26 pcm,embedded-shorten-v2.00\n"
    assert before in content
    header = content[:1024].replace(before, after)[:1024]
    return header + content[1024:]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (wav(noise(0, 3000), 16_000), "is sampled at 16000 Hz, not 20000 Hz"),
        (sphere(noise(0, 3000), 16_000), "is sampled at 16000 Hz, not 20000 Hz"),
        (sphere(noise(0, 3000).reshape(-1, 2), 20_000), "has 2 channels of int16"),
        (sphere(noise(0, 3000), 20_000)[:-1000], "is cut short (2500 of 3000 samples)"),
        (sphere(noise(0, 3000), 20_000)[:300], "is a NIST SPHERE file that cannot be decoded"),
        (compressed(sphere(noise(0, 3000), 20_000)), "is a NIST SPHERE file that cannot be"),
        (wav(np.zeros(3000, np.int16), 20_000), "holds nothing but silence"),
        (wav(noise(0, 900), 20_000), "lasts 0.045 s, too short for a word"),
        (b"", "is no wav file, or cut short"),
    ],
)
def test_tidigits_refuses_bad_recordings_by_name(
    content: bytes, words: str, tmp_path: Path
) -> None:
    put_tree(tmp_path / "tidigits", tidigits_files() | {"ae/5a.wav": content})
    with pytest.raises(DatasetError) as refusal:
        datasets.load_tidigits(tmp_path)
    message = str(refusal.value)
    assert message.startswith(f"{tmp_path / 'tidigits' / 'ae' / '5a.wav'} {words}")
    assert_sentence(message)


def test_a_compressed_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    put_tree(tmp_path / "tidigits", {"ae/5a.wav": compressed(sphere(noise(0, 3000), 20_000))})
    with pytest.raises(DatasetError, match="convert it by sph2pipe -f wav IN OUT"):
        datasets.load_tidigits(tmp_path)


def test_a_recording_in_two_files_is_refused(tmp_path: Path) -> None:
    files = tidigits_files()
    files["ae/2a.wav"] = files["ae/2a_endpt.wav"]
    put_tree(tmp_path / "tidigits", files)
    with pytest.raises(DatasetError, match=r"twice, ae/2a\.wav and ae/2a_endpt\.wav") as refusal:
        datasets.load_tidigits(tmp_path)
    assert_sentence(str(refusal.value))


@pytest.mark.parametrize("files", [{}, {"3a.wav": b""}, {"ae/oa.wav": b"", "ae/11a.wav": b""}])
def test_missing_tidigits_names_the_free_set(files: dict[str, bytes], tmp_path: Path) -> None:
    put_tree(tmp_path / "tidigits", files)
    with pytest.raises(DatasetMissingError) as refusal:
        datasets.load_tidigits(tmp_path)
    message = str(refusal.value)
    assert_sentence(message)
    assert message.startswith(f"TIDigits was not found: {tmp_path / 'tidigits'} has no files")
    assert "use the free set fsdd" in message


def test_a_folder_in_a_recordings_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tidigits" / "ae" / "1a.wav").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"1a\.wav cannot be read: Is a directory"):
        datasets.load_tidigits(tmp_path)
