"""Rates of ours and of a peer's, in turns in one process: equal networks, batches and updates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import jax

from benchmarks import harness, workloads
from benchmarks.peers import rejax, sbx
from ddpg_jax import envs, host, noise, replay
from ddpg_jax.behaviour import explore

DELAY = workloads.POLICY_DELAY


@click.command(context_settings={"show_default": True})
@click.option("--agent", type=click.Choice(list(sbx.DELAY)), default="ddpg")
@click.option("--observations", default=workloads.OBSERVATIONS)
@click.option("--actions", default=workloads.ACTIONS)
@click.option("--hidden", default=256, help="Width of the two hidden layers.")
@click.option("--batch-size", default=256)
@click.option("--capacity", default=20_000, help="Of both replays, filled.")
@click.option("--steps", default=1_000, help="Gradient steps per call.")
@harness.options("sbx_AGENT[]", repetitions=7)
def updates(agent: str, out: Path | None, repetitions: int, steps: int, **sizes: int) -> None:
    """Updates of DDPG or TD3 beside SBX's.

    A TD3 update is one critic step of both critics, and every second time one of the actor and the
    targets. SBX draws from its buffer on the host, all batches of a call at once, and scans on the
    device; ours samples on the device inside the scan.
    """
    version = sbx.package().__version__
    contestants = {
        "sbx": sbx.Updates(agent, steps=steps, **sizes),
        "ddpg_jax": workloads.updates(agent, iterations=steps, **sizes),
    }
    seconds, compile_seconds = harness.race(contestants, repetitions)
    rates = harness.rates(seconds, steps)
    pairs = pair_ratios(rates, "ddpg_jax", "sbx")
    given = {"policy_delay": sbx.DELAY[agent], "repetitions": repetitions, "steps": steps}
    result = {
        "sbx_version": version,
        "settings": {"agent": agent, **given, **sizes},
        "compile_seconds": compile_seconds,
        "updates_per_second": rates,
        "ratio_of_medians": rates["ddpg_jax"]["median"] / rates["sbx"]["median"],
        "pair_ratios": pairs,
    }
    finish(out or harness.RESULTS / f"sbx_{agent}.json", result, rates, "updates/s")
    click.echo(f"ratio of medians {result['ratio_of_medians']:.3f}")
    click.echo(f"ratios of pairs {min(pairs):.3f} to {max(pairs):.3f}")


@click.command(context_settings={"show_default": True})
@click.option("--env", "name", default="HalfCheetah-v5", help="A Gymnasium id.")
@click.option("--num-envs", default=8, help="Of the other pair.")
@click.option("--hidden", default=256, help="Width of the two hidden layers.")
@click.option("--batch-size", default=256)
@click.option("--steps", default=1_000, help="Environment steps per call.")
@click.option("--learning-starts", default=1_000)
@click.option("--capacity", default=24_000, help="Of all replays.")
@harness.options("sbx_loop")
def host_loop(
    out: Path, name: str, num_envs: int, steps: int, repetitions: int, **sizes: int
) -> None:
    """TD3 on a Gymnasium environment beside SBX's, one update per environment step.

    Both with one environment, and with several and as many updates per vector step.
    """
    version = sbx.package().__version__
    makers = {"sbx": sbx.host_loop, "ddpg_jax": ours_on_host}
    contestants = {
        who if count == 1 else f"{who}_{count}_envs": make(name, count, steps, **sizes)
        for who, make in makers.items()
        for count in (1, num_envs)
    }
    rates = harness.rates(harness.alternate(contestants, repetitions), steps)
    over = lambda one, other: rates[one]["median"] / rates[other]["median"]
    several = f"{num_envs}_envs"
    ratios = {key: over(key, "sbx") for key in rates if key != "sbx"}
    ratios[f"both_{several}"] = over(f"ddpg_jax_{several}", f"sbx_{several}")
    given = {"num_envs": num_envs, "steps": steps, "repetitions": repetitions}
    result = {
        "sbx_version": version,
        "settings": {"env": name, **given, "policy_delay": DELAY, **sizes},
        "env_steps_per_second": rates,
        "ratios": ratios,
    }
    finish(out, result, rates, "env-steps/s")
    click.echo(f"over sbx: {ratios}")


@click.command(context_settings={"show_default": True})
@click.option(
    "--env",
    "names",
    multiple=True,
    type=click.Choice(list(rejax.NAMES)),
    default=tuple(rejax.NAMES),
)
@click.option("--num-envs", "counts", multiple=True, default=(1, 16, 256))
@click.option("--hidden", default=256, help="Width of the two hidden layers.")
@click.option("--batch-size", default=256)
@click.option("--vector-steps", default=300, help="In a call.")
@click.option("--capacity", default=131_072, help="Of all replays.")
@harness.options("rejax_loop")
def loop(
    out: Path, names: tuple[str, ...], counts: tuple[int, ...], repetitions: int, **sizes: int
) -> None:
    """The compiled loop of TD3 beside rejax's: one critic step for each vector step."""
    rejax.package()
    settings = {"repetitions": repetitions, "policy_delay": DELAY, **sizes}
    measured: list[dict[str, Any]] = []
    for name, count in ((name, count) for name in names for count in counts):
        makers = {"ddpg_jax": ours_on_device, "rejax": rejax.loop}
        contestants = {who: make(name, count, **sizes) for who, make in makers.items()}
        seconds, compile_seconds = harness.race(contestants, repetitions)
        rates = harness.rates(seconds, sizes["vector_steps"])
        found = {
            "env": name,
            "num_envs": count,
            "compile_seconds": compile_seconds,
            "vector_steps_per_second": rates,
            "ratio": rates["ddpg_jax"]["median"] / rates["rejax"]["median"],
        }
        measured.append(found)
        click.echo(f"{name} {count}: ratio {found['ratio']:.2f}")
        finish(out, {"settings": settings, "measured": measured}, rates, "vector steps/s")


def finish(out: Path, result: dict[str, Any], rates: dict[str, dict[str, Any]], unit: str) -> None:
    """Write figures, and say rates."""
    harness.write(out, result)
    for who, one in rates.items():
        click.echo(f"{who:20} {one['median']:8,.0f} {unit} [{one['min']:,.0f}, {one['max']:,.0f}]")
    click.echo(str(out))


def pair_ratios(rates: dict[str, dict[str, Any]], one: str, other: str) -> list[float]:
    """Return the ratios of rates that were measured one after the other."""
    pairs = zip(rates[one]["values"], rates[other]["values"], strict=True)
    return [first / second for first, second in pairs]


def ours_on_device(
    name: str, num_envs: int, vector_steps: int, *, hidden: int, batch_size: int, capacity: int
) -> harness.Contestant:
    """Return a call of the compiled loop, as `benchmarks.peers.rejax.loop`."""
    env = envs.make(name, num_envs)
    return workloads.loop(
        workloads.agent_of("td3", env.action.shape[-1], (hidden, hidden)).agent,
        env,
        capacity=capacity,
        batch_size=batch_size * DELAY,
        updates_per_step=1,
        collect_steps=DELAY,
        iterations=vector_steps,
        keys=jax.random.key(0),
    )


def ours_on_host(
    name: str,
    num_envs: int,
    steps: int,
    *,
    hidden: int,
    batch_size: int,
    learning_starts: int,
    capacity: int,
) -> Callable[[], None]:
    """Return a call of the loop around host environments, as `benchmarks.peers.sbx.host_loop`."""
    env: Any = envs.make(f"gymnasium/{name}", num_envs)
    agent = workloads.agent_of("td3", env.action.shape[0], (hidden, hidden)).agent
    collect_steps = DELAY if num_envs % DELAY else 1
    trainer = host.make_train(
        agent,
        env,
        replay.uniform(capacity, batch_size * DELAY),
        explore(agent, noise.chain(noise.gaussian(0.1), noise.clip())),
        learning_starts=learning_starts,
        updates_per_step=num_envs * collect_steps // DELAY,
        collect_steps=collect_steps,
        steps_per_chunk=steps,
    )
    trainer.compile()
    trainer.begin(0)
    state = trainer.warm_up(jax.jit(trainer.init)(jax.random.key(0)))

    def call() -> None:
        nonlocal state
        state, report = trainer.chunk(state)
        jax.block_until_ready((state, report.metrics))

    return call
