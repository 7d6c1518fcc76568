"""SIGINT and SIGTERM: the first one stops a command in order, the second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TOGETHER = 0.1
"""Seconds within which two signals are one: `timeout` and some launchers send theirs twice."""
GRACE = 1.0
"""Seconds that a command without a run may take to end by itself."""
_running: list[list[int]] = []
"""What `stopping` has handed out: while there is one, a first signal is its business."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM asked to end, and what was there is saved; ``signal`` is the number of the
    one that asked."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


@contextlib.contextmanager
def stopping() -> Iterator[list[int]]:
    """A list that receives SIGINT or SIGTERM; a second one of them interrupts as soon as Python has
    its turn."""
    received: list[int] = []
    since: list[float] = []

    def handle(number: int, frame: Any) -> None:
        if not since:
            since.append(time.monotonic())
            received[:] = received or [
                number
            ]  # `_watch` may have told it before Python had its turn
        elif time.monotonic() - since[0] > TOGETHER:
            raise KeyboardInterrupt

    _running.append(received)
    try:
        with _handled(handle):
            yield received
    finally:
        _running.remove(received)


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """For a command: SIGINT or SIGTERM raises `Interrupted`; a second one ends the process at once,
    whatever it is doing.

    So does the first, after `GRACE`, where there is no run to save: what is raised is lost in
    callbacks of libraries, and does not reach what is not Python."""

    def handle(number: int, frame: Any) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}.", number)

    with _watched(), _handled(handle):
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
def _watched() -> Iterator[None]:
    """Python's own handlers wait while XLA compiles or computes; the bytes that signals write to a
    socket do not."""
    if not _is_main_thread():
        yield
        return
    read, write = socket.socketpair()
    write.setblocking(False)
    before, told = (
        signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False),
        sys.unraisablehook,
    )
    sys.unraisablehook = lambda lost: (
        None if isinstance(lost.exc_value, Interrupted) else told(lost)
    )
    threading.Thread(target=_watch, args=(read,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        sys.unraisablehook = told
        write.close()


def _watch(read: socket.socket) -> None:
    """End the process by the second signal, or some time after the first; leave when the other end
    is closed."""
    first = last = 0
    since = time.monotonic()
    with read:
        while True:
            try:
                heard = read.recv(64)
            except TimeoutError:
                if not _running:
                    _leave(first, "")
                _running[-1][:] = _running[-1] or [
                    first
                ]  # it may have been lost before the run began
                read.settimeout(None)
                continue
            if not heard:
                return
            last = next((number for number in heard if number in SIGNALS), 0)
            if last and not first:
                first, since = last, time.monotonic()
                read.settimeout(GRACE)
            elif last and time.monotonic() - since > TOGETHER:
                _leave(last, " at once")


def _leave(number: int, how: str) -> NoReturn:
    os.write(2, f"stopped{how} by {signal.Signals(number).name}.\n".encode())
    os._exit(128 + number)
