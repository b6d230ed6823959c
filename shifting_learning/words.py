"""Words that choose among a few ways, checked where they are given."""

from collections.abc import Iterable


def check_word(name: str, word: object, allowed: Iterable[str]) -> None:
    """Refuse a word that is none of those allowed.

    Args:
        name: of the argument.
        word: its value.
        allowed: the words that it takes.

    Raises:
        ValueError: the word is none of these, which the message names.
    """
    words = tuple(allowed)
    if word not in words:
        raise ValueError(f"{name} must be one of {words}, not {word!r}")
