"""What policies that see nothing earn: random actions, the best constant action, the best square
wave in time.

    python benchmarks/studies/blind.py playground/CartpoleSwingup --action-repeat 8

A deterministic policy without memory that is always shown the same does one action for ever, so no
training on blank pictures ends above the best constant; a square wave knows the time besides. The
best of a kind is chosen on episodes of its own, and its return is of fresh ones.
"""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from ddpg_jax import envs
from ddpg_jax.environment import SingleEnvironment
from ddpg_jax.runs.folder import files
from ddpg_jax.types import Key, PyTree

AT_ONCE = 512
"""Episodes in a call of the one program."""
LEVELS = np.linspace(-1, 1, 41)
AMPLITUDES = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
PERIODS = 24
"""Of square waves, from 8 steps to the whole episode, evenly by their logarithms."""


@click.command(context_settings={"show_default": True})
@click.argument("env")
@click.option("--action-repeat", "repeat", default=1, help="Steps that an action lasts.")
@click.option("--choose", default=8, help="Episodes by which one of a kind is chosen.")
@click.option("--episodes", default=100, help="Fresh ones of each kind.")
@click.option("--seed", default=0)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="[default: benchmarks/results/blind_ENV.json]",
)
def main(env: str, repeat: int, choose: int, episodes: int, seed: int, out: Path | None) -> None:
    """Play ENV, with the same value in all dimensions of an action, and write JSON."""
    made = envs.make(env, 1)
    assert made.single is not None
    play = jax.jit(jax.vmap(episode(made.single, made.time_limit, repeat)))
    result: dict[str, Any] = {}
    for number, (kind, tried) in enumerate(kinds(made.time_limit).items()):
        choosing, fresh = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
        means = (
            returns(play, tried, choose, choosing).mean(axis=1) if len(tried) > 1 else np.zeros(1)
        )
        chosen = tried[int(np.argmax(means))]
        found = returns(play, chosen[None], episodes, fresh)[0]
        action = dict(
            zip(("constant", "amplitude", "period", "random"), chosen.tolist(), strict=True)
        )
        result[kind] = {
            "mean": float(found.mean()),
            "std": float(found.std()),
            "tried": len(tried),
            "action": action,
        }
        click.echo(
            f"{kind}: {found.mean():.1f} ± {found.std():.1f}, the best of {len(tried)}: {action}"
        )
    out = out or Path("benchmarks/results") / f"blind_{harness.slug(env)}.json"
    settings = {
        "env": env,
        "action_repeat": repeat,
        "choose": choose,
        "episodes": episodes,
        "seed": seed,
    }
    files.write_json(out, {**harness.context(), "settings": settings, **result})
    click.echo(str(out))


def kinds(steps: int) -> dict[str, np.ndarray]:
    """What is tried of each kind, ``[N, 4]``: a constant, a wave's amplitude and its period in
    steps, how much is random.
    """
    waves = itertools.product([0.0], AMPLITUDES, np.geomspace(8, steps, PERIODS), [0.0])
    constants = [(level, 0.0, 1.0, 0.0) for level in LEVELS]
    return {
        "random": np.array([[0.0, 0.0, 1.0, 1.0]]),
        "constant": np.array(constants),
        "square_wave": np.array([*waves]),
    }


def episode(
    single: SingleEnvironment, steps: int, repeat: int
) -> Callable[[Key, jax.Array], jax.Array]:
    """``episode(key, tried [4]) -> return`` of at most so many steps."""

    def play(key: Key, tried: jax.Array) -> jax.Array:
        constant, amplitude, period, random = tried
        reset_key, key = jax.random.split(key)

        def step(carry: PyTree, now: jax.Array) -> tuple[PyTree, None]:
            state, total, going = carry
            now = now // repeat * repeat
            wave = jnp.where(now % period < period / 2, amplitude, -amplitude)
            drawn = jax.random.uniform(
                jax.random.fold_in(key, now), (single.action_size,), minval=-1.0
            )
            state, _, reward, over = single.step(
                state, constant + wave + random * drawn, jax.random.fold_in(key, now + steps)
            )
            return (state, total + jnp.where(going, reward, 0.0), going & ~over.astype(bool)), None

        begun = single.reset(reset_key)[0], jnp.zeros(()), jnp.ones((), bool)
        return jax.lax.scan(step, begun, jnp.arange(steps))[0][1]

    return play


def returns(
    play: Callable[..., jax.Array], tried: np.ndarray, episodes: int, key: Key
) -> np.ndarray:
    """``[N, episodes]`` returns of all that is ``tried: [N, 4]``."""
    each = np.repeat(tried, episodes, axis=0).astype(np.float32)
    rows = np.resize(np.arange(len(each)), (-(-len(each) // AT_ONCE), AT_ONCE))
    keys = jax.random.split(key, rows.shape)
    found = [np.asarray(play(keys[i], each[row])) for i, row in enumerate(rows)]
    return np.concatenate(found)[: len(each)].reshape(len(tried), episodes)


if __name__ == "__main__":
    main()
