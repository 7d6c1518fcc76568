"""What a constructor takes: options that it would take amiss are refused before it is called."""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

NUMBERS, TEXTS = {"bool", "int", "float"}, {"str", "Any", "object", "Literal", "Path"}
"""Words of an annotation, of arguments that are no text, and of those that may be."""


def arguments(constructor: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The named arguments of a constructor, also of the base classes that its ``**kwargs`` go to.

    A ``**kwargs`` that ends nowhere is not among them.
    """
    found: dict[str, inspect.Parameter] = {}
    makers: list[Any] = [constructor]
    if isinstance(constructor, type):
        makers = [
            vars(base)["__init__"] for base in constructor.__mro__ if "__init__" in vars(base)
        ]
    for maker in makers:
        taken = inspect.signature(maker).parameters
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        found = {name: each for name, each in taken.items() if each.kind in named} | found
        if all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in taken.values()):
            break
    return found


def require(
    name: str, constructor: Callable[..., Any], given: dict[str, Any], pictures: Iterable[str]
) -> None:
    """Refuse text where a default or an annotation is a number or a switch, and options of
    ``pictures`` that are not named among a constructor's arguments.

    Raises:
        ValueError: so it is; ``name`` is the environment's.
    """
    try:
        known = arguments(constructor)
    except (ValueError, TypeError):  # of what is written in C there is no signature
        return
    for option, value in given.items():
        if option in known:
            _require_kind(name, known[option], value)
        elif option in pictures:
            raise ValueError(
                f"{option} is an option of what an agent sees, and {name} does not name it among "
                "its own: add pixels=True (--pixels), or leave it out."
            )


def _require_kind(name: str, known: inspect.Parameter, value: Any) -> None:
    usual, noted = known.default, known.annotation
    empty = noted is inspect.Parameter.empty
    kinds = set(re.findall(r"\w+", type(usual).__name__ if empty else str(noted)))
    if isinstance(value, str) and kinds & NUMBERS and not kinds & TEXTS:
        wanted = "True or False" if kinds & {"bool"} else "a number"
        raise ValueError(f"{name}: {known.name}={value!r} is text where {wanted} is meant.")
