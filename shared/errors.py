"""Errors that are the user's to mend, and the check of words that choose among a few ways."""

from typing import Any, Literal, get_args, get_origin, get_type_hints


class UserError(Exception):
    """Something the user can put right; the message is one sentence that says how.

    Scripts print it and end with exit code 2 (`shared.options.script`).
    """


def check_word(name: str, word: object, allowed: Any) -> None:
    """Refuse a word that an argument does not take, before something else is done by it.

    Args:
        name: of the argument.
        word: its value.
        allowed: the words that it takes: a `Literal`, or an iterable of them.

    Raises:
        ValueError: the word is none of these, which the message names.
    """
    words = get_args(allowed) or tuple(allowed)
    if word not in words:
        raise ValueError(f"{name} must be one of {', '.join(map(str, words))}, not {word!r}")


def check_words(settings: Any) -> None:
    """Refuse settings with a word that its field does not take.

    Args:
        settings: a dataclass object; fields that take words are annotated with a `Literal`.

    Raises:
        ValueError: see `check_word`.
    """
    for name, kind in get_type_hints(type(settings)).items():
        if get_origin(kind) is Literal:
            check_word(name, getattr(settings, name), kind)
