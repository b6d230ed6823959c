"""What a sequence of tasks leaves: accuracies, backward transfer and forgetting.

Of the accuracy a[i, k] on task k after task i, of n tasks:

    backward transfer   mean over k < n - 1 of a[n-1, k] - a[k, k]
                        (Lopez-Paz and Ranzato, Gradient episodic memory, 2017)
    forgetting of k     max over k <= i < n - 1 of a[i, k], less a[n-1, k]; its mean over k < n - 1
                        (Chaudhry et al., Riemannian walk for incremental learning, 2018)
"""

import numpy as np
from jaxtyping import Float

Matrix = Float[np.ndarray, "tasks tasks"]


def mean_accuracies(matrix: Matrix) -> Float[np.ndarray, " tasks"]:
    """After each task, the mean accuracy over the tasks seen so far.

    Args:
        matrix: a[i, k], NaN where task k came later than i.
    """
    means: Float[np.ndarray, " tasks"] = np.nanmean(matrix, axis=1)
    return means


def backward_transfer(matrix: Matrix) -> float | None:
    """How much later tasks changed the accuracy of earlier ones; None for a single task."""
    if len(matrix) < 2:
        return None
    return float(np.mean(matrix[-1, :-1] - np.diagonal(matrix)[:-1]))


def forgetting(matrix: Matrix) -> Float[np.ndarray, " earlier"]:
    """What each task but the last has lost of its best accuracy; empty for a single task."""
    lost: Float[np.ndarray, " earlier"] = np.array(
        [matrix[k:-1, k].max() - matrix[-1, k] for k in range(len(matrix) - 1)]
    )
    return lost
