"""How well a code is read out, such as that of NETtalk's phonemes and stresses.

Source of the measure "nearest": Sejnowski and Rosenberg, Complex Systems 1 (1987), "best guess".
"""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

# Rates over the same steps often lie at the same angle to two words: what rounding makes of that
# must not decide.
TIE = 1e-6


def code_scores(
    outputs: Float[Tensor, "n bits"],
    targets: Float[Tensor, "n bits"],
    codes: Float[Tensor, "words bits"],
) -> dict[str, float]:
    """Shares of right bits and of right words.

    Args:
        outputs: readouts in [0, 1]; above 0.5 a bit is read as 1.
        targets: the right words, zeros and ones, each one of ``codes``.
        codes: the words of the code, zeros and ones, each once.

    Returns:
        "accuracy", the share of bits that are right; "accuracy_exact", that of samples whose bits
        are all right; "accuracy_nearest", that of samples whose readout is at a smaller angle to
        the right word than to every other. A tie is not right, nor is a readout of zeros.
    """
    right = (outputs > 0.5) == (targets > 0.5)
    return {
        "accuracy": _share(right),
        "accuracy_exact": _share(right.all(1)),
        "accuracy_nearest": _share(_nearest(outputs, targets, codes)),
    }


def _share(right: Bool[Tensor, "..."]) -> float:
    return int(right.sum()) / right.numel()


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
