"""Films: their frames, their speed, and what happens without what draws."""

import builtins
import os
import subprocess
import sys
import time
import types
import warnings

import gymnasium
import jax
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import TINY_RUN
from PIL import Image, ImageSequence

import ddpg_jax
from ddpg_jax import envs, runs
from ddpg_jax.checks import UnknownName
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.console import status
from ddpg_jax.runs.results import policy, render, video


def bars(count):
    """Frames in which a white bar moves to the right."""
    frames = np.zeros((count, 62, 100, 3), np.uint8)  # not multiples of 16
    for number in range(count):
        frames[number, :, 2 * number : 2 * number + 10] = 255
    return list(frames)


def test_a_gif_has_the_frames_and_the_speed(tmp_path):
    with Image.open(video.write_video(bars(9), tmp_path / "film.gif", 20.0)) as film:
        frames = [np.asarray(frame.convert("L"), int) for frame in ImageSequence.Iterator(film)]
        assert (film.info["duration"], film.info["loop"]) == (50, 0), "for ever"
    np.testing.assert_allclose(frames, [frame[..., 0] for frame in bars(9)], atol=8)


def test_a_gif_of_a_fast_simulation_keeps_its_speed(tmp_path):
    with Image.open(video.write_video(bars(9), tmp_path / "film.gif", 100.0)) as film:
        assert (film.n_frames, film.info["duration"]) == (5, 20)


def test_an_mp4_has_the_frames_and_the_speed(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="MP4 needs FFmpeg")
    from imageio import v3 as imageio

    path = video.write_video(bars(9), tmp_path / "film.mp4", 20.0)
    with warnings.catch_warnings():  # JAX, of the fork that starts FFmpeg
        warnings.simplefilter("ignore")
        frames, fps = (
            imageio.imread(path, plugin="FFMPEG").astype(int),
            imageio.immeta(path, plugin="FFMPEG")["fps"],
        )
    assert fps == 20
    assert frames.shape == (9, 62, 100, 3)
    assert np.abs(frames - np.array(bars(9))).mean() < 10


def test_mp4_without_imageio_says_what_to_do(tmp_path, monkeypatch):
    plain = builtins.__import__

    def without(name, *rest, **options):
        if name.startswith("imageio"):
            raise ImportError("No module named 'imageio'")
        return plain(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ImportError,
        match=r"MP4 needs FFmpeg .*pip install 'imageio\[ffmpeg\]', or choose --format gif",
    ):
        video.write_video(bars(2), tmp_path / "film.mp4", 20.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films") / "run"
    small = [
        "--total-timesteps",
        60,
        "--learning-starts",
        20,
        "--steps-per-chunk",
        20,
        "--time-limit",
        10,
    ]
    small += [
        "--replay-capacity",
        100,
        "--batch-size",
        8,
        "--hidden",
        8,
        "--evaluate-every",
        0,
        "--evaluation-episodes",
        2,
        "--final-episodes",
        2,
    ]
    words = ["train", "pendulum", "--run-dir", folder, *small]
    assert CliRunner().invoke(commands.main, [str(word) for word in words]).exit_code == 0
    return folder


@pytest.mark.parametrize("form", ["gif", "mp4"])
def test_the_command_writes_each_form(run, tmp_path, form):
    if form == "mp4":
        pytest.importorskip("imageio_ffmpeg", reason="MP4 needs FFmpeg")
    words = ["render", run, "--format", form, "--steps", 6, "--out", tmp_path / "film"]
    result = CliRunner().invoke(commands.main, [str(word) for word in words])
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout.strip() == str(tmp_path / f"film.{form}")
    assert (tmp_path / f"film.{form}").stat().st_size > 1_000


def test_a_form_that_there_is_not(run):
    result = CliRunner().invoke(commands.main, ["render", str(run), "--format", "html"])
    assert result.exit_code == 2
    assert "pendulum cannot be drawn as html" in result.stderr


def test_no_opengl_is_one_sentence(monkeypatch):
    monkeypatch.setattr(render, "failed", None)
    monkeypatch.setattr(video, "has_opengl", lambda: False)

    def draw():
        raise RuntimeError("an OpenGL platform library has not been loaded")

    with pytest.raises(
        ValueError, match=r"the simulator cannot draw here .*MUJOCO_GL=egl or MUJOCO_GL=osmesa"
    ):
        render._drawn(draw)


def test_an_error_of_another_kind_stays_what_it_is(monkeypatch):
    monkeypatch.setattr(video, "has_opengl", lambda: True)
    with pytest.raises(IndexError):
        render._drawn(lambda: [][0])


def test_the_name_of_the_file_is_its_form(run, tmp_path):
    def written(*words):
        done = CliRunner().invoke(commands.main, ["render", str(run), "--steps", "2", *words])
        return (done.stdout.strip(), done.exit_code, " ".join(done.stderr.split()))

    for name, wanted in (("film.gif", "film.gif"), ("v1.5", "v1.5.gif"), ("a.GIF", "a.gif")):
        assert written("--out", str(tmp_path / name))[0] == str(tmp_path / wanted)
    assert written("--out", str(tmp_path / "b.gif"), "--format", "gif")[0] == str(
        tmp_path / "b.gif"
    )
    refused = written("--out", str(tmp_path / "film.mp4"), "--format", "gif")
    assert (refused[1], "film.mp4 is no gif file" in refused[2]) == (2, True)


@pytest.mark.parametrize(
    ("name", "form", "wanted"),
    [
        ("film", None, "film.gif"),
        ("film", "mp4", "film.mp4"),
        ("film.mp4", None, "film.mp4"),
        ("v1.5", "html", "v1.5.html"),
    ],
)
def test_what_is_written_is_known_before_anything_is_drawn(
    tmp_path, monkeypatch, name, form, wanted
):
    """Whether it may be written is asked of the file that will be."""

    class Asked(Exception):
        pass

    def asked(path):
        raise Asked(path)

    monkeypatch.setattr(render.output_path, "require_writable", asked)
    with pytest.raises(Asked) as caught:
        render.render(tmp_path, tmp_path / name, None, 0, 0, form)
    assert caught.value.args == (tmp_path / wanted,)


def test_the_home_folder(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    done = CliRunner().invoke(commands.main, ["render", str(run), "--steps", "2", "--out=~/film"])
    assert done.stdout.strip() == str(tmp_path / "film.gif")
    done = CliRunner().invoke(commands.main, ["render", "~/nothing"])
    assert f"{tmp_path}/nothing does not hold a run" in " ".join(done.stderr.split())
    done = CliRunner().invoke(commands.main, ["render", "~nobody-here/run"])
    assert "~nobody-here/run: there is no such user" in done.stderr
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/nothing does not hold a run"):
        ddpg_jax.runs.train(run_dir="~/nothing", resume=True)


TWICE = """
from ddpg_jax.envs import gymnasium
from ddpg_jax.runs.results import render
import numpy as np

act = lambda observation: np.zeros((1, 3), np.float32)
for _ in range(2):
    try:
        render._drawn(lambda: gymnasium.film("Hopper-v5", act, 2, 0))
    except ValueError as error:
        print(error)
"""


def test_a_second_film_after_one_that_failed_does_not_end_the_process():
    """GLFW without a screen: OpenGL's library, half loaded, aborts when it is used again."""
    pytest.importorskip("mujoco")
    known = {name: text for name, text in os.environ.items() if name != "DISPLAY"}
    done = subprocess.run(
        [sys.executable, "-c", TWICE],
        env=known | {"MUJOCO_GL": "glfw"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the simulator cannot draw here") == 2


UNSEEN = """
import jax.numpy as jnp
from ddpg_jax import envs

def single(scene):
    reset = lambda key: (jnp.zeros(2), jnp.zeros(2))
    step = lambda state, action, key: (state + 0.1, state, jnp.float32(0), jnp.bool_(False))
    return envs.SingleEnvironment(reset, step, 1, scene=scene)

def counted(num_envs):
    # Drawn from its scene, without OpenGL and frame by frame.
    return envs.make("pendulum", num_envs, time_limit=5)._replace(renderer=envs.Renderer())

def make(num_envs, scene=None):
    return envs.batch(single(scene and (lambda state: state)), num_envs, time_limit=5)
"""


class Blind(gymnasium.Env):
    """Draws nothing, and says so."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    render_mode = None

    def __init__(self, render_mode=None):
        pass

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        return np.zeros(2, np.float32), {}

    def step(self, action):  # noqa: ARG002
        return np.zeros(2, np.float32), 0.0, False, False, {}


class Drawn(Blind):
    """Draws, and says so."""

    render_mode = "rgb_array"
    metadata = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def unseen(tmp_path, monkeypatch):
    (tmp_path / "unseen.py").write_text(UNSEEN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "unseen", raising=False)
    for kind in (Blind, Drawn):
        gymnasium.register(f"{kind.__name__}-v0", kind, max_episode_steps=5)
    yield
    for kind in (Blind, Drawn):
        del gymnasium.registry[f"{kind.__name__}-v0"]


@pytest.mark.parametrize(
    ("env", "options", "drawable"),
    [
        ("unseen:make", {}, False),
        ("unseen:make", {"scene": True}, True),
        ("gymnasium/Blind-v0", {}, False),
        ("gymnasium/Drawn-v0", {}, True),
    ],
)
@pytest.mark.usefixtures("unseen")
def test_a_run_is_said_to_be_rendered_where_it_can_be(tmp_path, capsys, env, options, drawable):
    size = TINY_RUN | {"progress": True, "env_options": options}
    runs.train(env, run_dir=tmp_path / "run", **size)
    told = f"render it: ddpg-jax render {tmp_path / 'run'}" in capsys.readouterr().out
    assert told == drawable
    _, known = policy.declared_environment(tmp_path / "run")
    assert known.drawable == drawable, "a sweep asks it"
    if not drawable:
        words = ["render", str(tmp_path / "run"), "--out", str(tmp_path / "film")]
        result = CliRunner().invoke(commands.main, words)
        assert result.exit_code == 2
        reason = "draws no pictures" if "gymnasium" in env else "cannot be drawn: its Single"
        assert f"{env} {reason}" in " ".join(result.stderr.split())


@pytest.mark.usefixtures("standard_promotion")
def test_an_environment_of_brax_without_a_system_cannot_be_drawn():
    assert not envs.make("brax/fast", 1).drawable
    assert envs.make("brax/reacher", 1).drawable


@pytest.mark.parametrize(
    ("options", "drawable"),
    [pytest.param({}, False, marks=pytest.mark.slow), ({"scene": True}, True)],
)
@pytest.mark.usefixtures("unseen")
def test_the_best_of_a_sweep_is_said_to_be_rendered_where_it_can_be(
    tmp_path, capsys, options, drawable
):
    size = TINY_RUN | {"progress": True, "env_options": options}
    runs.sweep("unseen:make", {"tau": [0.1, 0.2]}, run_dir=tmp_path / "sweep", **size)
    printed = " ".join(capsys.readouterr().out.split())
    assert "fresh episodes" in printed
    assert (f"; render it: ddpg-jax render {tmp_path / 'sweep'}" in printed) == drawable


@pytest.mark.slow
@pytest.mark.usefixtures("unseen")
def test_a_render_says_what_is_under_way(tmp_path, monkeypatch):
    runs.train("unseen:counted", run_dir=tmp_path / "run", **TINY_RUN)
    runs.train("gymnasium/Drawn-v0", run_dir=tmp_path / "host", **TINY_RUN)
    seen = []
    file = render.render(tmp_path / "run", tmp_path / "film", None, 0, 0, "gif", seen.append)
    frames = [f"drawing frame {number} of 5" for number in range(1, 6)]
    begun = ["restoring", "compiling", "playing 5 steps", "drawing 5 frames"]
    assert seen == [*begun, *frames, f"writing {file}"]
    seen.clear()
    file = render.render(tmp_path / "host", tmp_path / "host", 3, 0, 0, None, seen.append)
    frames = [f"drawing frame {number} of at most 4" for number in range(1, 4)]
    assert seen == ["restoring", "compiling", *frames, f"writing {file}"]

    words = ["render", str(tmp_path / "run"), "--steps", "3"]
    done = CliRunner().invoke(commands.main, words)
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'run' / 'episode.gif'}\n", ""), "quickly"
    monkeypatch.setattr(status, "SECONDS", 0.2)
    film = render.film

    def slow(*arguments, on_frame):
        def later(number):
            on_frame(number)
            time.sleep(0.5)

        return film(*arguments, on_frame=later)

    monkeypatch.setattr(render, "film", slow)
    done = CliRunner().invoke(commands.main, words)
    assert done.stdout == f"{tmp_path / 'run' / 'episode.gif'}\n"
    told = list(dict.fromkeys(done.stderr.splitlines()))
    assert [line for line in told if line.startswith("drawing frame")] == [
        f"drawing frame {number} of 3" for number in (1, 2, 3)
    ]


def test_folders_of_a_film_are_made_and_may_be_there(tmp_path):
    frames = [np.zeros((4, 4, 3), np.uint8)]
    path = tmp_path / "a" / "b" / "film.gif"
    for _ in range(2):
        assert video.write_video(frames, path, 10) == str(path)


@pytest.fixture
def looked_at(monkeypatch):
    """What `render.render` shows of an environment that is given, without a run: the file, the
    form, and what begins."""
    written, phases = [], []
    monkeypatch.setattr(policy, "restore_policy", lambda *given: ("config", "agent", 7, "states"))
    monkeypatch.setattr(policy, "member_state", lambda config, states, member: (states, member))
    seed = lambda key: jax.random.key_data(key).tolist()[-1]
    player = lambda *made: lambda state, key: ("played", *made[:-1], state, seed(key))
    monkeypatch.setattr(render, "_make_player", player)
    frames = lambda frames, path, fps: written.append((frames, path.name, fps)) or str(path)
    monkeypatch.setattr(video, "write_video", frames)
    monkeypatch.setattr(
        render.files, "write_file", lambda path, page: written.append((page, path.name))
    )

    def look(folder, env, form=None, steps=None):
        config = policy.restore_policy(folder)[0]
        monkeypatch.setattr(policy, "declared_environment", lambda run: (config, env))
        written.clear()
        phases.clear()
        out = folder / "film"
        path = render.render(folder, out, steps, 3, 1, form, phases.append)
        (found,) = written
        return path.removeprefix(f"{folder}/"), found, [*phases]

    return look


def viewed(**looks):
    """A pendulum of 200 steps that is drawn in these ways alone."""
    env = envs.make("pendulum", 1)
    renderer = env.renderer._replace(**{"draw": None, "viewer": None, "fps": 25} | looks)
    return env._replace(renderer=renderer, single=env.single._replace(scene=None))


def test_the_form_is_that_of_the_viewer_or_a_gif(looked_at, tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "restore_policy", lambda *given: (PENDULUM, "agent", 7, "states"))
    draw, viewer = (lambda states: ("drawn", states), lambda states: ("page", states))
    played = lambda env, steps: ("played", "agent", env, steps, ("states", 1), 3)
    begun = lambda steps, name: [
        "restoring",
        f"drawing {steps} frames",
        f"writing {tmp_path / name}",
    ]
    env = viewed(draw=draw)
    frames = ("drawn", played(env, 200))
    assert looked_at(tmp_path, env) == (
        "film.gif",
        (frames, "film.gif", 25),
        begun(200, "film.gif"),
    )
    frames = ("drawn", played(env, 5))
    found = looked_at(tmp_path, env, "mp4", 5)
    assert found == ("film.mp4", (frames, "film.mp4", 25), begun(5, "film.mp4"))
    bare = viewed(draw=draw)._replace(single=None)
    assert looked_at(tmp_path, bare)[1][0][0] == "drawn"
    env = viewed(draw=draw, viewer=viewer)
    page = ("page", played(env, 200))
    assert looked_at(tmp_path, env)[:2] == ("film.html", (page, "film.html"))
    assert looked_at(tmp_path, env, "gif")[1][0][0] == "drawn"
    with pytest.raises(ValueError, match="pendulum cannot be drawn as gif"):
        looked_at(tmp_path, viewed(viewer=viewer), "gif")
    with pytest.raises(ValueError, match="pendulum cannot be drawn as html"):
        looked_at(tmp_path, viewed(draw=draw), "html")
    with pytest.raises(ValueError, match="pendulum cannot be drawn: its SingleEnvironment has no"):
        looked_at(tmp_path, viewed())


def test_a_film_has_at_most_ten_thousand_frames(looked_at, tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "restore_policy", lambda *given: (PENDULUM, "agent", 7, "states"))
    env = viewed(draw=lambda states: "drawn")
    assert looked_at(tmp_path, env, steps=10_000)[0] == "film.gif"
    long = env._replace(time_limit=10_001)
    assert looked_at(tmp_path, long, steps=5)[0] == "film.gif"
    for given, steps in ((env, 10_001), (long, None)):
        with pytest.raises(ValueError, match="an animation has at most 10000 frames"):
            looked_at(tmp_path, given, steps=steps)


@pytest.mark.parametrize(
    ("limit", "steps", "most"), [(200, None, 201), (200, 5, 6), (None, None, 1001)]
)
def test_a_film_of_a_host_environment_is_played_there(
    looked_at, tmp_path, monkeypatch, limit, steps, most
):
    host = envs.make("gymnasium/Pendulum-v1", 1)
    agent = types.SimpleNamespace(act=lambda state, observation: 2 * observation)
    config = types.SimpleNamespace(env="gymnasium/Pendulum-v1", env_options={"g": 9.0})
    monkeypatch.setattr(policy, "restore_policy", lambda *given: (config, agent, 7, "states"))
    monkeypatch.setattr(policy, "member_state", lambda config, states, member: member)
    asked = []

    def film(name, act, steps, seed, counted, **options):
        asked.append((name, act(np.float32([3.0])).tolist(), steps, seed, options))
        counted(4)
        return "frames", 12.5

    monkeypatch.setattr(render.gymnasium, "film", film)
    (tmp_path / "config.json").write_text("{}")
    name, written, phases = looked_at(tmp_path, host._replace(time_limit=limit), None, steps)
    host.close()
    assert (name, written) == ("film.gif", ("frames", "film.gif", 12.5))
    assert asked == [("Pendulum-v1", [6.0], steps, 3, {"g": 9.0})]
    assert phases == [
        "restoring",
        "compiling",
        f"drawing frame 4 of at most {most}",
        f"writing {tmp_path / 'film.gif'}",
    ]
    with pytest.raises(ValueError, match="format html: gymnasium/Pendulum-v1 has no HTML viewer"):
        looked_at(tmp_path, host, "html")


PENDULUM = types.SimpleNamespace(env="pendulum")


def test_what_opengl_cannot_draw_is_drawn_otherwise_from_then_on(monkeypatch):
    """It is not tried again; but who asks for a name that nobody knows is told so."""
    monkeypatch.setattr(render, "failed", None)
    monkeypatch.setattr(video, "has_opengl", lambda: False)
    calls = []
    no = lambda: calls.append(1) or {}["opengl"]
    assert render._drawn(no, lambda: "instead") == "instead"
    assert isinstance(render.failed, KeyError)
    assert render._drawn(no, lambda: "instead") == "instead"
    assert calls == [1]
    with pytest.raises(ValueError, match="the simulator cannot draw here"):
        render._drawn(lambda: "drawn")
    monkeypatch.setattr(render, "failed", None)
    assert render._drawn(lambda: "drawn", no) == "drawn"
    unknown = UnknownName("environment", "x", "")

    def missing():
        raise unknown

    with pytest.raises(UnknownName):
        render._drawn(missing, no)
