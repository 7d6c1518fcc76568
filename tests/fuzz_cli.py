"""Generated command lines, plausible and hostile: each must end in exit code 0 or 2 (1 of `check`
that found something), with at most two lines of error, without a traceback, and without a folder
half made.

    python tests/fuzz_cli.py --lines 500 --seed 0
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.path[:0] = [str(HERE.parent), str(HERE)]

from click.testing import CliRunner  # noqa: E402
from helpers import hyperparameter_types  # noqa: E402

from ddpg_jax.runs.cli import commands  # noqa: E402
from ddpg_jax.runs.presets import PRESETS  # noqa: E402

LIMIT = 60
"""Seconds that a line may take."""
OWN = (
    "good",
    "as_dict",
    "scalar",
    "image",
    "empty",
    "nothing",
    "integers",
    "not_a_number",
    "without_action",
    "raises",
)
OWN += ("reset_raises", "step_raises", "three_results", "drifting", "number", "missing")
HOST = (
    "Vector",
    "Image",
    "Scalar",
    "Empty",
    "Discrete",
    "Dict",
    "Nothing",
    "Integers",
    "Text",
    "BrokenReset",
    "BrokenStep",
)
HOST += ("Endless",)
ENVS = (
    *["pendulum"] * 6,
    *["lane"] * 3,
    *[f"fuzz_environments:{name}" for name in OWN],
    *[f"gymnasium/fuzz_environments:Fuzz{name}-v0" for name in HOST],
    *[
        "gymnasium/Pendulum-v1",
        "gymnasium/Taxi-v3",
        "gymnasium/CartPole-v1",
        "gymnasium/",
        "gymnasium/a/b/c:d:e",
        "gymnasium/A-v",
    ],
    *[
        "brax/nothing",
        "brax/",
        "playground/nothing",
        "a:b:c",
        ":",
        "a:",
        ":b",
        "os:getcwd",
        "json:nothing",
        "",
        " ",
        "ünï/çode",
    ],
    *["pendulum\n", "-", "x" * 5_000, "../../etc/passwd", "\x00", "%s{}", "[bold]x[/bold]", "🐍"],
)
NUMBERS = (
    "0",
    "1",
    "2",
    "7",
    "-1",
    "1e5",
    "1.5",
    "-0.5",
    "0.5",
    "nan",
    "inf",
    "-inf",
    "",
    " ",
    "abc",
    "ünï",
    "2147483647",
)
NUMBERS += (
    "2147483648",
    "-2147483649",
    "1000000000",
    str(10**12),
    str(10**18),
    str(10**30),
    "1e18",
    "1e400",
    "9" * 5_000,
)
NUMBERS += (
    "0x10",
    "1_000",
    "1,000",
    "True",
    "None",
    "--1",
    "1 2",
    "٣",
    "1e-400",
    "4e38",
    "[1]",
    "\x00",
    "\n",
)
OPTIONS = (
    "curvature",
    "camera_size",
    "lane_width",
    "observation",
    "reward",
    "time_limit",
    "g",
    "render_mode",
    "image_size",
    "pixels",
    "channels_first",
    "backend",
    "impl",
    "randomize",
    "num_envs",
    "disable_env_checker",
    "x",
    "",
)
VALUES = (
    *NUMBERS,
    ".01",
    "0,02",
    '"0.02"',
    "16.0",
    "False",
    "true",
    "yes",
    "[1, 2]",
    "[3.5]",
    "(1,",
    "{'a': 1}",
    "camera",
    "torcs",
    "human",
    "rgb_array",
    "=",
)
"""Options of environments' own, and what is given for them."""
STREAMS = ("angle", "speed", "state", "a", "b", "", "💥")
PIXELS = {
    "--preset": "drq-v2",
    "--channels": "4",
    "--layers": "1",
    "--trunk": "4",
    "--image-size": "12",
    "--action-repeat": "1",
}
SETS = (
    "tau",
    "gamma",
    "batch_size",
    "hidden",
    "layer_norm",
    "n_step",
    "axis_name",
    "seed",
    "",
    "x",
)
SPACES = (
    "0.01,0.1",
    "1,2",
    "4,8",
    "8x8,4",
    "True,False",
    "log:1e-4:1e-2",
    "uniform:0.1:0.9",
    "log:1e-3:1e-1:2",
    "uniform:1:4",
    "log:0:1",
    "log:1:",
    "uniform:2:1",
    "0.1,0.1",
    "nan:1:2",
    ":",
    ",",
    *NUMBERS,
)
WIDTHS = (
    "8",
    "8,8",
    "4,2,1",
    "",
    ",",
    "8,",
    "0",
    "-1",
    "8;8",
    "1e1,8",
    "100000,100000",
    "10000000000",
    "a,b",
    "nan",
    "1.5",
)
WIDTHS += (",".join("1" * 500), "1000000,1000000", "9" * 100)
PLACES = (
    "new",
    "a/b/c",
    "/dev/null/x",
    "/proc/x",
    ".",
    "",
    " ",
    "ünï çode",
    "x" * 300,
    "a:b:c",
    "[red]",
    "file",
)
PLACES += ("file/x", "/dev/full", "-x", "new.", "loop", "unwritable/x", "run", "damaged-0")
NAMES = (
    "default",
    "paper",
    "td3",
    "d4pg",
    "td3-categorical",
    "parameter-noise",
    "pendulum-lecture",
    "papr",
    "",
    "DEFAULT",
    "💥",
)
SMALL = {
    "--total-timesteps": "60",
    "--learning-starts": "20",
    "--steps-per-chunk": "20",
    "--batch-size": "4",
    "--hidden": "4",
}
SMALL |= {
    "--evaluation-episodes": "2",
    "--final-episodes": "2",
    "--replay-capacity": "64",
    "--time-limit": "5",
    "--checkpoint-every": "0",
}
WHOLE = (
    "--seed",
    "--seeds",
    "--time-limit",
    "--action-repeat",
    "--steps-per-chunk",
    "--evaluate-every",
)
WHOLE += ("--evaluation-episodes", "--final-episodes", "--checkpoint-every", "--keep")
FLAGS = [
    f"--{name.replace('_', '-')}"
    for name, kind in hyperparameter_types().items()
    if kind is not bool
]
DAMAGE = (
    "",
    "{}",
    "null",
    "[]",
    "5",
    "[" * 50_000,
    '{"env": 1}',
    "\udcff",
    "tau=null",
    "tau=NaN",
    "hidden=[]",
    "hidden=9",
)
DAMAGE += (
    "seed=1.5",
    "env_options=7",
    'env="brax/x"',
    'preset="x"',
    "wings=2",
    "seeds=3",
    "hidden=[5]",
    "folder",
)


def prepare(folder: Path) -> None:
    """What the lines meet: a run, damaged copies of it, files and folders in the way."""
    words = [
        "train",
        "--run-dir",
        str(folder / "run"),
        *(word for pair in SMALL.items() for word in pair),
    ]
    result = CliRunner().invoke(commands.main, words)
    assert result.exit_code == 0, result.output
    for index, damage in enumerate(DAMAGE):
        path = Path(shutil.copytree(folder / "run", folder / f"damaged-{index}")) / "config.json"
        field, _, value = damage.partition("=")
        if damage == "folder":
            path.unlink()
            path.mkdir()
        elif value:
            path.write_text(json.dumps(json.loads(path.read_text()) | {field: json.loads(value)}))
        else:
            path.write_bytes(damage.encode(errors="surrogateescape"))
    (folder / "file").write_text("a file")
    (folder / "loop").symlink_to("loop")
    (folder / "unwritable").mkdir(mode=0o555)


class Lines:
    """Command lines, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def draw(self) -> list[str]:
        """One line, without the program's name."""
        make = self._random.choice(
            [self._train] * 6
            + [self._run] * 4
            + [self._sweep, self._check, self._check, self._plot, self._words]
        )
        line = make()
        if self._random.random() < 0.05:
            line.insert(
                self._random.randrange(len(line) + 1),
                self._random.choice(["--help", "--traceback", "--x", "", "--", "-"]),
            )
        return line

    def _any(self, values: tuple[str, ...] | list[str]) -> str:
        return self._random.choice(values)

    def _train(self) -> list[str]:
        options = dict(SMALL)
        for _ in range(self._any([0, 1, 1, 2])):
            flag = self._any(
                [*WHOLE, *FLAGS, "--hidden", "--critic-hidden", "--preset", "--backend"]
            )
            values = {
                "--hidden": WIDTHS,
                "--critic-hidden": WIDTHS,
                "--preset": NAMES,
                "--backend": (*NAMES, "mjx"),
            }
            options[flag] = self._any(values.get(flag, NUMBERS))
        for flag in ("--actor-stream", "--critic-stream"):
            if self._random.random() < 0.1:
                options[flag] = self._any(STREAMS)
        env, more = self._any(ENVS), self._env_options()
        if self._random.random() < 0.1:
            env, options = self._any(["pendulum", "pendulum", env]), options | PIXELS
            options[self._any(["--image-size", "--frame-stack", "--frames-per-action"])] = (
                self._any(["1", "2", "12", *NUMBERS])
            )
            more += ["--pixels", self._any(["--grayscale", "--no-grayscale", "--channels-first"])]
        if self._random.random() < 0.05:
            more += ["--shared-environment"]
        line = ["train", env, *(word for pair in options.items() for word in pair), *more]
        if self._random.random() < 0.5:
            line += ["--run-dir", self._any(PLACES)]
        if self._random.random() < 0.15:
            line += ["--resume"]
        if self._random.random() < 0.3:
            line += [self._any(["--layer-norm", "--no-layer-norm", "--normalize-observations"])]
        return line

    def _env_options(self) -> list[str]:
        line: list[str] = []
        while self._random.random() < 0.25:
            line += ["--env-option", f"{self._any(OPTIONS)}={self._any(VALUES)}"]
        return line

    def _sweep(self) -> list[str]:
        options = dict(SMALL)
        if self._random.random() < 0.3:
            options[self._any([*WHOLE, *FLAGS, "--draws", "--memory"])] = self._any(NUMBERS)
        words = [word for pair in options.items() for word in pair]
        line = ["sweep", self._any(["pendulum"] * 5 + [*ENVS[:12]]), *words]
        for _ in range(self._any([0, 1, 1, 1, 2])):
            line += ["--set", f"{self._any(SETS)}={self._any(SPACES)}"]
        if self._random.random() < 0.5:
            line += ["--draws", self._any(["2", "3", *NUMBERS])]
        if self._random.random() < 0.4:
            line += ["--pbt"]
        if self._random.random() < 0.3:
            line += [self._any(["--pbt-fraction", "--pbt-change"]), self._any(NUMBERS)]
        return line + (["--run-dir", self._any(PLACES)] if self._random.random() < 0.5 else [])

    def _folder(self) -> str:
        return self._any(
            ["run", "run", *(f"damaged-{index}" for index in range(len(DAMAGE))), *PLACES]
        )

    def _run(self) -> list[str]:
        command, folder = self._any(["evaluate", "render", "export", "resume"]), self._folder()
        if command == "resume":
            return [
                "train",
                "--resume",
                "--run-dir",
                folder,
                self._any([*WHOLE, *FLAGS]),
                self._any(NUMBERS),
            ]
        options = {
            "evaluate": ["--episodes", "--seed"],
            "render": ["--steps", "--seed", "--member"],
            "export": ["--member"],
        }
        line = [command, folder, "--episodes", "2"] if command == "evaluate" else [command, folder]
        line += ["--steps", "2"] if command == "render" else []
        for flag in options[command]:
            line += [flag, self._any(NUMBERS)] if self._random.random() < 0.3 else []
        if command != "evaluate" and self._random.random() < 0.6:
            line += ["--out", self._any(PLACES)]
        if command != "evaluate" and self._random.random() < 0.3:
            of_films, of_exports = (
                ["gif", "html", "mp4", "avi", ""],
                ["onnx", "npz", "stablehlo", ""],
            )
            forms = of_films if command == "render" else of_exports
            line += ["--format", self._any(forms)]
        if command == "export" and self._random.random() < 0.2:
            line += ["--again", self._any(PLACES)]
        return line

    def _check(self) -> list[str]:
        line = ["check", self._any(ENVS), "--steps", "12", "--num-envs", "2", *self._env_options()]
        return line + (
            [self._any(["--num-envs", "--steps", "--time-limit"]), self._any(NUMBERS)]
            if self._random.random() < 0.5
            else []
        )

    def _plot(self) -> list[str]:
        folders = [self._folder() for _ in range(self._any([0, 1, 1, 2]))]
        return [
            *self._any([["plot"], ["plot", "--over", "time"], ["report"]]),
            *folders,
            "--out",
            self._any([*PLACES, "x.png", "x.pdf", "x.exe", ".png", "noext", "a.b.svg"]),
        ]

    def _words(self) -> list[str]:
        words = [
            "envs",
            "presets",
            "train",
            "trian",
            "--version",
            "--help",
            "-h",
            "",
            *PLACES,
            *NUMBERS,
            *PRESETS,
        ]
        return [self._any(words) for _ in range(self._any([0, 1, 2, 3]))]


class TooLong(BaseException):
    """A line that does not end."""


def outcome(line: list[str], seconds: float = LIMIT, alone: bool = False) -> tuple[int, str, str]:
    """``(exit code, output, error)`` of a line, run here or in a process of its own."""
    if alone:
        words = [sys.executable, "-m", "ddpg_jax.runs.cli.commands", *line]
        paths = os.pathsep.join([str(HERE.parent), str(HERE)])
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env={**os.environ, "PYTHONPATH": paths},
        )
        return done.returncode, done.stdout, done.stderr

    def stop(number: int, frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(int(seconds))
    try:
        result = CliRunner().invoke(commands.main, line, standalone_mode=True)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return (
            -1,
            result.stdout,
            f"{result.stderr}Traceback of a {type(result.exception).__name__}: {result.exception}",
        )
    return result.exit_code, result.stdout, result.stderr


def wrong(
    line: list[str], before: set[Path], folder: Path, found: tuple[int, str, str]
) -> list[str]:
    """What is not as it should be."""
    code, output, error = found
    complaints = []
    allowed = (0, 1, 2) if line[:1] == ["check"] else (0, 2)
    if code not in allowed:
        complaints.append(f"exit code {code}")
    if "Traceback" in output + error and "--traceback" not in line:
        complaints.append("a traceback")
    if "this is a bug in" in error:
        complaints.append("an error that nobody expected")
    lines = error.splitlines()
    if (
        "--traceback" not in line
        and (len(lines) > 2 or (code == 2 and not lines))
        and not output.startswith("Usage")
    ):
        complaints.append(f"{len(lines)} lines of error")
    new = {path for path in folder.rglob("*") if path.is_dir()} - before
    if code == 2 and new:
        complaints.append(f"left {sorted(str(path.relative_to(folder)) for path in new)[:3]}")
    return complaints


def fuzz(
    count: int, seed: int, folder: Path, alone: float = 0.0, say: object = None
) -> list[tuple[list[str], list[str], str]]:
    """Run so many lines in a folder, a share of them in processes of their own; those that went
    wrong."""
    lines, failures, choose = Lines(seed), [], random.Random(seed + 1)
    for number in range(count):
        line = lines.draw()
        before = {path for path in folder.rglob("*") if path.is_dir()}
        begin = time.perf_counter()
        separately = choose.random() < alone and not any(
            "\x00" in word or "\udcff" in word for word in line
        )
        try:
            found = outcome(line, alone=separately)
        except (TooLong, subprocess.TimeoutExpired):
            found = (-2, "", "it took too long")
        complaints = wrong(line, before, folder, found)
        if complaints:
            failures.append((line, complaints, found[2] or found[1]))
        for path in {path for path in folder.iterdir() if path.is_dir()} - before:
            shutil.rmtree(path, ignore_errors=True)
        if say:
            took = time.perf_counter() - begin
            shown = " ".join(word[:40] for word in line)
            print(
                f"{number:4} {found[0]:3} {took:5.1f} s  {shown!r}  {'; '.join(complaints)}",
                file=say,
                flush=True,
            )
    return failures


def main() -> None:
    """Run many lines and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--alone", type=float, default=0.05, help="share of the lines in a process of its own"
    )
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    begin, home = time.perf_counter(), os.getcwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        prepare(Path(name))
        failures = fuzz(
            options.lines,
            options.seed,
            Path(name),
            options.alone,
            sys.stderr if options.verbose else None,
        )
        os.chdir(home)
    for line, complaints, said in failures:
        print(f"{[word[:60] for word in line]}\n    {'; '.join(complaints)}\n    {said[-1_500:]!r}")
    print(
        f"{options.lines} lines of seed {options.seed}: {len(failures)} wrong, in "
        f"{time.perf_counter() - begin:.0f} s"
    )
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
