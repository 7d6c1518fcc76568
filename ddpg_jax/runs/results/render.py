"""Animation of a run's newest checkpoint."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpg_jax import rollout
from ddpg_jax.checks import UnknownName
from ddpg_jax.environment import Environment, HostEnvironment
from ddpg_jax.envs import gymnasium
from ddpg_jax.envs.render import film
from ddpg_jax.runs.config.run_config import Config
from ddpg_jax.runs.config.stored import registered
from ddpg_jax.runs.folder import files, output_path
from ddpg_jax.runs.programs import memory
from ddpg_jax.runs.results import policy, video
from ddpg_jax.types import Agent, AgentState

FORMS = ("gif", "mp4", "html")
failed: Exception | None = None
"""Why OpenGL cannot draw in this process."""
MAX_FRAMES = 10_000
"""Largest number of frames of an animation."""


def render(
    folder: Path,
    path: Path,
    steps: int | None,
    seed: int,
    member: int,
    form: str | None = None,
    on_phase: Callable[[str], None] = lambda name: None,
    checkpoint: str = files.LAST,
) -> str:
    """Write an animation of one member of a run and return the file's name.

    Args:
        folder: the run's.
        path: of the file; without a suffix of a form it gets one.
        steps: steps to play; None is an episode.
        seed: of the episode.
        member: of a run with several seeds.
        form: "gif", "mp4" or "html"; None is that of ``path``, or else the environment's viewer, or
            a GIF.
        on_phase: receives what begins, and each frame that is drawn where it can be counted.
        checkpoint: as of `ddpg_jax.runs.results.policy.restore_policy`.

    Raises:
        ValueError: there is no such member, or the environment cannot be drawn in this form.
        ImportError: a package that draws is missing.
    """
    video.use_headless_opengl()
    path, form = _form_of(path, form)
    named = path.with_name(f"{path.name}.{form or 'gif'}") if path.name else path
    output_path.require_writable(named)
    on_phase("restoring")
    config, agent, _, agent_state = policy.restore_policy(folder, checkpoint)
    agent_state = policy.member_state(config, agent_state, member)
    return make_animation(folder, agent, steps, form, on_phase)(agent_state, path, seed)


def make_animation(
    folder: Path,
    agent: Agent,
    steps: int | None = None,
    form: str | None = None,
    on_phase: Callable[[str], None] = lambda name: None,
) -> Callable[[AgentState, Path, int], str]:
    """Return ``write(agent_state, path, seed)`` of one member, which compiles at its first call.

    Args:
        folder: of the run.
        agent: as it is trained there.
        steps: as of `render`.
        form: as of `render`; None is the environment's viewer, or else a GIF.
        on_phase: as of `render`.

    Raises:
        ValueError: the environment cannot be drawn in this form.
    """
    config, env = policy.declared_environment(folder)
    if (steps or env.time_limit or 0) > MAX_FRAMES:
        raise ValueError(
            f"an animation has at most {MAX_FRAMES} frames, but an episode up to {env.time_limit} "
            "steps: give fewer --steps."
        )
    if isinstance(env, HostEnvironment):
        if form == "html":
            raise ValueError(
                f"format html: {config.env} has no HTML viewer: choose --format gif or mp4."
            )
        return _of_host(folder, config, agent, env, steps, form or "gif", on_phase)
    if not env.drawable:
        raise ValueError(
            f"{config.env} cannot be drawn: its SingleEnvironment has no scene, and its Renderer "
            "neither draw nor viewer."
        )
    kind = form or ("gif" if env.renderer.viewer is None else "html")
    count = steps or env.time_limit
    played = _make_player(agent, env, count, on_phase)

    def write(agent_state: AgentState, path: Path, seed: int) -> str:
        play = functools.partial(played, agent_state, jax.random.key(seed))
        picture = _pictured(config.env, env, kind, count, play, on_phase)
        named = path.with_name(f"{path.name}.{kind}")
        on_phase(f"writing {named}")
        if kind != "html":
            return video.write_video(picture, named, env.renderer.fps)
        files.write_file(named, picture)
        return str(named)

    return write


def _of_host(
    folder: Path,
    config: Config,
    agent: Agent,
    env: HostEnvironment,
    steps: int | None,
    form: str,
    on_phase: Callable[[str], None],
) -> Callable[[AgentState, Path, int], str]:
    name, compiled = config.env.removeprefix(gymnasium.PREFIX), jax.jit(agent.act)
    counted = _counted(on_phase, f"at most {(steps or env.time_limit or 1_000) + 1}")

    def write(agent_state: AgentState, path: Path, seed: int) -> str:
        act = lambda observation: np.asarray(compiled(agent_state, observation))
        on_phase("compiling")
        with registered(folder):
            frames, fps = _drawn(
                lambda: gymnasium.film(name, act, steps, seed, counted, **config.env_options)
            )
        named = path.with_name(f"{path.name}.{form}")
        on_phase(f"writing {named}")
        return video.write_video(frames, named, fps)

    return write


def _pictured(
    name: str,
    env: Environment,
    form: str,
    steps: int,
    played: Callable[[], Any],
    on_phase: Callable[[str], None],
) -> Any:
    """Return what is written: frames, or a page."""
    scene = None if form == "html" or env.single is None else env.single.scene
    counted = _counted(on_phase, str(steps))
    # Needs no OpenGL.
    own = None if scene is None else functools.partial(film, scene, on_frame=counted)
    look: Any = env.renderer.viewer if form == "html" else env.renderer.draw or own
    if look is None:
        raise ValueError(f"{name} cannot be drawn as {form}.")
    shown = played()
    on_phase(f"drawing {steps} frames")
    return _drawn(lambda: look(shown), None if own is None else lambda: own(shown))


def _make_player(
    agent: Agent, env: Environment, steps: int, on_phase: Callable[[str], None]
) -> Callable[[AgentState, Any], Any]:
    """Return ``play(agent_state, key)``, the states of an episode, ``[steps, ...]``."""
    trajectory = jax.jit(rollout.make_trajectory(agent, env, steps))
    compiled: list[Any] = []

    def play(*given: Any) -> Any:
        if not compiled:
            states = jax.eval_shape(trajectory, *given)
            memory.require_memory(
                [memory.MemoryPart("the animation", memory.tree_bytes(states), "--steps")]
            )
            on_phase("compiling")
            compiled.append(trajectory.lower(*given).compile())
        on_phase(f"playing {steps} steps")
        return rollout.frames(env, jax.block_until_ready(compiled[0](*given)))

    return play


def _counted(on_phase: Callable[[str], None], most: str) -> Callable[[int], None]:
    return lambda number: on_phase(f"drawing frame {number} of {most}")


def _form_of(path: Path, form: str | None) -> tuple[Path, str | None]:
    """Return a path without the suffix of a form, and the form."""
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in FORMS:
        return path, form
    if form not in (None, suffix):
        raise ValueError(f"{path.name} is no {form} file: leave --format out, or the suffix.")
    return path.with_suffix(""), suffix


def _drawn(draw: Callable[[], Any], instead: Callable[[], Any] | None = None) -> Any:
    """Draw; where OpenGL is missing draw with ``instead``, or raise an error with a remedy."""
    global failed
    try:
        if failed is not None:  # OpenGL that failed before may end the process
            raise failed
        return draw()
    except UnknownName:
        raise
    except Exception as error:  # its type depends on the OpenGL library
        if failed is None and video.has_opengl():
            raise
        failed = error
        if instead is not None:
            return instead()
        raise ValueError(
            f"the simulator cannot draw here ({error}): without a screen set MUJOCO_GL=egl or "
            "MUJOCO_GL=osmesa, with Debian's libegl1 or libosmesa6 installed."
        ) from error
