"""Output that may have lost its reader: progress goes on, an answer is an error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO


def mute(stream: TextIO) -> None:
    """What is written from here on, and what waits in the buffer, goes nowhere; else Python
    stumbles over it at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class TolerantStream:
    """A stream for what is good to see but not needed: once it cannot be written (a closed pipe, a
    full disk), it is mute."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As a file's."""
        return self._try(self._stream.write, text) or 0

    def flush(self) -> None:
        """As a file's."""
        self._try(self._stream.flush)

    def _try(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except (OSError, ValueError):  # ValueError: closed
            return mute(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(text: str) -> None:
    """Print a sentence, if anybody reads."""
    if sys.stdout is not None:
        print(text, file=TolerantStream(sys.stdout), flush=True)


def answer(text: str) -> None:
    """Print what a command was asked for. A reader that has gone has what it wanted.

    Raises:
        OSError: it cannot be written, and the reader has not gone.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        mute(sys.stdout)
    except OSError as error:
        mute(sys.stdout)
        raise OSError(f"the answer could not be printed ({error.strerror}).") from error
