"""The single measurements of `benchmarks/accelerator.py`: what is compiled and called, by part, the
telling ones first.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

BASE = {"batch_size": 256, "hidden": 256}
MEMBER_STEPS = 20_000
"""What a member of a population is trained for on pendulum."""


class Point(NamedTuple):
    """One measurement: what it is of, who takes part in turns, and how much a call of each is."""

    settings: dict[str, Any]
    contestants: dict[str, Callable[[], Any]]
    """By name, what makes the compiled call."""
    counts: Mapping[str, float]
    """Of a call: ``updates``, ``env_steps``, ``rounds``, ``members`` that are through (each of
    `MEMBER_STEPS`).
    """


def points_of_updates(toy: bool) -> Iterator[Point]:
    """Every agent by batch, width and dtype; the usual sizes first, then those that differ from
    them in one, then the rest.
    """
    batches, widths, iterations = (
        ((4,), (8,), 4) if toy else ((64, 256, 1_024, 4_096, 32_768), (64, 256, 1_024), 200)
    )
    base = {"batch_size": batches[0], "hidden": widths[0]} if toy else BASE
    grid = [{"batch_size": batch, "hidden": width} for batch in batches for width in widths]
    away = lambda one: (
        sum(one["sizes"][name] != base[name] for name in base) + (one["dtype"] != "float32")
    )
    names = ("ddpg",) if toy else ("ddpg", "td3", "d4pg", "td3_categorical")
    all_of: list[dict[str, Any]] = [
        {"agent": name, "dtype": dtype, "sizes": sizes}
        for sizes in grid
        for dtype in ("float32", "bfloat16")
        for name in names
    ]
    for one in sorted(all_of, key=away):
        settings = {"agent": one["agent"], "dtype": one["dtype"], **one["sizes"]}
        beside = one["agent"] in ("ddpg", "td3") and one["dtype"] == "float32" and away(one) < 2
        peers = (
            {"sbx": functools.partial(_sbx, settings, iterations)} if beside and has("sbx") else {}
        )
        yield _updates(settings, iterations, peers)


def points_of_members(toy: bool) -> Iterator[Point]:
    """Many agents in one program, at the usual sizes and at small ones."""
    counts, iterations = ((1, 3), 4) if toy else ((1, 8, 64, 512, 2_048), 100)
    sizes = [{"batch_size": 4, "hidden": 8}] if toy else [BASE, {"batch_size": 64, "hidden": 64}]
    for name in ("ddpg",) if toy else ("ddpg", "td3"):
        for size in sizes:
            for members in counts:
                settings = {"agent": name, "dtype": "float32", **size, "members": members}
                yield _updates(
                    settings, iterations, {}, capacity=10_000 if members < 512 else 2_000
                )


def points_of_population(toy: bool) -> Iterator[Point]:
    """The whole loop of many members in one program: an environment, a replay and an agent each."""
    counts, iterations = ((1, 3), 4) if toy else ((1, 8, 64, 512, 2_048), 100)
    for name in ("ddpg",) if toy else ("ddpg", "td3"):
        for members in counts:
            settings = {
                "agent": name,
                "env": "pendulum",
                "dtype": "float32",
                "num_envs": 1,
                "batch_size": 64,
                "hidden": 64,
            }
            settings |= {"members": members} | ({"batch_size": 4, "hidden": 8} if toy else {})
            batches = 2 if name == "td3" else 1
            steps = iterations * members
            counted = {
                "env_steps": steps,
                "updates": steps * batches,
                "rounds": iterations,
                "members": steps / MEMBER_STEPS,
            }
            yield Point(
                settings, {"ddpg_jax": functools.partial(_loop, settings, {}, iterations)}, counted
            )


def points_of_loop(env: str, options: dict[str, Any], hidden: int, toy: bool) -> Iterator[Point]:
    """The whole loop of TD3, one update of two batches a round, by the number of environments."""
    counts, iterations = ((4,), 4) if toy else ((4_096, 1, 16_384, 256, 16, 1_024), 100)
    for dtype in ("float32",) if toy else ("float32", "bfloat16"):
        for num_envs in counts:
            batch_size = 4 if toy else min(8_192, max(256, 2 * num_envs))
            settings = {"agent": "td3", "env": env, **options, "dtype": dtype, "num_envs": num_envs}
            settings |= {"batch_size": batch_size, "hidden": 8 if toy else hidden}
            counted = {
                "env_steps": iterations * num_envs,
                "updates": 2 * iterations,
                "rounds": iterations,
            }
            yield Point(
                settings,
                {"ddpg_jax": functools.partial(_loop, settings, options, iterations)},
                counted,
            )


def _updates(
    settings: dict[str, Any], iterations: int, others: dict[str, Any], **more: Any
) -> Point:
    def build() -> Any:
        import jax.numpy as jnp

        from benchmarks import workloads

        given = {name: value for name, value in settings.items() if name not in ("agent", "dtype")}
        dtype = getattr(jnp, settings["dtype"])
        return workloads.updates(
            settings["agent"], iterations=iterations, dtype=dtype, **given, **more
        )

    batches = 2 if settings["agent"].startswith("td3") else 1
    counts = {"updates": iterations * settings.get("members", 1), "rounds": iterations // batches}
    return Point(settings, {"ddpg_jax": build, **others}, counts)


def _sbx(settings: dict[str, Any], steps: int) -> Any:
    from benchmarks.peers import sbx

    sizes = {name: settings[name] for name in ("batch_size", "hidden")}
    return sbx.Updates(settings["agent"], **sizes, steps=steps)


def _loop(settings: dict[str, Any], options: dict[str, Any], iterations: int) -> Any:
    import jax.numpy as jnp

    from benchmarks import workloads
    from ddpg_jax import envs

    env = envs.make(settings["env"], settings["num_envs"], **options)
    widths, dtype = (settings["hidden"],) * 2, getattr(jnp, settings["dtype"])
    made = workloads.agent_of(settings["agent"], env.action.shape[-1], widths, dtype)
    return workloads.loop(
        made.agent,
        env,
        capacity=settings["num_envs"] * max(64, 2 * settings["batch_size"] // settings["num_envs"]),
        batch_size=settings["batch_size"] * made.batches,
        updates_per_step=1,
        iterations=iterations,
        keys=_keys(settings.get("members", 1)),
    )


def _keys(members: int) -> Any:
    import jax

    key = jax.random.key(0)
    return jax.random.split(key, members) if members > 1 else key


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
