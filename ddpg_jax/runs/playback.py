"""What a finished run shows: evaluation and animation of its newest checkpoint."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpg_jax import rollout
from ddpg_jax.envs import gymnasium
from ddpg_jax.envs.render import film
from ddpg_jax.export import policy
from ddpg_jax.runs import fits, out, statistics, video
from ddpg_jax.runs.build import LATER, build, environment, evaluation_keys, evaluator, held_out
from ddpg_jax.runs.config import Config, load, require_same
from ddpg_jax.runs.folder import plain, write
from ddpg_jax.runs.saved import Saved
from ddpg_jax.runs.sweeps import outcome
from ddpg_jax.types import Agent, AgentState, Environment, HostEnvironment

MOST_FRAMES = 10_000
"""Of a film."""


def restored(folder: Path) -> tuple[Config, Agent, int, AgentState]:
    """A run's configuration, agent, environment steps at the newest checkpoint, and the agent's state there.

    Raises:
        FileNotFoundError: the folder holds no run, or no checkpoint that can be read.
        ValueError: its checkpoints are of another version of this library, or of another configuration.
    """
    config = load(folder)
    if not (folder / "checkpoints").is_dir():
        raise FileNotFoundError(f"{folder} has no checkpoint: train it first.")
    config = dataclasses.replace(config, mesh="")  # on one device, whatever it was trained on
    checkpoints = Saved(folder / "checkpoints", read_only=True)
    built = build(config)
    say = lambda text: print(text, file=sys.stderr)
    try:
        steps, state, record = checkpoints.restore(config, built.state, say, goes_on=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder} has {error}: train it first.") from error
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    finally:
        checkpoints.close()
    require_same(record["config"], config.flat())
    return config, built.agent, steps, state.agent


def evaluate(folder: Path, episodes: int, seed: int, member: int | None = None) -> dict[str, Any]:
    """Returns of ``episodes`` fresh deterministic episodes for each member of a run, or for one.

    Raises:
        ValueError: there is no such member.
    """
    config, agent, steps, agent_state = restored(folder)
    require_member(config, member or 0)
    play = evaluator(config, agent, episodes)
    played = held_out(np.asarray(play(agent_state, evaluation_keys(config, LATER, seed)), np.float64), config)
    returns = played.reshape(config.seeds, -1)[slice(None) if member is None else [member]]
    means = returns.mean(axis=1)
    return {
        "run": str(folder),
        "env": config.env,
        "env_steps": steps,
        "episodes": episodes,
        "seed": seed,
        **({} if member is None else {"member": member}),
        **spread_of(means, returns.std(axis=1)),
    }


def evaluate_sweep(folder: Path, episodes: int, seed: int) -> dict[str, Any]:
    """Returns of every member of a sweep, run by run."""
    plan = outcome.read(folder)
    found: dict[int, list[float]] = {}
    for index, part in enumerate(plan["parts"]):
        played = evaluate(outcome.part_folder(folder, index), episodes, seed)
        each = zip(played["returns"], played["return_std"], strict=True)
        found |= dict(zip(part["members"], each, strict=False))  # those that fill a run up are behind
    means, stds = (np.array([found[number][i] for number in sorted(found)], np.float64) for i in range(2))
    about = {"run": str(folder), "env": plan["env"], "episodes": episodes, "seed": seed}
    return {**about, **spread_of(means, stds)}


def spread_of(means: np.ndarray, stds: np.ndarray) -> dict[str, Any]:
    """What is said of a return of each member; those that are NaN are in no mean."""
    known = means[np.isfinite(means)]
    mean, middle = (float(known.mean()), float(statistics.interquartile_mean(known))) if known.size else (None, None)
    return {"mean_return": mean, "returns": plain(means), "return_std": plain(stds), "interquartile_mean": middle}


def acting(folder: Path, member: int) -> Callable[[Any], Any]:
    """``action(observation)`` for ``[B, ...]`` of one member of a run, in the environment's own units, compiled.

    Raises:
        ValueError: there is no such member.
    """
    config, agent, _, agent_state = restored(folder)
    state, env = member_state(config, agent_state, member), environment(config, 1)
    return jax.jit(lambda observation: env.native_action(agent.act(state, observation)))


def export(folder: Path, path: Path, member: int) -> str:
    """Write the policy of one member of a run as StableHLO; returns the file written.

    Raises:
        ValueError: there is no such member.
    """
    path = out.target(path)
    config, agent, _, agent_state = restored(folder)
    exported = policy(agent, member_state(config, agent_state, member), environment(config, 1))
    write(path, bytes(exported.serialize()))
    return str(path)


def member_state(config: Config, agent_state: AgentState, member: int) -> AgentState:
    """The state of one member of a run.

    Raises:
        ValueError: there is no such member.
    """
    require_member(config, member)
    return agent_state if config.seeds == 1 else jax.tree.map(lambda x: x[member], agent_state)


def require_member(config: Config, member: int) -> None:
    """Raise ``ValueError`` where a run has no such member."""
    if member >= config.seeds:
        raise ValueError(f"member={member}: this run has {config.seeds} member(s), numbered from 0.")


def render(folder: Path, path: Path, steps: int | None, seed: int, member: int, form: str | None = None) -> str:
    """Animate one member of a run; returns the file written.

    Args:
        folder: the run's.
        path: without suffix.
        steps: to play; None is an episode.
        seed: of the start.
        member: of a run with several seeds.
        form: "gif", "mp4" or "html"; None is the environment's viewer, or else a GIF.

    Raises:
        ValueError: there is no such member, or the environment cannot be drawn in this form.
        ImportError: a library that draws is missing.
    """
    video.use_headless_opengl()
    out.target(path.with_name(f"{path.name}.{form or 'gif'}") if path.name else path)
    config, agent, _, agent_state = restored(folder)
    agent_state = member_state(config, agent_state, member)
    env = environment(config, 1)
    if (steps or env.time_limit or 0) > MOST_FRAMES:
        raise ValueError(f"an episode may last {env.time_limit} steps, a film at most {MOST_FRAMES}: give fewer --steps.")
    if isinstance(env, HostEnvironment):
        if form == "html":
            raise ValueError(f"{config.env} has no HTML viewer: choose --format gif or mp4.")
        name, compiled = config.env.removeprefix(gymnasium.PREFIX), jax.jit(agent.act)
        act = lambda observation: np.asarray(compiled(agent_state, observation))
        frames, fps = _drawn(lambda: gymnasium.film(name, act, steps, seed, **config.env_options))
        return video.write(frames, path.with_name(f"{path.name}.{form or 'gif'}"), fps)
    form = form or ("gif" if env.view.viewer is None else "html")
    own = _by_scene(env)
    look: Callable[[Any], Any] | None = env.view.viewer if form == "html" else env.view.draw or own
    if look is None:
        raise ValueError(f"{config.env} cannot be drawn as {form}.")
    trajectory = rollout.make_trajectory(agent, env, steps or env.time_limit)
    states = jax.eval_shape(trajectory, agent_state, jax.random.key(seed))
    fits.require_memory([fits.Part("what is drawn", fits.size(states), "--steps")])
    played = jax.jit(trajectory)(agent_state, jax.random.key(seed))
    shown = rollout.frames(env, played)
    picture = _drawn(lambda: look(shown), None if own is None or form == "html" else lambda: own(shown))
    path = path.with_name(f"{path.name}.{form}")
    if form != "html":
        return video.write(picture, path, env.view.fps)
    write(path, picture)
    return str(path)


def _by_scene(env: Environment) -> Callable[[Any], Any] | None:
    """What draws states without OpenGL, where the environment has a scene."""
    if env.single is None or env.single.scene is None:
        return None
    return functools.partial(film, env.single.scene)


def _drawn(draw: Callable[[], Any], instead: Callable[[], Any] | None = None) -> Any:
    """Call; where there is no OpenGL, draw in another way, or say what to do."""
    try:
        return draw()
    except Exception as error:  # each of the ways to OpenGL has its own kind
        if video.has_opengl():
            raise
        if instead is not None:
            return instead()
        raise ValueError(
            f"the simulator cannot draw here ({error}): without a screen set MUJOCO_GL=egl or MUJOCO_GL=osmesa, with Debian's "
            "libegl1 or libosmesa6 installed."
        ) from error
