"""How threads wait for each other: imported before torch, numba and scikit-learn load theirs.

A thread that waits for another spins for a while before it sleeps. GNU's OpenMP, which torch's and
numba's threads are on Linux, spins for milliseconds: beside programs that go first, or more of them
than cores, a waiting thread then uses up the core that the one it waits for needs, and a step of
small products takes up to ten times as long (docs/performance.md). After `SPINS` turns, some tenths
of a millisecond, a wait within a step is over on an idle machine, while on a busy one little is
lost. The library looks at its variables once, when it is loaded: that is why programs name this
module first, and `shared` imports it before all others.

Intel's and LLVM's OpenMP, which other builds of torch have, yield to others while they spin and are
left as they are.
"""

import os
from collections.abc import MutableMapping

SPINS = 20_000
"""Turns that a waiting thread spins for; 300,000 by default."""

OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""Variables by which a user says how threads of GNU's OpenMP are to wait."""


def set_waiting(environment: MutableMapping[str, str]) -> None:
    """Say how threads are to wait, unless the user has said so already.

    Args:
        environment: variables of the process; takes effect where no OpenMP library is loaded yet,
            and in processes that this one starts.
    """
    if not any(environment.get(name) for name in OWN):
        environment["GOMP_SPINCOUNT"] = str(SPINS)


set_waiting(os.environ)
