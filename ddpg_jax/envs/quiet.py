"""Silence while simulators are imported and made."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

IN_SHIPPED_MODELS = ("settotalmass",)
"""What MuJoCo warns of in models that Gymnasium, Brax and Playground bring."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what simulators say of themselves on every start: optional engines, maintenance,
    deprecated attributes. MuJoCo stays silent on `IN_SHIPPED_MODELS`, whoever loads such a model
    later.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from mujoco import set_mju_user_warning as on_warning
        except Exception:  # not installed, or its OpenGL is not, which not every environment needs
            on_warning = lambda function: None
        on_warning(lambda text: None)
        try:
            yield
        finally:
            on_warning(tell)


def tell(text: str) -> None:
    """Print a warning of MuJoCo's, unless no user can mend what it is about."""
    if not any(name in text for name in IN_SHIPPED_MODELS):
        print(f"WARNING: {text}", file=sys.stderr)
