"""How often a policy that had solved its task is lost again, why, and what keeps it.

    python benchmarks/studies/collapse.py tune
    python benchmarks/studies/collapse.py report --remedy layer_norm

A seed has collapsed where an evaluation after it had solved the task (950 on
`brax/inverted_pendulum`, -200 on `pendulum`) is below half of its best on the first, or 100 below
its best on the second. `tune` trains seeds 0 to 31 with each remedy, `report` 1000 to 1063 without
and with one of them. Restartable: what is in the folder of parts is not trained again.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.studies import common
from ddpg_jax import runs
from ddpg_jax.runs.callbacks import Callback, Chunk, user_metrics
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.folder import files
from ddpg_jax.runs.folder.metrics import read_metrics
from ddpg_jax.runs.results.plots import canvas

ENVS: dict[str, dict[str, Any]] = {
    "brax/inverted_pendulum": {"evaluation_episodes": 5, "final_episodes": 20},
    "pendulum": {"evaluation_episodes": 20, "final_episodes": 20},
}
REMEDIES: dict[str, dict[str, Any]] = {
    "none": {},
    "layer_norm": {"layer_norm": True},
    "weight_decay": {"weight_decay": 0.01},
    "anneal": {"anneal": True},
}
SOLVED = {"brax/inverted_pendulum": 950.0, "pendulum": -200.0}
EVALUATIONS, BLOCK = 40, 32
WATCHED = ("value", "td_error", "critic_norm", "actor_norm", "at_bounds")


def lost(env: str, best: np.ndarray) -> np.ndarray:
    """The return below which a seed has collapsed, whose best so far is ``best``."""
    return best / 2 if env == "brax/inverted_pendulum" else best - 100.0


def watch() -> Callback:
    """Norms of both networks' parameters, and the share of actions at their bounds, by member."""
    compiled: list[Any] = []

    def measured(chunk: Chunk) -> dict[str, Any]:
        if not compiled:
            act = jax.vmap(chunk.agent.act)
            squares = lambda x: jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim)))
            norm = lambda tree: jnp.sqrt(sum(map(squares, jax.tree.leaves(tree))))

            def measure(agent_state: Any, observation: Any) -> dict[str, Any]:
                action = act(agent_state, observation)
                return {
                    "critic_norm": norm(agent_state.critic.params),
                    "actor_norm": norm(agent_state.actor.params),
                    "at_bounds": jnp.mean(jnp.abs(action) > 0.99, axis=(1, 2)),
                }

            compiled.append(jax.jit(measure))
        return compiled[0](chunk.agent_state, chunk.train_state.collector.observation)

    return user_metrics(measured)


def trained(parts: Path, env: str, remedy: str, first: int, times: int) -> dict[str, Any]:
    """The curves of `BLOCK` seeds; read where they are known."""
    path = parts / f"{env.replace('/', '_')}_{remedy}_{first}_x{times}.json"
    if path.is_file():
        return json.loads(path.read_text())
    total = make_config(env, "default").hyperparameters.total_timesteps * times
    every = total // EVALUATIONS
    own: dict[str, Any] = {"preset": "default", "seed": first, "seeds": BLOCK}
    own |= {"total_timesteps": total, "steps_per_chunk": every, "evaluate_every": every}
    own |= {"checkpoint_every": 0} | ENVS[env] | REMEDIES[remedy]
    work = Path(tempfile.mkdtemp())
    try:
        run = runs.train(env, run_dir=work / "run", progress=False, callbacks=[watch()], **own)
        rows = [row for row in read_metrics(run.folder) if row["evaluation_return"]]
    finally:
        shutil.rmtree(work)
    found = {
        "settings": own | {"env": env, "remedy": remedy},
        "env_steps": [row["env_steps"] for row in rows],
        "returns": [row["evaluation_return"] for row in rows],
        "final_returns": run.summary["final_returns"],
        "wall_seconds": run.summary["wall_seconds"],
        **{name: [row[name] for row in rows] for name in WATCHED},
    }
    files.write_json(path, found)
    return found


def judged(env: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Events, steps to solve the task, final returns, and what was watched, of all seeds."""
    steps = np.array(found[0]["env_steps"])
    returns = np.concatenate([np.array(each["returns"], float) for each in found], axis=1)
    best = np.maximum.accumulate(returns, axis=0)
    solved = best >= SOLVED[env]
    event = solved & (returns < lost(env, best))
    when = np.where(solved.any(axis=0), steps[solved.argmax(axis=0)], np.inf)
    seeds = np.concatenate([each["settings"]["seed"] + np.arange(BLOCK) for each in found])
    collapsed = np.asarray(event.any(axis=0))
    watched = {}
    for name in WATCHED:
        values = np.concatenate([np.array(each[name], float) for each in found], axis=1)
        before = np.roll(values, 1, axis=0)
        calm = solved & ~event
        watched[name] = {
            "solved": float(np.median(values[calm])) if calm.any() else None,
            "collapsed": float(np.median(values[event])) if event.any() else None,
            "before": float(np.median(before[event])) if event.any() else None,
        }
    final = np.concatenate([each["final_returns"] for each in found])
    return {
        "seeds": len(seeds),
        "events": int(collapsed.sum()),
        "seeds_with_events": seeds[collapsed].tolist(),
        "evaluations_in_collapse": int(event.sum()),
        "evaluations_after_solving": int(solved.sum()),
        "solved": int(solved.any(axis=0).sum()),
        "median_steps_to_solve": float(np.median(when)) if np.isfinite(np.median(when)) else None,
        "final_returns": common.spread(final),
        "watched": watched,
    }


@click.command(context_settings={"show_default": True})
@click.argument("stage", type=click.Choice(["tune", "report"]))
@click.option("--env", "envs", multiple=True, default=[*ENVS], help="May be repeated.")
@click.option("--remedy", "remedies", multiple=True, default=[*REMEDIES], help="Likewise.")
@click.option("--times", default=1, help="How many times as long as by default a run is.")
@click.option("--parts", type=click.Path(path_type=Path), default=Path("build/collapse"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results"))
def main(
    stage: str, envs: list[str], remedies: list[str], times: int, parts: Path, out: Path
) -> None:
    """Train what is missing, and write JSON and a picture."""
    begun, rows, curves = time.perf_counter(), {}, {}
    firsts = (0,) if stage == "tune" else (1_000, 1_000 + BLOCK)
    for env in envs:
        for remedy in dict.fromkeys(["none", *remedies]):
            found = [trained(parts, env, remedy, first, times) for first in firsts]
            name = f"{env}, {remedy}"
            rows[name], curves[name] = judged(env, found), found
            row = rows[name]
            click.echo(
                f"{name}: {row['events']} of {row['seeds']} seeds collapsed, {row['solved']} "
                f"solved it, the median after {row['median_steps_to_solve']} steps"
            )
    file = out / f"collapse_{stage}{'' if times == 1 else f'_x{times}'}.json"
    common.finish(file, {"rows": rows}, picture(curves), begun)


def picture(curves: dict[str, list[dict[str, Any]]]) -> Any:
    """A panel for each environment and remedy, a line for each seed."""
    figure = canvas(3.2 * len(curves), 2.8)
    for index, (title, found) in enumerate(curves.items()):
        axes = figure.add_subplot(1, len(curves), index + 1, xlabel="environment steps")
        axes.set_title(title, fontsize="small")
        for each in found:
            axes.plot(each["env_steps"], each["returns"], alpha=0.35, linewidth=0.6)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("return of deterministic episodes")
    return figure


if __name__ == "__main__":
    main()
