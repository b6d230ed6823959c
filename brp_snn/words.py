"""Arguments that are one of a few words."""

from collections.abc import Collection


def check_word(what: str, word: str, words: Collection[str]) -> None:
    """Refuse a word that is not one of those allowed, before something else is done by it.

    Args:
        what: what is called so, such as "mode".
        word: the argument.
        words: those allowed.

    Raises:
        ValueError: it is none of them; they are named.
    """
    if word not in words:
        raise ValueError(f"no {what} is called {word!r}: choose from {', '.join(words)}")
