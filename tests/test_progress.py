"""What a terminal of 80 columns shows of a run: looked at through a pseudo-terminal."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

CHILD = """
import sys
from pathlib import Path
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.training.progress import Display
config = make_config("pendulum", total_timesteps=20_000)
row = {"episodes": [5.0], "broken_episodes": [0.0], "episode_return": [-900.0]}
row |= {"env_steps_per_second": 1234.5, "updates_per_second": 1234.5, "evaluation_return": [-151.2]}
with Display(config, Path("runs/pendulum")) as display:
    display.say(config.note)
    for steps in (1_950, 10_500, 20_000):
        display.show(row | {"env_steps": steps})
"""


def screen(columns):
    """What a terminal of that many columns is sent, without control sequences, as lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {
        name: os.environ[name] for name in os.environ if name not in ("COLUMNS", "LINES")
    }
    with subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
    ) as child:
        os.close(theirs)
        sent = b""
        while True:
            try:
                sent += os.read(ours, 65_536)
            except OSError:  # the child has closed its end
                break
    os.close(ours)
    assert child.returncode == 0, sent.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.decode()).replace("\r", "\n").split("\n")


@pytest.mark.parametrize(("columns", "rates"), [(80, False), (100, False), (120, True)])
def test_bar_steps_return_and_time_left_fit_in_this_order(columns, rates):
    lines = screen(columns)
    live = [line for line in lines if "20,000/20,000 steps" in line]
    assert live
    for line in live:
        assert re.search(r"━+ +20,000/20,000 steps +return -151\.2 +\d+ s left", line)
        assert ("1,234 env-steps/s  1,234 updates/s" in line) == rates
    assert all(len(line) <= columns for line in lines)


def test_sentences_are_wrapped_at_words():
    said = lambda columns: [line for line in screen(columns) if "━" not in line]
    narrow, wide = (" ".join(said(columns)).split() for columns in (80, 400))
    assert len(wide) > 30
    assert narrow == wide
