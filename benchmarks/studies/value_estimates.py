"""What critics estimate against what then happens, as figure 3 of Lillicrap et al. 2015 asks, for
DDPG, TD3 and D4PG.

    python benchmarks/studies/value_estimates.py

After training, Q(s, mu(s)) of the states that deterministic test episodes visit stands beside the
discounted sum of the rewards that follow. The critics bootstrap through the time limit, so they
estimate the return of an episode that has none: test episodes go on past it, and only the first
states of each are used, each with at least so many steps behind it that what is cut off weighs at
most 1e-3 (gamma^n). Rewards after a termination are 0. TD3's estimate is Q_1, which its actor
climbs; D4PG's is the mean of its distribution.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.studies import common
from ddpg_jax import losses, networks
from ddpg_jax.agents.actor_critic import variables
from ddpg_jax.environment import Environment
from ddpg_jax.runs.config.run_config import Config, make_config
from ddpg_jax.runs.presets import components
from ddpg_jax.runs.presets.d4pg import D4PGHyperparameters
from ddpg_jax.runs.presets.td3 import TD3Hyperparameters
from ddpg_jax.runs.programs import evaluation, setup
from ddpg_jax.runs.tasks import TASKS
from ddpg_jax.types import Agent, AgentState, Key, Network, PyTree

AGENTS = {"DDPG": "default", "TD3": "td3", "D4PG": "d4pg"}
NAMES = ("pendulum", "brax/inverted_pendulum")
TAIL = 1e-3
POINTS = 2_000


@click.command(context_settings={"show_default": True})
@click.option("--task", "tasks", multiple=True, type=click.Choice(NAMES), default=NAMES)
@click.option("--seeds", default=5)
@click.option("--seed", default=0, help="Of the first member.")
@click.option("--steps", default=10_000, help="Environment steps of each member on Pendulum.")
@click.option("--brax-steps", default=40_000, help="The same on the other task.")
@click.option("--window", default=200, help="States of each test episode that are used.")
@click.option("--episodes", default=20, help="Test episodes of each member.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("benchmarks/results/study_value_estimates.json"),
)
def main(
    tasks: tuple[str, ...],
    seeds: int,
    seed: int,
    steps: int,
    brax_steps: int,
    window: int,
    episodes: int,
    out: Path,
) -> None:
    """Train all, compare, and write JSON and, beside it, a picture."""
    begun = time.perf_counter()
    settings = {
        "tasks": {task: dict(TASKS[task].options) for task in tasks},
        "presets": AGENTS,
        "seeds": seeds,
        "seed": seed,
    }
    settings |= {
        "steps": steps,
        "brax_steps": brax_steps,
        "window": window,
        "episodes": episodes,
        "tail_weight": TAIL,
    }
    figures: dict[str, dict[str, Any]] = {}
    points: dict[tuple[str, str], tuple[np.ndarray, ...]] = {}
    for task in tasks:
        figures[task] = {}
        for name, preset in AGENTS.items():
            config = configure(
                task, preset, seeds, seed, steps if task == "pendulum" else brax_steps, episodes
            )
            trained = common.train(config)
            estimated, observed, alive = test(config, trained, window)
            points[task, name] = sample(estimated, observed, alive)
            figures[task][name] = errors(estimated, observed, alive) | {
                "final_return": common.spread(trained.final[0]),
                "seconds": trained.seconds,
                "config": config.flat(),
            }
            each = figures[task][name]["overestimation"]
            click.echo(
                f"{task}, {name}: overestimation {each['mean']:.2f}, std over seeds "
                f"{each['std']:.2f}"
            )
    common.finish(out, {"settings": settings, "tasks": figures}, draw(figures, points), begun)


def configure(task: str, preset: str, seeds: int, seed: int, steps: int, episodes: int) -> Config:
    """The preset's numbers, for so many steps; learning rates that fall, fall to zero over them."""
    options: dict[str, Any] = {
        "env_options": dict(TASKS[task].options),
        "seed": seed,
        "seeds": seeds,
        "total_timesteps": steps,
    }
    options |= {
        "evaluate_every": 0,
        "evaluation_episodes": episodes,
        "learning_starts": min(1_000, steps // 2),
    }
    return make_config(task, preset, **options)


def test(
    config: Config, trained: common.Trained, window: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``[seeds, window, episodes]``: estimates, observed returns, and whether the episode had not
    ended yet.
    """
    gamma = config.hyperparameters.gamma
    after = math.ceil(math.log(TAIL) / math.log(gamma))
    unlimited = replace(config, env_options=config.env_options | {"time_limit": window + after + 1})
    env = setup.environment(unlimited, config.evaluation_episodes)
    assert isinstance(env, Environment)
    look = visit(trained.agent, env, estimator(config, env), gamma, window, after)
    keys = evaluation.evaluation_keys(config, evaluation.LATER_STREAM, 0).reshape(-1)
    estimated, observed, alive = jax.jit(jax.vmap(look))(trained.state, keys)
    return np.asarray(estimated, np.float64), np.asarray(observed, np.float64), np.asarray(alive)


def estimator(
    config: Config, env: Environment
) -> Callable[[AgentState, PyTree, jax.Array], jax.Array]:
    """``value(agent_state, observation, action)``, any leading axes, for the critics of the presets
    used here.
    """
    hyperparameters = config.hyperparameters
    categorical: dict[str, Any] = (
        {"num_atoms": hyperparameters.num_atoms}
        if isinstance(hyperparameters, D4PGHyperparameters)
        else {}
    )
    critic: Network = components.critic(hyperparameters, env, **categorical)

    def value(state: AgentState, observation: PyTree, action: jax.Array) -> jax.Array:
        params = variables(state.critic)
        output = critic.apply(
            networks.first_critic(params)
            if isinstance(hyperparameters, TD3Hyperparameters)
            else params,
            observation,
            action,
        )
        if not isinstance(hyperparameters, D4PGHyperparameters):
            return output
        return losses.categorical_mean(
            output,
            jnp.linspace(hyperparameters.v_min, hyperparameters.v_max, hyperparameters.num_atoms),
        )

    return value


def visit(
    agent: Agent, env: Environment, value: Callable, gamma: float, window: int, after: int
) -> Callable[[AgentState, Key], tuple[jax.Array, jax.Array, jax.Array]]:
    """``look(agent_state, key)``: for the first ``window`` states of each episode ``[window, E]``
    the estimate, the discounted rewards of all that follows, and whether the state is one of the
    episode.
    """

    def look(state: AgentState, key: Key) -> tuple[jax.Array, jax.Array, jax.Array]:
        reset_key, scan_key = jax.random.split(key)
        env_state, observation = env.reset(reset_key)

        def step(carry: tuple, key: Key) -> tuple[tuple, tuple]:
            env_state, observation, alive = carry
            action = agent.act(state, observation)
            env_state, time_step = env.step(env_state, action, key)
            reward = jnp.where(alive, time_step.reward, 0.0)
            seen = (value(state, observation, action), reward, alive)
            return (env_state, time_step.observation, alive & ~time_step.terminated), seen

        alive = jnp.ones((env.num_envs,), bool)
        keys = jax.random.split(scan_key, window + after)
        _, (estimates, rewards, alive) = jax.lax.scan(step, (env_state, observation, alive), keys)
        add = lambda later, reward: (reward + gamma * later,) * 2
        _, returns = jax.lax.scan(add, jnp.zeros((env.num_envs,)), rewards, reverse=True)
        return estimates[:window], returns[:window], alive[:window]

    return look


def errors(estimated: np.ndarray, observed: np.ndarray, alive: np.ndarray) -> dict[str, Any]:
    """Per seed: mean of Q - return over the states, its standard deviation, and the mean return;
    figures over seeds.
    """
    members = [(q[mask], g[mask]) for q, g, mask in zip(estimated, observed, alive, strict=True)]
    return {
        "overestimation": common.spread([(q - g).mean() for q, g in members]),
        "root_mean_square_error": common.spread(
            [np.sqrt(((q - g) ** 2).mean()) for q, g in members]
        ),
        "mean_return": common.spread([g.mean() for _, g in members]),
        "correlation": [
            float(np.corrcoef(q, g)[0, 1]) if q.std() > 0 and g.std() > 0 else None
            for q, g in members
        ],
        "states": [len(q) for q, _ in members],
    }


def sample(
    estimated: np.ndarray, observed: np.ndarray, alive: np.ndarray
) -> tuple[np.ndarray, ...]:
    """At most `POINTS` random states to draw: return, estimate and seed of each."""
    where = np.argwhere(alive)
    where = where[np.random.default_rng(0).permutation(len(where))[:POINTS]]
    index = tuple(where.T)
    return observed[index], estimated[index], where[:, 0]


def draw(
    figures: dict[str, dict[str, Any]], points: dict[tuple[str, str], tuple[np.ndarray, ...]]
) -> Any:
    """A panel for each task and agent: estimates over returns, a colour for each seed, and the line
    of unity.
    """
    figure, axes = common.canvas(len(figures), len(AGENTS), 3.4, 3.3)
    for row, (task, each) in zip(axes, figures.items(), strict=True):
        drawn = [np.concatenate(points[task, name][:2]) for name in AGENTS]
        ends = [min(x.min() for x in drawn), max(x.max() for x in drawn)]
        for axis, name in zip(row, AGENTS, strict=True):
            observed, estimated, member = points[task, name]
            axis.scatter(
                observed,
                estimated,
                c=member,
                s=3,
                alpha=0.35,
                cmap="tab10",
                vmin=0,
                vmax=9,
                linewidths=0,
            )
            axis.plot(ends, ends, color="black", lw=0.8, ls=":")
            over = each[name]["overestimation"]
            axis.set_title(
                f"{name}: Q - return = {over['mean']:.1f} (sd {over['std']:.1f})", fontsize="small"
            )
            axis.grid(alpha=0.3)
        backend = TASKS[task].options.get("backend")
        row[0].set_ylabel(
            f"{task.removeprefix('brax/')}{f' ({backend})' if backend else ''}\nestimated "
            "Q(s, mu(s))"
        )
    for axis in axes[-1]:
        axis.set_xlabel("observed discounted return")
    return figure


if __name__ == "__main__":
    main()
