"""Where deterministic policy gradients end: rewards that are piecewise constant in the action.

    python benchmarks/studies/toy_mdp.py

Toy MDP: one state, one step, reward 1 if a < 0 and else 0. The exact Q is that reward, so the
deterministic policy gradient is 0 at every a but 0. A Gaussian policy N(m, sigma^2) has J(m) = P(a
< 0) = Phi(-m / sigma), whose gradient -phi(m / sigma) / sigma REINFORCE estimates from samples; as
sigma falls it vanishes at m != 0 and grows without bound at m = 0. A learned critic has a slope
where the exact one has none.

1D-TOY (Matheron et al. 2019, arXiv:1911.11679, section 4): states [0, 1], actions [-0.1, 0.1],
start 0, s' = clip(s + a, 0, 1), reward 1 and the end where s + a < 0, at most 50 steps. An agent
that has not learned to go left early can be stuck for ever, although it goes on finding rewards.
The first 50 steps are without learning, by the agent's own behaviour.
"""

import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.studies import common
from benchmarks.studies.one_d_toy import NOISES, SETTINGS, one_d_toy, proportion
from ddpg_jax import losses, networks
from ddpg_jax.types import Key, Network, PyTree

STDDEVS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
MEANS = (0.0, 0.05, 0.2, 0.5)
GRID = np.linspace(-1.0, 1.0, 81)
PUBLISHED: dict[str, Any] = {
    "source": "Matheron et al. 2019 (arXiv:1911.11679), section 4: 10,000 seeds, batch 100",
    "steps": 100_000,
    "success": {"ornstein_uhlenbeck": 0.94, "probabilistic": 0.99},
    "rewarded_early": 0.63,
    "success_if_rewarded_early": 1.0,
    "success_if_not": 0.96,
}


@click.command(context_settings={"show_default": True})
@click.option("--seeds", default=200, help="Of 1D-TOY, for each noise.")
@click.option("--seed", default=0, help="Of everything random.")
@click.option("--steps", default=2_000, help="Of 1D-TOY, each with one update.")
@click.option(
    "--final-bound",
    type=float,
    default=None,
    help="Of 1D-TOY's final layers at the start. [default: fan-in]",
)
@click.option("--samples", default=100_000, help="Of each REINFORCE estimate.")
@click.option("--critics", default=10, help="Learned critics of the toy MDP.")
@click.option("--critic-steps", default=2_000, help="Of each of them.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/study_toy_mdp.json")
)
def main(
    out: Path, seeds: int, seed: int, steps: int, final_bound: float | None, **sizes: int
) -> None:
    """Measure all, and write JSON and, beside it, a picture."""
    begun = time.perf_counter()
    toy = toy_mdp(jax.random.key(seed), **sizes)
    click.echo(f"exact DPG: largest magnitude {toy['deterministic']['largest_magnitude']}")
    deadlock: dict[str, dict[str, Any]] = {}
    for name, make in NOISES.items():
        deadlock[name] = found = one_d_toy(make(), seeds, seed, steps, final_bound)
        low, high = found["success"]["interval"]
        split = {
            part: found[part]["rate"] for part in ("success_if_rewarded_early", "success_if_not")
        }
        click.echo(
            f"1D-TOY, {name}: {found['success']['rate']:.3f} [{low:.3f}, {high:.3f}] "
            f"after {steps} steps; {split}"
        )
    minutes = sum(found["seconds"] for found in deadlock.values()) * PUBLISHED["steps"] / steps / 60
    result = {
        "settings": {
            "seeds": seeds,
            "seed": seed,
            "steps": steps,
            "final_bound": final_bound,
            **sizes,
            "one_d_toy": SETTINGS,
        },
        "note": f"1D-TOY ran for {steps:,} of the paper's {PUBLISHED['steps']:,} steps; those "
        f"take {minutes:.0f} minutes.",
        "toy_mdp": toy,
        "one_d_toy": deadlock,
        "published": PUBLISHED,
    }
    common.finish(out, result, draw(toy, deadlock), begun)


def toy_mdp(key: Key, *, samples: int, critics: int, critic_steps: int) -> dict[str, Any]:
    """The three gradients of the toy MDP: of the exact Q, of Gaussian policies and of learned
    critics.
    """
    exact_key, gaussian_key, critic_key = jax.random.split(key, 3)
    return {
        "deterministic": exact_gradient(exact_key, samples),
        "gaussian": [
            gaussian_gradient(each, samples, *pair)
            for each, pair in zip(*pairs(gaussian_key), strict=True)
        ],
        "learned_critic": learned_critics(critic_key, critics, critic_steps),
    }


def reward(action: jax.Array) -> jax.Array:
    """The toy MDP's reward, and so its exact Q."""
    return jnp.where(action < 0, 1.0, 0.0)


def exact_gradient(key: Key, count: int) -> dict[str, Any]:
    """The deterministic policy gradient through the exact Q, at random actions from U[-1, 1] that
    are not 0.
    """
    actions = jax.random.uniform(key, (count,), minval=-1.0, maxval=1.0)
    loss = lambda action: losses.deterministic_policy_gradient(reward(action)[None])
    gradients = np.asarray(jax.vmap(jax.grad(loss))(actions))[np.asarray(actions) != 0]
    return {"actions": len(gradients), "largest_magnitude": float(np.abs(gradients).max())}


def pairs(key: Key) -> tuple[Key, list[tuple[float, float]]]:
    """Every mean with every standard deviation, and a key for each."""
    every = [(mean, stddev) for mean in MEANS for stddev in STDDEVS]
    return jax.random.split(key, len(every)), every


def gaussian_gradient(key: Key, samples: int, mean: float, stddev: float) -> dict[str, float]:
    """dJ/dm of the Gaussian policy: REINFORCE's mean of r (a - m) / sigma^2 with its standard
    error, and the closed form.
    """
    noise = np.asarray(jax.random.normal(key, (samples,)), np.float64)
    terms = np.where(mean + stddev * noise < 0, 1.0, 0.0) * noise / stddev
    closed = -np.exp(-0.5 * (mean / stddev) ** 2) / np.sqrt(2 * np.pi) / stddev
    error = terms.std(ddof=1) / samples**0.5
    return {
        "mean": mean,
        "stddev": stddev,
        "reinforce": float(terms.mean()),
        "standard_error": float(error),
        "closed": float(closed),
    }


def learned_critics(key: Key, count: int, steps: int) -> dict[str, Any]:
    """Critics fitted to the toy MDP's rewards of uniform actions: their values and slopes on a
    grid, and what an actor sees.
    """
    critic: Network = networks.Critic((64, 64), 0)
    optimizer = optax.adam(1e-3)
    observation = jnp.zeros((1,))

    def fit(key: Key) -> PyTree:
        init_key, scan_key = jax.random.split(key)
        params = critic.init(init_key, observation, observation)

        def step(carry: tuple, key: Key) -> tuple[tuple, None]:
            params, state = carry
            action = jax.random.uniform(key, (64, 1), minval=-1.0, maxval=1.0)
            loss = lambda params: jnp.mean(
                losses.squared_error(
                    critic.apply(params, jnp.zeros((64, 1)), action), reward(action[:, 0])
                )
            )
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(
            step, (params, optimizer.init(params)), jax.random.split(scan_key, steps)
        )[0][0]

    def look(key: Key) -> tuple[jax.Array, jax.Array]:
        params = fit(key)
        value = lambda action: critic.apply(params, observation, action[None])
        return jax.vmap(jax.value_and_grad(value))(jnp.asarray(GRID, jnp.float32))

    values, slopes = (
        np.asarray(x, np.float64) for x in jax.jit(jax.vmap(look))(jax.random.split(key, count))
    )
    columns = {
        f"{action:g}": int(np.abs(GRID - action).argmin())
        for action in (-0.9, -0.5, 0.0, 0.1, 0.5, 0.9)
    }
    at = {
        name: {
            "slope": common.spread(slopes[:, column]),
            "towards_reward": float((slopes[:, column] < 0).mean()),
        }
        for name, column in columns.items()
    }
    return {
        "actions": GRID.tolist(),
        "values": values.round(5).tolist(),
        "slopes": slopes.round(5).tolist(),
        "at_action": at,
    }


def draw(toy: dict[str, Any], deadlock: dict[str, Any]) -> Any:
    """The Gaussian policy's gradient, the learned critics, and how many agents solve 1D-TOY."""
    figure, axes = common.canvas(1, 4, 3.7, 3.4)
    gradient, value, slope, solved = axes[0]
    for index, mean in enumerate(MEANS):
        rows = [row for row in toy["gaussian"] if row["mean"] == mean]
        stddev, closed, found, error = (
            np.array([row[name] for row in rows])
            for name in ("stddev", "closed", "reinforce", "standard_error")
        )
        gradient.plot(stddev, -closed, color=f"C{index}", label=f"m = {mean:g}")
        gradient.errorbar(
            stddev, -found, 2 * error, color=f"C{index}", fmt="o", ms=3, capsize=2, lw=1
        )
    gradient.set(
        xscale="log",
        yscale="symlog",
        ylim=(-0.2, None),
        xlabel="sigma",
        title="-dJ/dm: closed form, REINFORCE",
    )
    gradient.legend(fontsize="small")
    critics = toy["learned_critic"]
    for axis, name in ((value, "values"), (slope, "slopes")):
        learned = np.array(critics[name])
        axis.plot(critics["actions"], learned.T, color="C0", lw=0.6, alpha=0.5)
        exact = np.asarray(reward(jnp.asarray(GRID))) if name == "values" else np.zeros(len(GRID))
        axis.plot(GRID, exact, color="black", lw=1.2, ls="--", label="exact")
        axis.plot([], [], color="C0", label=f"{len(learned)} learned")
        axis.set(xlabel="action")
        axis.legend(fontsize="small")
    value.set_title("critic Q(a)")
    slope.set(title="what the actor sees: dQ/da", yscale="symlog")
    for index, (name, found) in enumerate(deadlock.items()):
        count = found["success"]["of"]
        low, high = zip(
            *(proportion(np.arange(count) < hits)["interval"] for hits in found["solved_by_step"]),
            strict=True,
        )
        solved.plot(
            found["steps"],
            np.array(found["solved_by_step"]) / count,
            color=f"C{index}",
            label=name.replace("_", " "),
        )
        solved.fill_between(found["steps"], low, high, color=f"C{index}", alpha=0.2, linewidth=0)
        solved.axhline(PUBLISHED["success"][name], color=f"C{index}", lw=0.8, ls=":")
    solved.set(xlabel="steps", title=f"1D-TOY solved, {count} seeds (dotted: paper, 1e5 steps)")
    solved.legend(fontsize="small", loc="lower right")
    for axis in axes[0]:
        axis.title.set_fontsize("small")
        axis.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
