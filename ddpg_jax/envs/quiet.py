"""Silence while simulators are imported and made."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what simulators say of themselves on every start: optional engines, maintenance,
    deprecated attributes.
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
            on_warning(None)
