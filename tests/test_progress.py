"""What a terminal of 80 columns shows of a run: looked at through a pseudo-terminal."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from helpers import TINY_RUN

from ddpg_jax import runs
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.folder.metrics_log import write_metrics
from ddpg_jax.runs.training import phases, progress

CHILD = """
import sys
from pathlib import Path
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.training.progress import Display
config = make_config("pendulum", total_timesteps=20_000)
row = {"episodes": [5.0], "broken_episodes": [0.0], "episode_return": [-900.0]}
row |= {"env_steps_per_second": 1234.5, "updates_per_second": 2234.5, "evaluation_return": [-151.2]}
with Display(config, Path("runs/pendulum")) as display:
    display.say(config.note)
    display.phase("training")
    for steps in (1_950, 10_500, 20_000):
        display.show(row | {"env_steps": steps})
        row["evaluation_return"] = None
"""
# A long one of large numbers, and what a member that is the best of a population adds.
LARGE = """
import sys, time
from pathlib import Path
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.training import progress
config = make_config("pendulum", total_timesteps=10_000_000, replay_capacity=1_000)
clock = [0.0]
progress.time.perf_counter = lambda: clock[0]
row = {"episodes": [123456.0], "broken_episodes": [1234.0], "episode_return": [-12345.6]}
rates = {"env_steps_per_second": 1234567.0, "updates_per_second": 2234567.0}
row |= rates | {"evaluation_return": None}
with progress.Display(config, Path("runs/pendulum")) as display:
    task = display._progress.tasks[0]
    task._get_time = lambda: task.start_time + 36_000.0 + clock[0]
    display.phase("training")
    for steps in (1_001_000, 1_234_567, 5_234_567):
        clock[0] += 9_000.0
        display.show(row | {"env_steps": steps})
        time.sleep(0.3)
        if sys.argv[1:] and steps > 1_001_000:
            display._config.vary["tau"] = [1]
        row["evaluation_return"] = [-12345.6]
"""
# A slow environment on the host: each phase lasts until it is allowed to end.
SLOW = """
import sys, time
from pathlib import Path
import gymnasium
import numpy as np
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.programs import build
from ddpg_jax.runs.training import loop

class Slow(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}
    def step(self, action):
        time.sleep(0.02)
        return np.zeros(2, np.float32), 0.0, False, False, {}

gymnasium.register("Slow-v0", lambda **options: Slow(), max_episode_steps=10)
def slowly(built, config, compile=loop.compile_programs):
    print("[compiling]", flush=True)
    time.sleep(1.5)
    return compile(built, config)
loop.compile_programs = slowly
sys.argv[1:] = ["train", "gymnasium/Slow-v0", "--run-dir", sys.argv[1], "--num-envs", "1"]
sys.argv += ["--learning-starts", "50", "--total-timesteps", "20050", "--batch-size", "4"]
sys.argv += ["--hidden", "4", "--preset", "td3"]
commands.main()
"""


# Each phase of a film lasts a second and more.
FILM = """
import sys, time
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.console import status
shown = status.Status.phase
def slowly(self, name):
    shown(self, name)
    time.sleep(1.2)
status.Status.phase = slowly
sys.argv[1:] = ["render", sys.argv[1], "--steps", "2"]
commands.main()
"""


def terminal(columns, program, *arguments):
    """A child in a terminal of that many columns, and its end of it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {
        name: os.environ[name] for name in os.environ if name not in ("COLUMNS", "LINES")
    }
    child = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
    )
    os.close(theirs)
    return child, ours


def sent(ours):
    """What the child sends, in parts, until it closes its end."""
    while True:
        try:
            yield os.read(ours, 65_536).decode(errors="replace")
        except OSError:
            os.close(ours)
            return


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")


def screen(columns, program=CHILD, *arguments):
    """What a terminal of that many columns is sent, without control sequences, as lines."""
    child, ours = terminal(columns, program, *arguments)
    text = plain("".join(sent(ours)))
    assert child.wait() == 0, text
    return text.split("\n")


@pytest.mark.parametrize(("columns", "rates"), [(80, False), (100, False), (140, True)])
def test_bar_steps_return_and_time_left_fit_in_this_order(columns, rates):
    lines = screen(columns)
    live = [line for line in lines if "20,000/20,000 steps" in line]
    assert live
    for line in live:
        order = r"━{9,} +20,000/20,000 steps +return -151\.2 +\d+ s left +training \d+ s"
        assert re.search(order, line), line
        assert ("1,234 env-steps/s  2,234 updates/s" in line) == rates
    assert all(len(line) <= columns for line in lines)


STEPS = r"(1,001,000|1,234,567|5,234,567)/10,000,000 steps"
RETURN = r"(training return|return) -12345\.6"
LEFT = r"\d{1,3}:\d\d:\d\d left"
RATES = r"1,234,567 env-steps/s  2,234,567 updates/s  \d+,\d+ training episodes \(\d,\d+ cut off\)"


@pytest.mark.parametrize(
    ("columns", "after"),
    [
        (80, r"(  training)?"),
        (100, r"  training \d+:\d\d:\d\d"),
        (200, rf"  training \d+:\d\d:\d\d  {RATES}"),
    ],
)
def test_large_numbers_are_whole(columns, after):
    lines = [line for line in screen(columns, LARGE) if "steps  " in line]
    assert len(lines) > 3
    for line in lines:
        assert len(line) <= columns
        assert re.fullmatch(rf"[━╸╺]{{9,}} +{STEPS}  {RETURN}(  {LEFT})?{after} *", line), line
    assert {re.search(STEPS, line)[1] for line in lines} == {"1,001,000", "1,234,567", "5,234,567"}
    assert re.search(r"return -12345\.6  \d{1,3}:\d\d:\d\d left", lines[-1])
    if columns == 80:
        assert any(line.rstrip().endswith("  training") for line in lines)


def test_a_narrow_terminal_shows_a_share_of_the_steps():
    lines = [line for line in screen(50, LARGE) if "return" in line]
    assert re.fullmatch(rf"[━╸╺]{{9,}} +52%  return -12345\.6  {LEFT} *", lines[-1]), lines[-1]


def test_the_best_member_is_left_out_before_the_steps():
    best = r"return -12345\.6 \(best -12345\.6\)"
    lines = {columns: screen(columns, LARGE, "vary") for columns in (80, 100)}
    (narrow, wide) = (
        [line for line in lines[columns] if "5,234,567/" in line][-1] for columns in (80, 100)
    )
    assert re.fullmatch(rf"[━╸╺]{{9,}} +{STEPS}  return -12345\.6  {LEFT} *", narrow), narrow
    assert re.fullmatch(rf"[━╸╺]{{9,}} +{STEPS}  {best}  {LEFT}(  training)? *", wide), wide


def test_sentences_are_wrapped_at_words():
    said = lambda columns: [
        line for line in screen(columns) if not re.search(r"━|(preparing|training) \d", line)
    ]
    narrow, wide = (" ".join(said(columns)).split() for columns in (80, 400))
    assert len(wide) > 30
    assert narrow == wide
    assert " ".join(narrow).startswith("pendulum, preset default, on cpu -> runs/pendulum")


@pytest.mark.skipif(os.name == "nt", reason="POSIX terminals")
def test_what_is_under_way_is_named_within_two_seconds_and_a_signal_is_answered(tmp_path):
    """Of a slow environment: 20 ms a step, so a warm-up of a second and chunks of two."""
    child, ours = terminal(80, SLOW, str(tmp_path / "run"))
    text, since, seen, interrupted = "", {}, {}, None
    for part in sent(ours):
        now = time.monotonic()
        text = plain(text + part)
        for name in ("[compiling]", "compiling", "warming up", "training", "/20,050 steps"):
            if name in text:
                seen.setdefault(name, now)
        if "/20,050 steps" in seen and interrupted is None:
            interrupted = now
            child.send_signal(signal.SIGINT)
        if "finishes the chunk" in text:
            since.setdefault("answer", now)
    assert child.wait() == 128 + signal.SIGINT, text
    assert seen["compiling"] - seen["[compiling]"] < 2
    assert seen["[compiling]"] < seen["warming up"] < seen["training"] < seen["/20,050 steps"]
    assert since["answer"] - interrupted < 2
    assert re.search(r"stopping: it finishes the chunk, about \d+ s, and\s+saves", text)
    assert "stopped by SIGINT at " in text
    assert all(len(line) <= 80 for line in text.split("\n") if "━" in line)


def test_a_signal_is_told_what_it_waits_for(monkeypatch):
    clock, said, names = [0.0], [], []
    monkeypatch.setattr(phases.time, "monotonic", lambda: clock[0])
    under_way = phases.Phases(names.append, said.append)
    under_way.stopping()
    assert said == [], "nothing is under way"
    under_way.enter("compiling")
    under_way.stopping()
    under_way.enter("training")
    under_way.stopping()
    for seconds in (10.0, 30.0, 20.0):
        under_way.enter("training")
        clock[0] += seconds
        under_way.trained()
    under_way.enter("training")
    clock[0] += 4.0
    under_way.stopping()
    assert names == ["compiling", *["training"] * 5]
    assert [text.split(".")[0] for text in said] == [
        "stopping: it ends when all is compiled",
        "stopping: it finishes the chunk, the first one, and saves",
        "stopping: it finishes the chunk, about 16 s, and saves",
    ]


def test_a_run_that_is_refused_shows_nothing_but_the_reason(capsys):
    config = make_config("pendulum", total_timesteps=20_000)
    with progress.Display(config, Path("a")) as shown:
        shown.say("a note")
    assert capsys.readouterr().out == ""
    with progress.Display(config, Path("a")) as shown:
        shown.say("a note")
        shown.phase("compiling")
        shown.say("another")
    assert capsys.readouterr().out.splitlines() == [
        "pendulum, preset default, on cpu -> a",
        "a note",
        "another",
    ]


def test_on_a_terminal_the_line_of_a_run_that_is_refused_is_erased(monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    config = make_config("pendulum", total_timesteps=20_000)
    with progress.Display(config, Path("a")):
        pass
    begun, _, erased = capsys.readouterr().out.rpartition("preparing")
    assert begun
    assert erased.endswith("\x1b[1A\x1b[2K")


def test_plain_lines_are_at_evaluations_and_else_few(capsys):
    """The return is the newest evaluation's; before the first it is training's, and says so."""
    config = make_config("pendulum", total_timesteps=21_000)
    row = {"episodes": [1.0], "broken_episodes": [0.0], "episode_return": [-5.0]}
    row |= {"env_steps_per_second": 10.0, "updates_per_second": 10.0}
    with progress.Display(config, Path("a")) as shown:
        for steps in range(1_100, 21_001, 100):
            returns = [-3.0] if steps == 11_000 else None
            shown.show(row | {"env_steps": steps, "evaluation_return": returns})
    lines = capsys.readouterr().out.splitlines()[1:]
    assert 8 <= len(lines) <= 12
    assert all("  training return -5.0  " in line for line in lines[:4])
    assert all("  return -3.0  " in line for line in lines[-4:])
    assert "  10 env-steps and updates/s  200 training episodes" in lines[-1]


def test_training_episodes_of_a_resumed_run_are_those_of_all_of_it(tmp_path, capsys):
    config = make_config("pendulum", total_timesteps=3_000)
    row = {"episodes": [5.0], "broken_episodes": [0.0], "episode_return": [-5.0]}
    row |= {"env_steps_per_second": 10.0, "updates_per_second": 10.0, "evaluation_return": [-3.0]}
    rows = [row | {"env_steps": steps} for steps in (1_500, 2_000, 3_000)]
    write_metrics(tmp_path, rows)  # a display is told of a line that is written already
    with progress.Display(config, tmp_path) as shown:
        shown.show(rows[-1])
    assert "  15 training episodes" in capsys.readouterr().out


def test_lines_are_a_tenth_of_the_run_apart_and_know_the_time_that_is_left(monkeypatch, capsys):
    """At the end too, and wherever members were evaluated; the best of those that evolve."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    vary = {"tau": [0.1, 0.2, 0.3]}
    for own, best in (({}, ""), ({"vary": vary}, " (best -1.0)")):
        config = make_config("pendulum", total_timesteps=20_000, seeds=3, **own)
        row = {"episodes": [1.0, 0, 2], "broken_episodes": [0.0, 1, 0]}
        row |= {"episode_return": [-5.0, None, -4.0]}
        row |= {"env_steps_per_second": 9.6, "updates_per_second": 20.4}
        with progress.Display(config, Path("a")) as shown:
            for steps in range(1_000, 20_001, 500):
                returns = [-3.0, None, -1.0] if steps in (7_000, 7_500) else None
                shown.show(row | {"env_steps": steps, "evaluation_return": returns})
                clock[0] += 2.0
        name, *lines = capsys.readouterr().out.splitlines()
        kind = "members" if own else "seeds"
        assert name == f"pendulum, preset default, 3 {kind}, on cpu -> a"
        at = [2_000, 4_000, 6_000, 7_000, 7_500, *range(9_500, 19_501, 2_000), 20_000]
        assert [int(line.split("/")[0].replace(",", "")) for line in lines] == at
        told = [line.split("  ") for line in lines]
        assert {line[1] for line in told[:3]} == {"training return -4.5"}
        assert {line[1] for line in told[3:]} == {f"return -2.0{best}"}
        assert [line[2] for line in told[:3]] == ["72 s left", "64 s left", "56 s left"]
        assert told[3][3:] == [
            "10 env-steps/s",
            "20 updates/s",
            "39 training episodes (13 cut off)",
        ]


@pytest.mark.parametrize(
    ("options", "summary", "text"),
    [
        ({"final_episodes": 1}, {}, "-3.2 +- 1.5 over 1 episode"),
        ({"final_episodes": 2}, {}, "-3.2 +- 1.5 over 2 episodes"),
        (
            {"seeds": 3, "vary": {"tau": [0.1, 0.2, 0.3]}},
            {"final_returns": [-4.0, None, -1.0]},
            "best -1.0, mean -2.5 over 3 members",
        ),
        (
            {"seeds": 2},
            {"final_returns": [-4.0, -1.0], "interquartile_mean": -2.5}
            | {"interquartile_mean_interval": [-3.5, -1.5]},
            "interquartile mean -2.5 [-3.5, -1.5] over 2 seeds, worst -4.0, best -1.0",
        ),
    ],
)
def test_the_end_of_a_run_says_what_it_came_to(options, summary, text, capsys):
    config = make_config("pendulum", total_timesteps=3_000, **options)
    seconds = {"wall_seconds": 20.0, "compile_seconds": 8.0, "train_seconds": 9.0}
    seconds |= {"evaluation_seconds": 1.1, "checkpoint_seconds": 1.0}
    summary = (
        {"final_returns": [-3.21], "final_return_std": [1.49], "collapsed": []} | seconds | summary
    )
    summary |= {"updates_per_second": 1_234.4}
    for drawable in (True, False):
        progress.Display(config, Path("a")).finish(summary, drawable)
        lines = capsys.readouterr().out.splitlines()
        rest = ", evaluations 1.1 s; 1,234 updates/s"
        assert lines[1:3] == [
            f"final return: {text}",
            f"20.0 s: compile 8.0 s, training 9.0 s{rest}",
        ]
        assert lines[3:] == ["render it: ddpg-jax render a"] * drawable


def test_time_that_has_no_other_name_is_other(capsys):
    config = make_config("pendulum", total_timesteps=3_000)
    summary = {"final_returns": [-3.0], "final_return_std": [1.0], "updates_per_second": 10.0}
    summary["collapsed"] = [False]
    summary |= {"wall_seconds": 20.0, "compile_seconds": 8.0, "train_seconds": 6.0}
    summary |= {"evaluation_seconds": 0.5, "checkpoint_seconds": 1.5}
    progress.Display(config, Path("a")).finish(summary)
    line = "20.0 s: compile 8.0 s, training 6.0 s, checkpoints 1.5 s, other 4.0 s; 10 updates/s"
    assert line in capsys.readouterr().out


def test_a_duration_as_text():
    assert [progress.duration(x) for x in (0.4, 99.4, 100, 7_387)] == [
        "0 s",
        "99 s",
        "1:40",
        "2:03:07",
    ]


def test_a_render_names_what_is_under_way(tmp_path):
    runs.train("pendulum", run_dir=tmp_path / "run", **TINY_RUN)
    child, ours = terminal(80, FILM, str(tmp_path / "run"))
    text = plain("".join(sent(ours)))
    assert child.wait() == 0, text
    named = ["restoring", "compiling", "playing 2 steps", "drawing 2 frames", "writing "]
    places = [text.index(name) for name in named]
    assert places == sorted(places)
    for name in named[:4]:
        assert re.search(rf"{name} 0:00:0\d", text), "its seconds pass"
    lines = [line for line in text.split("\n") if line]
    assert "".join(lines[-2:]).endswith("episode.gif")
    assert all(len(line.rstrip()) <= 80 for line in lines if " 0:0" in line)
