"""How every script ends: an exit code, and one sentence where it could not be done."""

import errno
import io
import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from shared import parallel
from shared.errors import UserError


def check_positive(**values: float | None) -> None:
    """Refuse options that must be above 0, and finite.

    Raises:
        UserError: one of the values is not, named by its keyword.
    """
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            words = "above 0" if value <= 0 else "above 0 and finite"
            raise UserError(f"--{name.replace('_', '-')} {value} must be {words}")


def script(main: Callable[[], None]) -> NoReturn:
    """Run a script's main and turn what can go wrong into an exit code and one sentence.

    Exit codes: 0 for success, 2 for input that the user can mend or that needs more memory or room
    than there is, 130 for Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else closed, or a test's
            stream.reconfigure(errors="replace")  # a terminal without "±" shows "?"
    try:
        main()
        if sys.stdout is not None:
            sys.stdout.flush()
        parallel.leave()
    except UserError as error:
        _complain(f"error: {error}")
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output left (`| head`); nothing more can be said to it.
        _silence()
        sys.exit(1)
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            _silence()
            _complain(
                "error: no room left where the output goes: make room, then give the same command "
                "again; it goes on from the last checkpoint"
            )
            sys.exit(2)
        if any(isinstance(cause, KeyboardInterrupt) for cause in _behind(error)):
            _complain("interrupted: the same command goes on from the last checkpoint")
            sys.exit(130)
        if any(map(_is_out_of_memory, _behind(error))):
            _complain("error: not enough memory: lower --batch-size, or make the network smaller")
            sys.exit(2)
        raise
    sys.exit(0)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors that say that a disk or a quota is full."""


def _complain(words: str) -> None:
    """Say it on standard error, where there is one, and no other process of the run has."""
    # Standard error is closed by `2>&-`, and then print would take standard output.
    if sys.stderr is not None and parallel.has_last_words():
        print(words, file=sys.stderr)


def _silence() -> None:
    """Send what is still to be written to standard output nowhere."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those behind it: compiled code can wrap one in one of its own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# How torch on a CPU (the second is Windows') and JAX say it; torch on a GPU has a class for it.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "RESOURCE_EXHAUSTED")


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy, torch or JAX says that memory is used up.

    By names and words: torch and JAX need not be there.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
