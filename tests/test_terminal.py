"""Signals that end a command, whatever it is doing, and outputs that nobody reads."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ddpg_jax.runs.console import signals

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

# One call that comes back to Python after minutes and does not hold its lock, as XLA does not; no
# signal breaks it off.
IN_C = "print('ready', flush=True); hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)"
IN_PYTHON = "print('ready', flush=True); time.sleep(30)"


def child(body: str, within: str = "contextlib.nullcontext()") -> subprocess.Popen:
    code = f"""
import contextlib, gc, hashlib, sys, time
from ddpg_jax.runs import terminal
try:
    with terminal.ending(), {within} as stop:
        {body}
except terminal.Interrupted as stop:
    print(stop)
    sys.exit(128 + stop.signal)
except KeyboardInterrupt:
    sys.exit(130)
"""
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def all_of(process: subprocess.Popen) -> tuple[str, str]:
    """What it wrote when it has ended; one that does not end is killed."""
    try:
        return process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def ended(process: subprocess.Popen, *numbers: int) -> tuple[int, str, str]:
    """Its code and what it wrote, after signals half a second apart; it ends at once."""
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for index, number in enumerate(numbers):
            time.sleep(0.5 * (index > 0))
            process.send_signal(number)
        begin = time.monotonic()
        out, err = all_of(process)
    assert time.monotonic() - begin < 5
    return process.returncode, out, err


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_a_signal_ends_a_command_in_a_line(number):
    assert ended(child(IN_PYTHON), number) == (128 + number, f"stopped by {number.name}.\n", "")


def test_a_signal_ends_what_does_not_return_to_python():
    """After a second; there is no run to save."""
    assert ended(child(IN_C), signal.SIGTERM) == (143, "", "stopped by SIGTERM.\n")


def test_a_signal_is_not_lost_in_a_callback():
    """What is raised there, as in JAX's own at each garbage collection, Python only reports."""
    body = "gc.callbacks.append(lambda *about: time.sleep(0.01)); print('ready', flush=True)\n        while True: gc.collect()"
    assert ended(child(body), signal.SIGINT)[::2] in [(130, ""), (130, "stopped by SIGINT.\n")]


def test_a_signal_that_was_lost_is_told_to_the_run_that_began_meanwhile():
    lost = (
        "try: print('ready', flush=True); time.sleep(30)\n        except terminal.Interrupted: pass"
    )
    run = "with terminal.stopping() as stop:\n            while not stop: time.sleep(0.01)\n        print(stop)"
    assert ended(child(f"{lost}\n        {run}"), signal.SIGINT) == (0, "[2]\n", "")


def test_a_second_signal_ends_what_does_not_return_to_python():
    code, out, err = ended(child(IN_C), signal.SIGINT, signal.SIGTERM)
    assert (code, out, err) == (128 + signal.SIGTERM, "", "stopped at once by SIGTERM.\n")


def test_a_second_signal_ends_a_run_that_waits_for_its_chunk():
    body = "print('ready', flush=True)\n        while True: time.sleep(0.01)"
    code, out, err = ended(child(body, "terminal.stopping()"), signal.SIGINT, signal.SIGINT)
    assert (code, out) == (130, "")
    assert err in ("", "stopped at once by SIGINT.\n"), "Python may be as fast as who watches"


def test_a_signal_that_comes_twice_is_one():
    """As `timeout` sends it: to the process, and at once to its group."""
    body = "print('ready', flush=True)\n        while not stop: time.sleep(0.01)\n        time.sleep(0.3); print(stop)"
    process = child(body, "terminal.stopping()")
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        out, err = all_of(process)
    assert (process.returncode, out, err) == (0, "[15]\n", "")


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
        script = f"from ddpg_jax.runs import terminal\nterminal.{call}('x')"
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
    script = f"import sys\nfrom ddpg_jax.runs import terminal\nsys.stdin.read()\nfor _ in range(3): terminal.{call}('x')"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate("", timeout=20)
    assert (process.returncode, err) == (0, "")
