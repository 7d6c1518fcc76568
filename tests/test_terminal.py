"""Signals that end a command, whatever it is doing, and outputs that nobody reads.

No test waits for time to pass: the child says on its standard output when it is ready and when its
watcher has read a signal, its clock is counted, and its patience ends when the test says so."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from ddpg_jax.runs.console import signals

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

PRELUDE = """
import contextlib, gc, hashlib, itertools, os, signal, socket, sys, threading, time, types
from ddpg_jax.runs.console import signals

pair, grace_is_over = socket.socketpair, threading.Event()

class Watched:
    def __init__(self, end):
        self.end, self.impatient = end, False
    def __enter__(self):
        return self
    def __exit__(self, *about):
        self.end.close()
    def settimeout(self, seconds):
        self.impatient = seconds is not None and PATIENCE_ENDS
    def recv(self, size):
        if self.impatient:
            grace_is_over.wait()
            raise TimeoutError
        read = self.end.recv(size)
        if read:
            os.write(1, b"seen\\n")
        return read

def socketpair():
    read, write = pair()
    return Watched(read), write

signals.socket = types.SimpleNamespace(socketpair=socketpair, socket=socket.socket)
signals.time = types.SimpleNamespace(monotonic=itertools.count(step=SECONDS_BETWEEN).__next__)

try:
    with signals.interrupt_on_signal(), WITHIN as stop:
BODY
except signals.Interrupted as stop:
    print(stop)
    sys.exit(128 + stop.signal)
except KeyboardInterrupt:
    sys.exit(130)
"""
READY = "print('ready', flush=True)\n"
IN_PYTHON = f"{READY}while True: time.sleep(0.01)"
# One call that comes back to Python after minutes and does not hold its lock, as XLA does not; no
# signal breaks it off, and no handler of Python's has its turn before.
IN_C = f"""
for number in signals.SIGNALS: signal.signal(number, lambda *about: None)
{READY}hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)
"""


def child(body, within="contextlib.nullcontext()", patience_ends=True, seconds_between=1.0):
    """A command that does what ``body`` says; its clock goes on by so many seconds at each look."""
    code = PRELUDE.replace("BODY", textwrap.indent(body.strip(), " " * 8))
    code = code.replace("WITHIN", within).replace("PATIENCE_ENDS", str(patience_ends))
    return subprocess.Popen(
        [sys.executable, "-c", code.replace("SECONDS_BETWEEN", str(seconds_between))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, *numbers, answer=""):
    """Its code and what it wrote, after signals each of which its watcher has read before the next
    one; ``answer`` is what it reads then. One that hangs is killed."""
    with process:
        if numbers:
            assert process.stdout.readline() == "ready\n"
        for left, number in zip(range(len(numbers))[::-1], numbers, strict=True):
            process.send_signal(number)
            if left or answer:
                assert process.stdout.readline() == "seen\n"
        try:
            out, err = process.communicate(answer, timeout=300)
        finally:
            process.kill()
    return process.returncode, out.replace("seen\n", ""), err


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_a_signal_ends_a_command_in_a_line(number):
    found = ended(child(IN_PYTHON, patience_ends=False), number)
    assert found == (128 + number, f"stopped by {number.name}.\n", "")


def test_a_signal_ends_what_does_not_return_to_python():
    """When its patience is over; there is no run to save."""
    found = ended(child(f"grace_is_over.set()\n{IN_C}"), signal.SIGTERM)
    assert found == (143, "", "stopped by SIGTERM.\n")


def test_a_signal_is_not_lost_in_a_callback():
    """What is raised there, as in JAX's own at each garbage collection, Python only reports."""
    body = """
    gc.disable()
    lost = lambda *about: gc.callbacks.clear() or signal.raise_signal(signal.SIGINT)
    gc.callbacks.append(lost)
    gc.collect()
    grace_is_over.set()
    while True: time.sleep(0.01)
    """
    found = ended(child(textwrap.dedent(body)))
    assert found == (130, "", "stopped by SIGINT.\n")


def test_a_signal_that_was_lost_is_told_to_the_run_that_began_meanwhile():
    body = f"""
    try:
        {READY.strip()}
        while True: time.sleep(0.01)
    except signals.Interrupted: pass
    with signals.collect_signals() as stop:
        grace_is_over.set()
        while not stop: time.sleep(0.01)
        print(stop)
    """
    assert ended(child(textwrap.dedent(body)), signal.SIGINT) == (0, "[2]\n", "")


def test_a_second_signal_ends_what_does_not_return_to_python():
    code, out, err = ended(child(IN_C, patience_ends=False), signal.SIGINT, signal.SIGTERM)
    assert (code, out, err) == (128 + signal.SIGTERM, "", "stopped at once by SIGTERM.\n")


def test_a_second_signal_ends_a_run_that_waits_for_its_chunk():
    process = child(IN_PYTHON, "signals.collect_signals()", patience_ends=False)
    code, out, err = ended(process, signal.SIGINT, signal.SIGINT)
    assert (code, out) == (130, "")
    assert err in ("", "stopped at once by SIGINT.\n"), "Python may be as fast as who watches"


def test_a_signal_that_comes_twice_is_one():
    """As `timeout` sends it: to the process, and at once to its group."""
    body = f"{READY}while not stop: time.sleep(0.01)\nsys.stdin.readline(); print(stop)"
    process = child(body, "signals.collect_signals()", patience_ends=False, seconds_between=0.0)
    found = ended(process, signal.SIGTERM, signal.SIGTERM, answer="both were read\n")
    assert found == (0, "[15]\n", "")


def test_two_signals_within_a_tenth_of_a_second_are_one(monkeypatch):
    clock = [10.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: clock[0])
    told = threading.Event()
    with signals.collect_signals(told.set) as received:
        handle = signal.getsignal(signal.SIGTERM)
        handle(signal.SIGTERM, None)
        assert told.wait(60)
        clock[0] = 10.09
        handle(signal.SIGINT, None)
        assert received == [signal.SIGTERM]
        clock[0] = 10.11
        with pytest.raises(KeyboardInterrupt):
            handle(signal.SIGINT, None)
    assert signals._running == []


def test_what_was_before_is_after():
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    with signals.interrupt_on_signal(), signals.collect_signals():
        assert all(signal.getsignal(number) is not before[number] for number in before)
    assert {number: signal.getsignal(number) for number in signals.SIGNALS} == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize(
    ("call", "code", "told"), [("answer", 1, "could not be printed (No space left"), ("say", 0, "")]
)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a disk that is always full")
def test_a_full_disk_loses_an_answer_but_not_a_sentence(call, code, told):
    with open("/dev/full", "w") as full:
        script = f"from ddpg_jax.runs.console import output\noutput.{call}('x')"
        run = subprocess.run(
            [sys.executable, "-c", script],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert run.returncode == code, run.stderr
    assert told in run.stderr
    assert "Exception ignored" not in run.stderr
    assert call == "answer" or not run.stderr


@pytest.mark.parametrize("call", ["answer", "say"])
def test_a_reader_that_has_gone_has_what_it_wanted(call):
    script = (
        "import sys\nfrom ddpg_jax.runs.console import output\nsys.stdin.read()\nfor _ in "
        f"range(3): output.{call}('x')"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate("", timeout=300)
    assert (process.returncode, err) == (0, "")
