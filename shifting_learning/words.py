"""Words that choose among a few ways, checked where they are given."""

from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints


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


def check_words(settings: Any) -> None:
    """Refuse settings with a word that its field does not take.

    Args:
        settings: a dataclass object; fields that take words are annotated with a `Literal`.

    Raises:
        ValueError: see `check_word`.
    """
    for name, kind in get_type_hints(type(settings)).items():
        if get_origin(kind) is Literal:
            check_word(name, getattr(settings, name), get_args(kind))
