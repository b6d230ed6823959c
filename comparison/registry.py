"""The rules that there are: every module of `comparison.rules` that can be imported."""

import difflib
import importlib
import pkgutil
from functools import cache

from comparison import rules
from comparison.interface import Rule
from shared.errors import UserError


@cache
def families() -> tuple[dict[str, dict[str, Rule]], dict[str, str]]:
    """Rules by name, by the module that names them; and why modules are left out, by name."""
    there: dict[str, dict[str, Rule]] = {}
    left_out: dict[str, str] = {}
    for module in sorted(pkgutil.iter_modules(rules.__path__), key=lambda module: module.name):
        try:
            own = importlib.import_module(f"{rules.__name__}.{module.name}").RULES
        except ModuleNotFoundError as error:
            left_out[module.name] = f"{error.name} is not installed"
            continue
        if twice := [name for others in there.values() for name in others if name in own]:
            raise ValueError(f"two modules of comparison/rules name a rule {twice[0]}")
        there[module.name] = own
    return there, left_out


def found() -> tuple[dict[str, Rule], dict[str, str]]:
    """All rules by name, and by the module's name why others are left out."""
    there, left_out = families()
    return {name: rule for own in there.values() for name, rule in own.items()}, left_out


def heads() -> list[str]:
    """The first rule of every module, which stands for its family where all would be too many."""
    return [next(iter(own)) for own in families()[0].values()]


def rule_of(name: str) -> Rule:
    """The rule of a name.

    Raises:
        UserError: there is none, or its framework is missing.
    """
    if name in (there := found()[0]):
        return there[name]
    raise unknown(name)


def unknown(name: str) -> UserError:
    """What is wrong with a rule that is not there."""
    there, left_out = found()
    near = difflib.get_close_matches(name, there, 1)
    words = f"; did you mean {near[0]}?" if near else f": choose from {', '.join(there)}"
    missing = [f"comparison/rules/{module}.py ({why})" for module, why in left_out.items()]
    also = f"; left out: {', '.join(missing)}" if missing else ""
    return UserError(f"--rule {name} is not there{words}{also}")
