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
    written = inspect.isclass(constructor)
    found: dict[str, inspect.Parameter] = {}
    for base in inspect.getmro(constructor) if written else (constructor,):
        if written and "__init__" not in vars(base):
            continue
        own = inspect.signature(base.__init__ if written else base).parameters
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        found = {name: each for name, each in own.items() if each.kind in named} | found
        if all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in own.values()):
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
