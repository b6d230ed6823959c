"""NETtalk, and how well a code such as that of its phonemes and stresses is read out.

    python brp_snn/nettalk.py               shows the samples of the training part, one by one
    python brp_snn/nettalk.py --mat FILE    of that nettalk_small.mat

Sources: of the measure "nearest" Sejnowski and Rosenberg, Complex Systems 1 (1987), "best guess";
of "cosine" a program of BRP's authors, https://github.com/thomasaimondy/SBP.
"""

import shared.waiting

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from shared.datasets import load_nettalk
from shared.errors import check_word
from shared.experiment import Positive, paper, parse
from shared.options import script

# Rates over the same steps often lie at the same angle to two words: what rounding makes of that
# must not decide.
TIE = 1e-6
FAINT = 0.05  # a readout that stays below it says nothing


def code_scores(
    outputs: Float[Tensor, "n bits"],
    targets: Float[Tensor, "n bits"],
    codes: Float[Tensor, "words bits"],
) -> dict[str, float]:
    """Shares of right bits and of right words, and how near readouts are to their words.

    Args:
        outputs: readouts in [0, 1]; above 0.5 a bit is read as 1.
        targets: the right words, zeros and ones, each one of ``codes``.
        codes: the words of the code, zeros and ones, each once.

    Returns:
        "accuracy", the share of bits that are right; "accuracy_exact", that of samples whose bits
        are all right; "accuracy_nearest", that of samples whose readout is at a smaller angle to
        the right word than to every other, where a tie is not right, nor is a readout of zeros;
        "cosine", the mean cosine of the angle between readout and right word, 0 for a readout all
        below 0.05.
    """
    right = (outputs > 0.5) == (targets > 0.5)
    return {
        "accuracy": _share(right),
        "accuracy_exact": _share(right.all(1)),
        "accuracy_nearest": _share(_nearest(outputs, targets, codes)),
        "cosine": _cosine(outputs, targets),
    }


def _share(right: Bool[Tensor, "..."]) -> float:
    return int(right.sum()) / right.numel()


def _cosine(outputs: Float[Tensor, "n bits"], targets: Float[Tensor, "n bits"]) -> float:
    found = functional.cosine_similarity(outputs, targets)
    return float(found.masked_fill(outputs.amax(1) < FAINT, 0).mean())


def _nearest(
    outputs: Float[Tensor, "n bits"],
    targets: Float[Tensor, "n bits"],
    codes: Float[Tensor, "words bits"],
) -> Bool[Tensor, "n"]:
    own = _cosines(targets, codes) > 1 - TIE  # different words of 26 bits are 11 degrees apart
    found = _cosines(outputs, codes)
    others = found.masked_fill(own, 0).amax(1)
    return (found * own).sum(1) > others + TIE


def _cosines(
    outputs: Float[Tensor, "n bits"], codes: Float[Tensor, "words bits"]
) -> Float[Tensor, "n words"]:
    return functional.normalize(outputs) @ functional.normalize(codes).T


class Nettalk(Dataset[tuple[UInt8[Tensor, "189"], UInt8[Tensor, "26"]]]):
    """A part of nettalk_small.mat, by the published name.

    Args:
        train_or_test: "train" or "test".
        transform: accepted for the published call's sake; samples are tensors already.
        target_transform: likewise.
        path: the file, else that of the data root.

    Attributes:
        x_values: seven letters of 27 bits each, uint8 [n, 189].
        y_values: code of the pronunciation, uint8 [n, 26].

    Raises:
        DatasetError: the file is not there, or in another format.
        ValueError: there is no such part.
    """

    def __init__(
        self,
        train_or_test: str,
        transform: Any = None,
        target_transform: Any = None,
        *,
        path: Path | None = None,
    ) -> None:
        check_word("part", train_or_test, ("train", "test"))
        found = load_nettalk(path)
        self.x_values = torch.from_numpy(getattr(found, f"{train_or_test}_inputs"))
        self.y_values = torch.from_numpy(getattr(found, f"{train_or_test}_targets"))

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "189"], UInt8[Tensor, "26"]]:
        """Letters and code of a sample."""
        return self.x_values[index], self.y_values[index]

    def __len__(self) -> int:
        return len(self.x_values)


@dataclass(frozen=True)
class Options:
    """The options."""

    mat: Path | None = None
    """nettalk_small.mat; without it that of the data root."""
    batch_size: Annotated[Positive[int], paper(1)] = 1
    """Samples at once."""


def main() -> None:
    """Show the samples of the training part in random order."""
    options = parse(Options, __doc__)
    part = Nettalk("train", path=options.mat)
    for letters, code in DataLoader(part, options.batch_size, shuffle=True):
        print(letters)
        print(code)


if __name__ == "__main__":
    script(main)
