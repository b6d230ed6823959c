"""Checks of what a user hands in, one sentence that says what to do; marks of what is not valid."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from shared.errors import UserError


def check_positive(**values: float) -> None:
    """Refuse parameters that must be numbers above 0.

    Raises:
        UserError: one of the values is not, named by its keyword; or JAX traces it.
    """
    check_known(**values)
    for name, value in values.items():
        if not value > 0:
            raise UserError(f"{name} = {value} must be above 0")


def check_known(**values: float) -> None:
    """Refuse parameters that JAX traces: a compiled simulation is for one value of them.

    Raises:
        UserError: one is traced, named by its keyword.
    """
    for name, value in values.items():
        if isinstance(value, jax.core.Tracer):
            raise UserError(
                f"{name} is traced by JAX and must be a plain number: set it outside of jit, grad "
                "and vmap"
            )


def check_numbers(**arrays: Any) -> None:
    """Refuse arrays that hold NaN, which would only be seen as neurons that never spike.

    Values that are being traced by JAX cannot be looked at and pass.

    Raises:
        UserError: an array does, named by its keyword.
    """
    for name, array in arrays.items():
        if not isinstance(array, jax.core.Tracer) and np.isnan(np.asarray(array)).any():
            raise UserError(f"{name} holds NaN: check what it was made from")


def check_shapes(arrays: Mapping[str, tuple[Any, tuple[int | None, ...]]]) -> None:
    """Refuse arrays of another shape than the network has; None stands for any length.

    Raises:
        UserError: an array has another shape.
    """
    for name, (array, wanted) in arrays.items():
        found = np.shape(array)
        fits = len(found) == len(wanted) and all(
            b is None or a == b for a, b in zip(found, wanted, strict=True)
        )
        if not fits:
            words = ", ".join("any" if n is None else str(n) for n in wanted)
            raise UserError(f"{name} must have shape ({words}), not {tuple(found)}")


def check_config(config: Mapping[str, Any], *names: str) -> None:
    """Refuse a configuration without what a function reads of it.

    Raises:
        UserError: a name is missing.
    """
    missing = [name for name in names if name not in config]
    if missing:
        raise UserError(
            f"config lacks {', '.join(missing)}; it has {', '.join(config) or 'nothing'}"
        )


def check_spikes(
    times: Float[ArrayLike, " Kin"], neurons: Int[ArrayLike, " Kin"], n_inputs: int
) -> None:
    """Refuse input spikes that cannot be shown; unsorted ones are sorted by the simulation.

    Values that are being traced by JAX cannot be looked at and pass.

    Args:
        times: of the input spikes; inf stands for a spike that is not there.
        neurons: the input each comes from.
        n_inputs: number of inputs.

    Raises:
        UserError: a time is NaN or negative, or an input does not exist.
    """
    if isinstance(times, jax.core.Tracer) or isinstance(neurons, jax.core.Tracer):
        return
    t, n = np.asarray(times), np.asarray(neurons)
    if np.isnan(t).any():
        raise UserError("an input spike's time is NaN; leave that spike out, or give it time inf")
    if (t < 0).any():
        raise UserError(f"an input spike comes at {t.min()}, before the trial starts at 0")
    shown = n[np.isfinite(t)]
    if shown.size and not (shown.min() >= 0 and shown.max() < n_inputs):
        raise UserError(f"input spikes come from inputs 0 to {n_inputs - 1}, not {shown.max()}")


def needs_float64(experiment: str, dtype: Any) -> None:
    """Refuse float32 where an experiment's figure would be of rounding errors.

    Raises:
        UserError: the type is not float64.
    """
    if np.dtype(dtype) != np.float64:
        raise UserError(
            f"{experiment} needs --dtype float64: it compares spike times that differ by less than "
            "float32 resolves"
        )


def nan_unless(
    valid: Bool[Array, "*batch"], *inputs: Float[Array, "..."]
) -> Float[Array, "*batch"]:
    """0 where results are valid, else NaN; to be added to them.

    Their gradients in all entries of the inputs are then NaN as well, which a `where` would make 0.

    Args:
        valid: whether the results are.
        inputs: what they are computed from.
    """
    total = sum(jnp.sum(jnp.where(jnp.isfinite(x), x, 0)) for x in inputs)
    mark: Array = jnp.where(valid, 0, jnp.nan) * total
    return mark
