"""What a constructor takes: options that it would take amiss are refused before it is called."""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

NUMBERS, TEXTS = {"bool", "int", "float"}, {"str", "Any", "object", "Literal", "Path"}
"""Words of an annotation, of arguments that are no text, and of those that may be."""
NOTHING = {"None", "NoneType", "Optional", "Any", "object"}
"""Of those that may be None."""


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
            require_kind(name, option, value, known[option].default, known[option].annotation)
        elif option in pictures:
            raise ValueError(
                f"{option} is an option of what an agent sees, and {name} does not name it among "
                "its own: add pixels=True (--pixels), or leave it out."
            )


def require_kind(
    name: str, option: str, value: Any, usual: Any, noted: Any = inspect.Parameter.empty
) -> None:
    """Refuse text or None where the default ``usual``, or an annotation, is a number or a switch.

    Raises:
        ValueError: so it is; ``name`` is the environment's.
    """
    text = type(usual).__name__ if noted is inspect.Parameter.empty else str(noted)
    kinds = set(re.findall(r"\w+", text))
    given = {str: "text", type(None): "nothing"}.get(type(value))
    if given and kinds & NUMBERS and not kinds & (TEXTS if given == "text" else NOTHING):
        wanted = "True or False" if kinds & {"bool"} else "a number"
        raise ValueError(f"{name}: {option}={value!r} is {given} where {wanted} is meant.")
