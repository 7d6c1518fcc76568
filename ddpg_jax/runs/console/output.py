"""Output to a reader that may have closed its end: progress is dropped, an answer is an error."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable


def mute(stream: TextIO) -> None:
    """Redirect a stream, and its unwritten buffer, to the null device."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class TolerantStream:
    """A stream whose output is optional: once it cannot be written, it is muted."""

    def __init__(self, stream: TextIO) -> None:
        """Wrap a stream."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write as a file does."""
        return self._try(self._stream.write, text) or 0

    def flush(self) -> None:
        """Flush as a file does."""
        self._try(self._stream.flush)

    def _try(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except (OSError, ValueError):  # ValueError: closed
            return mute(self._stream)

    def __getattr__(self, name: str) -> Any:
        """Return other attributes of the wrapped stream."""
        return getattr(self._stream, name)


def say(text: str) -> None:
    """Print a sentence, if standard output can be written."""
    if sys.stdout is not None:
        print(text, file=TolerantStream(sys.stdout), flush=True)


def answer(text: str) -> None:
    """Print the result of a command; a closed pipe is ignored.

    Raises:
        OSError: the result cannot be written otherwise.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        mute(sys.stdout)
    except OSError as error:
        mute(sys.stdout)
        raise OSError(f"the answer could not be printed ({error.strerror}).") from error
