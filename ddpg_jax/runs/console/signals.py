"""SIGINT and SIGTERM: the first one stops a command in order, the second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_SIGNAL_SECONDS = 0.1
"""Seconds within which two signals count as one: `timeout` and some launchers send two."""
GRACE_SECONDS = 1.0
"""Seconds that a command without a run may take to end by itself."""
_running: list[_Received] = []
"""Of active `collect_signals`, which receive the first signal."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM, after the state is saved; ``signal`` is its number."""

    def __init__(self, message: str, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(message)
        self.signal = number


class _Received(list[int]):
    """Receives the first signal; ``told`` is called when it came, in a thread of its own."""

    def __init__(self, told: Callable[[], None]) -> None:
        super().__init__()
        self._told: Callable[[], None] | None = told

    def tell(self) -> None:
        told, self._told = self._told, None
        if told is not None:  # not here: a handler may have interrupted what prints
            threading.Thread(target=told, daemon=True).start()


@contextlib.contextmanager
def collect_signals(told: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Yield a list that receives the first SIGINT or SIGTERM; a second one interrupts.

    Args:
        told: called once when the first one has come, from another thread and, within
            `interrupt_on_signal`, also while the main one computes.
    """
    received = _Received(told)
    since: list[float] = []

    def handle(number: int, frame: Any) -> None:
        if not since:
            since.append(time.monotonic())
            received[:] = received or [number]  # `_watch` may have set it first
            received.tell()
        elif time.monotonic() - since[0] > SAME_SIGNAL_SECONDS:
            raise KeyboardInterrupt

    _running.append(received)
    try:
        with _handled(handle):
            yield received
    finally:
        _running.remove(received)


@contextlib.contextmanager
def interrupt_on_signal() -> Iterator[None]:
    """Raise `Interrupted` on SIGINT or SIGTERM; a second one ends the process at once.

    Without a run to save, the first one also ends it after `GRACE_SECONDS`: exceptions are lost in
    callbacks of libraries, and compiled code does not see them.
    """

    def handle(number: int, frame: Any) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}.", number)

    with _watched(), _handled(handle):
        yield


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _handled(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Install a handler of signals; in other threads than the main one Python does not allow it."""
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
    """Watch signals from a thread: Python's handlers wait while XLA compiles or computes."""
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
    """End the process by the second signal, or `GRACE_SECONDS` after the first."""
    first = last = 0
    since = time.monotonic()
    with read:
        while True:
            try:
                heard = read.recv(64)
            except TimeoutError:
                if not _running:
                    _leave(first, "")
                _running[-1][:] = _running[-1] or [first]  # lost before the run started
                read.settimeout(None)
                continue
            if not heard:
                return
            last = next((number for number in heard if number in SIGNALS), 0)
            if last and not first:
                first, since = last, time.monotonic()
                if _running:
                    _running[-1].tell()
                read.settimeout(GRACE_SECONDS)
            elif last and time.monotonic() - since > SAME_SIGNAL_SECONDS:
                _leave(last, " at once")


def _leave(number: int, how: str) -> NoReturn:
    os.write(2, f"stopped{how} by {signal.Signals(number).name}.\n".encode())
    os._exit(128 + number)
