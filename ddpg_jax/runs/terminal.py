"""The command and what it runs in: signals that end it, and an output that nobody reads any more."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TOGETHER = 0.1
"""Seconds within which two signals are one: `timeout` and some launchers send theirs twice."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM asked to end, and what was there is saved; ``signal`` is the number of the one that asked."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


@contextlib.contextmanager
def stopping() -> Iterator[list[int]]:
    """A list that receives SIGINT or SIGTERM; a second one of them interrupts as soon as Python has its turn."""
    received: list[int] = []
    since = [0.0]

    def handle(number: int, frame: Any) -> None:
        if not received:
            received.append(number)
            since[0] = time.monotonic()
        elif time.monotonic() - since[0] > TOGETHER:
            raise KeyboardInterrupt

    with _handled(handle):
        yield received


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """For a command: SIGINT or SIGTERM raises `Interrupted`, a second one ends the process at once, whatever it is doing."""

    def handle(number: int, frame: Any) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}.", number)

    with _second_ends(), _handled(handle):
        yield


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _handled(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Signals are ``handle``'s; but in another thread, where Python does not allow it."""
    if not _is_main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _second_ends() -> Iterator[None]:
    """Python's own handlers wait while XLA compiles or computes; the bytes that signals write to a socket do not."""
    if not _is_main_thread():
        yield
        return
    read, write = socket.socketpair()
    write.setblocking(False)
    before = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_count, args=(read,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        write.close()


def _count(read: socket.socket) -> None:
    first = None
    with read:
        while numbers := read.recv(64):
            number = next((number for number in numbers if number in SIGNALS), None)
            if number is None:
                continue
            if first is not None and time.monotonic() - first > TOGETHER:
                os.write(2, f"stopped at once by {signal.Signals(number).name}.\n".encode())
                os._exit(128 + number)
            first = first or time.monotonic()


def mute(stream: TextIO) -> None:
    """What is written from here on, and what waits in the buffer, goes nowhere; else Python stumbles over it at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Tolerant:
    """A stream for what is good to see but not needed: once it cannot be written (a closed pipe, a full disk), it is mute."""

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
        print(text, file=Tolerant(sys.stdout), flush=True)


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
