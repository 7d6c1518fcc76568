"""Gymnasium's environments, stepped on the host: the same contract as on the device, in NumPy."""

import contextlib
import functools
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ddpg_jax import checks
from ddpg_jax.environment import HostEnvironment
from ddpg_jax.envs import arguments, quiet
from ddpg_jax.envs.channels import channels_last
from ddpg_jax.envs.copies import copies
from ddpg_jax.envs.pixels import OPTIONS, require, seen_options
from ddpg_jax.envs.unknown import of_robotics
from ddpg_jax.envs.vector import vector

__all__ = ["PREFIX", "film", "make", "vector"]

PREFIX = "gymnasium/"
"""How the names of Gymnasium's environments begin."""
COPIES = 100_000
"""More in one process are a slip of the pen."""
EXTRAS = {
    "gymnasium.envs.mujoco": "mujoco",
    "mujoco": "mujoco",
    "imageio": "mujoco",
    "pygame": "classic-control",
    "Box2D": "box2d",
    "ale_py": "atari",
}
"""Which of Gymnasium's extras brings a module."""


def make(
    name: str,
    num_envs: int,
    *,
    time_limit: int | None = None,
    wrappers: Sequence[Callable[[Any], Any]] = (),
    **options: Any,
) -> HostEnvironment:
    """``num_envs`` copies of a registered environment, stepped in turn in this process
    (`ddpg_jax.envs.copies`).

    Args:
        name: an id such as ``HalfCheetah-v5``, or ``module:id`` to import the module that registers
            it first.
        num_envs: E, at least 1.
        time_limit: steps after which an episode is truncated; None is the registered one.
        wrappers: of Gymnasium, put around each copy, the first innermost.
        **options: ``pixels=True`` and what belongs to it (`ddpg_jax.envs.make`) shows pictures.
            Others are handed to ``gymnasium.make``, for the environment's constructor. Gymnasium's
            own checks of what is returned are off unless ``disable_env_checker`` is False.

    Raises:
        ValueError: an unknown id (the nearest known one is named), a number out of its range, or
            spaces that do not fit (`ddpg_jax.envs.spaces`); a `ddpg_jax.checks.BrokenEnvironment`
            where the environment's own code raised.
        ImportError: what the environment needs is not installed.
    """
    import gymnasium

    checks.whole(1, COPIES, num_envs=num_envs)
    seen, given = seen_options({"disable_env_checker": True} | options)
    if time_limit is not None:
        checks.whole(1, time_limit=time_limit)
        given = {"max_episode_steps": time_limit} | given
    _register(name)
    times = stacked = 1
    constructor = _made(name, lambda: _constructor(name), {})
    arguments.require(PREFIX + name, constructor, given, OPTIONS)
    if seen is not None:
        from ddpg_jax.envs.pictures import Pictures

        require(**seen)
        given = {"render_mode": "rgb_array"} | given
        wrappers = (*wrappers, functools.partial(Pictures, **seen))
        times, stacked = seen["action_repeat"], seen["frames"] // seen["frames_per_action"]
    envs: list[Any] = []

    def make_one() -> tuple[Any, Any]:
        envs.append(gymnasium.make(name, **given))
        for wrapper in wrappers:
            envs[-1] = wrapper(envs[-1])
        return envs[-1].observation_space, envs[-1].action_space

    close = functools.partial(_close, envs)
    with _closed_if_raised(close):
        made = _made(name, lambda: [make_one() for _ in range(num_envs)], given)
        if any(other != made[0] for other in made):
            raise checks.BrokenEnvironment(
                f"{PREFIX}{name}: two copies differ in their spaces, which must be the same."
            )
        limit = time_limit or (envs[0].spec and envs[0].spec.max_episode_steps) or None
        spaces, limit = made[0], limit and -(-limit // times)
        env = copies(list(envs), PREFIX + name, limit, spaces[0], spaces[1], close)
    return env._replace(fps=env.fps / times, stacked=stacked)


@contextlib.contextmanager
def _closed_if_raised(close: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            close()
        raise


def _close(envs: list[Any]) -> None:
    """Close all that is left open, also where one raises."""
    with contextlib.ExitStack() as closing:
        while envs:
            closing.callback(envs.pop().close)


def _register(name: str) -> None:
    """Import what stands before the colon, which registers the id after it."""
    module, colon, known_as = name.rpartition(":")
    if not known_as or ":" in module or bool(colon) != bool(module):
        raise ValueError(
            f"{PREFIX}{name} is no id: give gymnasium/<id>, for example "
            "gymnasium/Pendulum-v1, or gymnasium/<module>:<id>."
        )
    if module:
        _made(name, lambda: importlib.import_module(module), {}, f"importing {module}")


def _constructor(name: str) -> Any:
    from gymnasium.envs import registration

    entry = registration.spec(name.rpartition(":")[2]).entry_point
    return registration.load_env_creator(entry) if isinstance(entry, str) else entry


def _made(name: str, make: Callable[[], Any], options: dict[str, Any], what: str = "make") -> Any:
    """Call ``make`` in silence; what goes wrong is one sentence."""
    import gymnasium

    try:
        with quiet.quiet():
            return make()
    except (ModuleNotFoundError, gymnasium.error.DependencyNotInstalled) as error:
        raise _missing(name, error) from error
    except ImportError as error:
        raise ImportError(
            f"{PREFIX}{name} could not be imported: {checks.first_line(error)}"
        ) from error
    except gymnasium.error.UnregisteredEnv as error:
        if name.rpartition(":")[2] in gymnasium.registry:  # its constructor asks for another one
            raise checks.broken(PREFIX + name, what, error) from error
        where = "Gymnasium's ids are in gymnasium.registry."
        module, colon, known_as = name.rpartition(":")
        where += "" if module else f" One that a module registers is {PREFIX}<module>:{known_as}."
        nearest = checks.nearest(
            "environment", known_as, gymnasium.registry, where, PREFIX + module + colon
        )
        raise (None if module else of_robotics(PREFIX + name)) or nearest from error
    except gymnasium.error.Error as error:
        raise ValueError(f"{PREFIX}{name} cannot be made: {checks.first_line(error)}") from error
    except Exception as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown and unknown[1] in options:
            raise ValueError(
                f"{PREFIX}{name} does not take these options: it has no {unknown[1]!r}."
            ) from error
        raise checks.broken(PREFIX + name, what, error) from error


def _missing(name: str, error: BaseException) -> ImportError:
    """The error for a module that is not installed: of an extra of Gymnasium's, or any other."""
    plain = isinstance(error, ModuleNotFoundError)
    cause = error if plain else error.__cause__
    module = getattr(cause, "name", None) or ""
    extra = next(
        (extra for start, extra in EXTRAS.items() if f"{module}.".startswith(f"{start}.")), None
    )
    if extra:
        return ImportError(
            f"{name} needs more than Gymnasium itself ({error}); install: pip install "
            f"'gymnasium[{extra}]'"
        )
    if plain and module:
        return ImportError(
            f"{PREFIX}{name} needs the module {module!r}, which is not installed and not "
            "in the working folder."
        )
    return ImportError(f"{PREFIX}{name} needs more than is installed: {checks.first_line(error)}")


def film(
    name: str,
    act: Callable[[Any], np.ndarray],
    steps: int | None,
    seed: int,
    on_frame: Callable[[int], None] = lambda number: None,
    **options: Any,
) -> tuple[list[np.ndarray], float]:
    """Play one episode, or ``steps`` steps, of ``act(observation [1, ...]) -> [1, A]``; frames
    ``[H, W, 3]``, and their rate. ``on_frame(number)`` is called after each.

    Raises:
        ValueError: the environment draws no pictures.
    """
    first = options.pop("channels_first", False)
    env = make(name, 1, **options | {"render_mode": "rgb_array"})
    env = channels_last(env) if first else env
    try:
        observation, frames = env.reset(seed), [env.draw()]
        while len(frames) <= (steps or env.time_limit or 1_000):
            on_frame(len(frames))
            now = env.step(np.asarray(act(observation)))
            observation = now.observation
            if (now.terminated | now.truncated)[0] and steps is None:
                break
            frames.append(env.draw())
    finally:
        env.close()
    shown = [frame for frame in frames if frame is not None]
    if not shown:
        raise ValueError(f"{PREFIX}{name} draws no pictures.")
    return shown, env.fps
