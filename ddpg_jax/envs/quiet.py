"""Silence while simulators are imported and made."""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what simulators say of themselves on every start: optional engines, maintenance,
    deprecated attributes.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        on_warning = _mujoco_warnings()
        on_warning(lambda text: None)
        try:
            yield
        finally:
            on_warning(None)


def _mujoco_warnings() -> Callable[[Any], None]:
    """What tells MuJoCo whom to warn; where it cannot be imported there is nobody to tell."""
    try:
        from mujoco import set_mju_user_warning
    except (
        Exception
    ):  # not installed, or its OpenGL is not: of no concern to environments that do without
        return lambda function: None
    result: Callable[[Any], None] = set_mju_user_warning
    return result
