"""Times and numbers of things, as people say them."""


def cost(minutes: float) -> str:
    """A time for people."""
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def counted(number: int, word: str) -> str:
    """Such as 1 run, 2 runs."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def of_machine(has_gpu: bool) -> str:
    """What a sum of minutes is counted on."""
    return "on one core" + (", or on a GPU where a row's time there is known" if has_gpu else "")
