"""Batches cut into chunks: small enough for a core's cache, and shared out over devices.

A chunk is always the same trials, and results come back chunk by chunk: they are the same sums for
any number of devices, but for rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

CHUNK = 128  # trials; 100 neurons in float32 then take 50 KB an array


class Chunks:
    """How a batch of a size is cut.

    Args:
        size: number of trials in a batch.
        device: the first device; on a CPU all of JAX's are used, elsewhere it alone with one chunk.
    """

    def __init__(self, size: int, device: Any) -> None:
        on_cpu = device.platform == "cpu"
        self.size = size
        self.n = 1
        while on_cpu and self.n * CHUNK < size:
            self.n *= 2
        self.each = -(-size // self.n)
        devices = jax.devices("cpu") if on_cpu else [device]
        self.n_devices = max(n for n in range(1, len(devices) + 1) if self.n % n == 0)
        self._mesh = Mesh(np.array(devices[: self.n_devices]), ("trials",))
        self.replicated = NamedSharding(self._mesh, PartitionSpec())
        """Sharding of what every device needs whole."""

    def cut(self, trials: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """An array [size or fewer, ...] as [chunks, trials of a chunk, ...], zeros at the end."""
        missing = self.n * self.each - len(trials)
        padded = np.pad(trials, [(0, missing), *[(0, 0)] * (trials.ndim - 1)])
        return padded.reshape(self.n, self.each, *trials.shape[1:])

    def map(self, function: Callable[..., Any], shared: Any, batched: Sequence[Any]) -> Any:
        """function(shared, *chunk) of every chunk, stacked along a first axis."""

        def local(shared: Any, *batched: Any) -> Any:
            return jax.lax.map(lambda chunk: function(shared, *chunk), batched)

        trials = PartitionSpec("trials")
        return jax.shard_map(
            local,
            mesh=self._mesh,
            in_specs=(PartitionSpec(), *(trials for _ in batched)),
            out_specs=trials,
            check_vma=False,  # chunks are independent: nothing is to be summed over devices
        )(shared, *batched)
