"""The README's table of measurements, made from ``benchmarks/results``: no number in it is typed by hand.

python benchmarks/table.py --write
"""

import json
from pathlib import Path
from typing import Any

import click

from ddpg_jax.runs.tasks import TASKS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- table: python benchmarks/table.py --write -->\n", "<!-- end of table -->\n"


def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def on_tasks(kind: str) -> list[dict[str, Any]]:
    """The results in ``<kind>_*.json``, each of one task, in the order of the tasks.

    Raises:
        ValueError: the environment of one is no task.
    """
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{kind}_*.json"))]
    return sorted(found, key=lambda result: list(TASKS).index(result["settings"]["env"]))


def learned(result: dict[str, Any]) -> tuple[str, str]:
    """A row of `benchmarks/studies/learning.py`."""
    settings, returns, wall = (result[name] for name in ("settings", "final_return", "wall_seconds"))
    backend, threshold = settings["backend"], settings["threshold"]
    words = ["ddpg-jax train", settings["env"], *(("--backend", backend) if backend else ()), *settings["options"]]
    count = f"{len(result['seeds'])} seed{'s' * (len(result['seeds']) > 1)}"
    reached = f"{count}; " if threshold is None else f"{result['reached']} of {count} reach {threshold:,.0f}; "
    compiled = {"off": "compiled anew", "warm": "programs from the cache"}[settings["cache"]]
    spread = returns["std"] if len(result["seeds"]) > 1 else result["seeds"][0]["final_return_std"]  # else of its episodes
    random = f" (random actions: {result['random_policy']['mean']:,.1f})" if "random_policy" in result else ""
    return (
        f"`{' '.join(words)}`, each seed from the shell, {compiled}",
        f"{reached}return {returns['mean']:,.1f} ± {spread:,.1f}, worst {returns['min']:,.1f}{random}; "
        f"{wall['min']:.1f} to {wall['max']:.1f} s",
    )


def unseeing(result: dict[str, Any]) -> tuple[str, str]:
    """A row of `benchmarks/studies/blind.py`."""
    each = [f"{kind.replace('_', ' ')} {result[kind]['mean']:,.1f}" for kind in ("random", "constant", "square_wave")]
    return f"{result['settings']['env']}, blind: random actions, the best constant, the best square wave", "; ".join(each)


def seeing(result: dict[str, Any]) -> tuple[str, str]:
    """A row of `benchmarks/studies/pixels_shares.py`."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result["shares"].items())
    what = f"{result['settings']['env']} {' '.join(result['settings']['options'])}"
    return f"{what}, pixels: pictures/s, and where its time goes", f"{result['pictures_per_second']:,.0f}; {shares}"


def family() -> list[tuple[str, str]]:
    """Rows of `benchmarks/studies/family.py` and of `benchmarks/family.py`."""
    speed = load("family")
    rates = [f"{name.upper().replace('_', ' ')} {rate:,.0f}" for name, rate in speed["updates_per_second"].items()]
    ratios, atoms = speed["ratios"], speed["settings"]["num_atoms"]
    return [
        *map(family_returns, on_tasks("family")),
        (f"updates/s of every agent, batch 256, 256x256, {atoms} atoms", ", ".join(rates)),
        (
            "prioritised replay: a step at 1e6 rows over one at 1e4; what it adds to an update",
            f"{ratios['prioritised_large_over_small']:.2f}; {ratios['priorities_over_update']:.0%}",
        ),
    ]


def family_returns(result: dict[str, Any]) -> tuple[str, str]:
    """A row of `benchmarks/studies/family.py`."""
    settings = result["settings"]
    means = [f"{agent} {one['interquartile_mean']:,.0f}" for agent, one in result["contestants"].items()]
    first = next(iter(result["contestants"].values()))
    steps = first["env_steps"] // len(first["final_returns"])
    return f"{settings['env']} after {steps:,} steps, {settings['seeds']} seeds, interquartile mean", "; ".join(means)


def host_loop(name: str) -> tuple[str, str]:
    """A row of `benchmarks/peers/sbx_loop.py`."""
    result = load(name)
    settings, rates = result["settings"], {name: one["median"] for name, one in result["env_steps_per_second"].items()}
    count, ratios = settings["num_envs"], result["ratios"]
    return (
        f"env-steps/s on {settings['env']}, one update each, batch {settings['batch_size']}, {settings['hidden']} wide, beside "
        f"sbx-rl's TD3 in one run: one environment; {count}",
        f"{rates['ddpg_jax']:.0f} against {rates['sbx']:.0f} ({ratios['ddpg_jax']:.2f}); "
        f"{rates[f'ddpg_jax_{count}_envs']:.0f} against {rates[f'sbx_{count}_envs']:.0f} ({ratios[f'both_{count}_envs']:.2f})",
    )


def loop_over_parts(name: str) -> tuple[str, str]:
    """A row of `benchmarks/throughput.py`."""
    result = load(name)
    settings = result["settings"]
    backend = f" ({settings['backend']})" if settings["backend"] else ""
    rate = result["rates"]["loop_env_steps_per_second"]
    return (
        f"whole loop over its parts, {settings['env']}{backend}, {settings['num_envs']} environments",
        f"{result['ratios']['loop_over_parts']:.2f}; {rate:,.0f} env-steps/s",
    )


def beside_sbx(agent: str) -> tuple[str, str]:
    """A row of `benchmarks/peers/sbx.py`."""
    result = load(f"sbx_{agent}")
    ours, theirs = (result["updates_per_second"][name]["median"] for name in ("ddpg_jax", "sbx"))
    return (
        f"updates/s, batch 256, 256x256, 1,000 a call, beside sbx-rl's {agent.upper()} in one run",
        f"{ours:.0f} against {theirs:.0f} (medians; ratio {result['ratio_of_medians']:.2f})",
    )


def solving() -> tuple[str, str]:
    """The row of `benchmarks/peers/solve.py`."""
    result = load("solve_pendulum")
    settings = result["settings"]
    word = lambda name, seconds: f"{name} {'not by all' if seconds is None else f'{seconds:.1f}'}"
    each = [
        f"{cache} cache: " + ", ".join(word(name, seconds) for name, seconds in found.items())
        for cache, found in result["median_seconds"].items()
    ]
    return (
        f"pendulum solved (mean return {settings['threshold']:g}): seconds from the shell, median of {settings['seeds']} seeds",
        "; ".join(each),
    )


def beside_rejax() -> list[tuple[str, str]]:
    """Rows of `benchmarks/peers/rejax_loop.py`, one for each environment."""
    result = load("rejax_loop")
    found: dict[str, list[str]] = {}
    for one in result["measured"]:
        ours, theirs = (one["vector_steps_per_second"][name]["median"] for name in ("ddpg_jax", "rejax"))
        found.setdefault(one["env"], []).append(f"{one['num_envs']}: {ours:,.0f} against {theirs:,.0f} ({one['ratio']:.2f})")
    sizes = result["settings"]
    what = f"an update each, batch {sizes['batch_size']}, {sizes['hidden']} wide, beside rejax's TD3, by environments"
    return [(f"vector steps/s on {env}, {what}", "; ".join(each)) for env, each in found.items()]


def on_an_accelerator() -> list[tuple[str, str]]:
    """Rows of `benchmarks/accelerator.py`: at the usual sizes, and the largest that were measured."""
    updates, members = load("accelerator_updates"), load("accelerator_members")
    usual = [one for one in updates["measured"] if one["settings"]["batch_size"] == one["settings"]["hidden"] == 256]
    rates = lambda one: ", ".join(f"{who} {rate:,.0f}" for who, rate in one["updates_per_second"].items())
    each = [f"{one['settings']['agent']}: {rates(one)}" for one in usual if one["settings"]["dtype"] == "float32"]
    many = max(
        (one for one in members["measured"] if "error" not in one), key=lambda one: one["updates_per_second"]["ddpg_jax"]
    )
    settings = many["settings"]
    device = updates["device"].split(" x1 ")[0]
    return [
        (f"{device}: updates/s, batch 256, 256x256, one agent", "; ".join(each)),
        (
            f"{device}: updates/s of {settings['members']:,} agents in one program, batch {settings['batch_size']}, "
            f"{settings['hidden']}x{settings['hidden']}",
            f"{many['updates_per_second']['ddpg_jax']:,.0f}",
        ),
        *map(reached, ("ant", "halfcheetah")),
    ]


def reached(name: str) -> tuple[str, str]:
    """A row of a part of `benchmarks/accelerator.py` that learns until a return is reached."""
    result = load(f"accelerator_reach_{name}")
    (found,) = result["measured"]
    each = [
        (
            f"{one['return']:,.0f} after {one['seconds']:.0f} s, {one['train_seconds']:.0f} s of it training "
            if one["reached"]
            else f"{one['return']:,.0f} not reached "
        )
        + f"(published {one['published_seconds']:.0f} s)"
        for one in found["reached"]
    ]
    config, device = found["config"], result["device"].split(" x1 ")[0]
    options = ", ".join(f"{name} {value}" for name, value in config["env_options"].items())
    return (
        f"{device}: preset {config['preset']} on {config['env']} ({options}), one seed, from nothing until the return, "
        f"compilation and evaluations included; beside it {found['reached'][0]['published']}",
        "; ".join(each),
    )


def populations() -> list[tuple[str, str]]:
    """Rows of what many agents, many devices and large batches need, of those that were run."""
    found = {
        "study_pbt": evolution,
        "members": members,
        "faults": faults,
        "memory": memory,
        "lane": lane,
        "study_driving": driving,
        "study_autoencoder": autoencoder,
    }
    made = [row(load(name)) for name, row in found.items() if (RESULTS / f"{name}.json").is_file()]
    return made + [half(result) for result in on_tasks("bfloat16")]


def evolution(result: dict[str, Any]) -> tuple[str, str]:
    """The row of `benchmarks/studies/pbt.py`."""
    settings, kinds = result["settings"], {"evolving": "with", "the same without": "without"}
    each = lambda values: ", ".join(f"{value:.0f}" for value in values)
    figures = {name: result["summary"][kind] for name, kind in kinds.items()}
    return (
        f"{settings['env']}, {settings['members']} members from learning rates of {settings['low']:g} to {settings['high']:g}, "
        f"{settings['steps']:,} steps each, {settings['repetitions']} times",
        "; ".join(f"{name}: mean {each(one['mean'])}, best {each(one['best'])}" for name, one in figures.items()),
    )


def members(result: dict[str, Any]) -> tuple[str, str]:
    """The row of `benchmarks/members.py`."""
    settings, way = result["settings"], f"vmap_{result['settings']['devices']}_devices"
    ratios = {one["members"]: one["over_one"][way] for one in result["measured"] if way in one["over_one"]}
    return (
        f"updates/s of many members over {settings['devices']} devices of the host, batch 64, 64 wide, times one member's",
        ", ".join(f"{count}: {ratio:.2f}" for count, ratio in ratios.items()),
    )


def faults(result: dict[str, Any]) -> tuple[str, str]:
    """The row of `benchmarks/faults.py`."""
    cases = result["cases"]
    in_all = lambda name: sum(each.get(name, 0) for each in cases.values())
    each = [f"{name}: {one['restored bit for bit']} of {one['kills']}" for name, one in cases.items()]
    return (
        f"{in_all('kills')} times SIGKILL at random on {result['devices']} devices, "
        f"{in_all('while a checkpoint was half written')} of them while a checkpoint was half written: resumed bit for bit",
        "; ".join(each),
    )


def memory(result: dict[str, Any]) -> tuple[str, str]:
    """The row of `benchmarks/memory.py`."""
    each = [f"{name} ({one['grown'] / 1e9:.1f} GB): {one['sum_over_grown']:.2f}" for name, one in result["runs"].items()]
    return "memory that a run says it needs, over what its process grew by", "; ".join(each)


def lane(result: dict[str, Any]) -> tuple[str, str]:
    """The row of `benchmarks/lane.py`."""
    rates = {name.replace("_", " "): one["median"] for name, one in result["steps_per_second"].items()}
    return (
        f"steps/s of {result['settings']['num_envs']} cars in the lane, by what they see",
        ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items()),
    )


def driving(result: dict[str, Any]) -> tuple[str, str]:
    """The row of `benchmarks/studies/driving.py`."""
    settings, paper = result["settings"], result["paper"]

    def each(name: str, row: dict[str, Any]) -> str:
        metres = row["metres_per_disengagement"]
        known = paper.get(name, {}).get("metres_per_disengagement")
        beside = "" if known is None else f" (paper {known:g})"
        seeds = f", {row['drive_all']} of {row['count']} seeds drive all roads" if "options" in row else ""
        figure = f"{metres['mean']:,.1f} ± {metres['std']:,.1f}" if row["disengagements"]["max"] else "no disengagement"
        return f"{name} {figure}{beside}{seeds}"

    return (
        f"lane: metres per disengagement on {settings['roads']} held-out roads of {settings['metres_of_a_road']:g} m, "
        "and those of Kendall et al. 2018 with a car",
        "; ".join(each(name, row) for name, row in result["rows"].items()),
    )


def autoencoder(result: dict[str, Any]) -> tuple[str, str]:
    """The row of `benchmarks/studies/autoencoder.py`."""
    factors = [f"{one['factor']:.1f}" for one in result["runs"]]
    return (
        f"preset `drive`: on {result['images']:,} pictures of held-out roads, the error of their mean picture over its "
        "autoencoder's",
        ", ".join(factors),
    )


def half(result: dict[str, Any]) -> tuple[str, str]:
    """The row of `benchmarks/studies/family.py`, of networks that compute in both dtypes."""
    what, _ = family_returns(result)
    each = [
        f"{name} {sum(one['final_returns']) / len(one['final_returns']):,.1f} ± {one['std']:,.1f}"
        for name, one in result["contestants"].items()
    ]
    return what.replace("interquartile mean", "networks that compute in float32 and in bfloat16"), "; ".join(each)


def rows() -> list[tuple[str, str]]:
    many, loop, lecture = (load(name) for name in ("pendulum_32_seeds", "throughput", "pendulum_lecture"))
    low, high = many["interquartile_mean_interval"]
    solved = [value for value in lecture["episodes_until_solved_strict"] if value is not None]
    parts = loop["ratios"]
    return [
        *map(learned, on_tasks("learning")),
        *map(unseeing, on_tasks("blind")),
        *map(seeing, on_tasks("shares")),
        (
            f"`ddpg-jax train pendulum --seeds {many['config']['seeds']}`, one program",
            f"interquartile mean {many['interquartile_mean']:.1f} [{low:.1f}, {high:.1f}], worst "
            f"{min(many['final_returns']):.1f}; {many['updates_per_second']:,.0f} updates/s, {many['wall_seconds']:.0f} s",
        ),
        (
            "preset `pendulum-lecture`: episodes until the mean of the last 100 exceeds -300",
            f"{len(solved)} of {len(lecture['scores'])} seeds, after {min(solved)} to {max(solved)} episodes",
        ),
        *family(),
        *populations(),
        *(beside_sbx(agent) for agent in ("ddpg", "td3")),
        *(host_loop(name) for name in ("sbx_loop", "sbx_loop_small")),
        *beside_rejax(),
        solving(),
        *on_an_accelerator(),
        *(loop_over_parts(name) for name in ("throughput", "throughput_cartpole", "throughput_cheetah")),
        (
            "add and sample at capacity 1e6 over 1e4: equally many rows stored, and both rings full",
            "{replay_large_over_small_same_rows:.2f}; {replay_large_over_small_both_full:.2f} (cache misses)".format(**parts),
        ),
    ]


def table() -> str:
    """The table in Markdown."""
    context = load("sbx_ddpg")
    head = f"| measured on {context['device']}, JAX {context['versions']['jax']} | |\n|---|---|\n"
    return head + "".join(f"| {what} | {figure} |\n" for what, figure in rows())


@click.command()
@click.option("--write", is_flag=True, help="Into README.md; otherwise print.")
def main(write: bool) -> None:
    """Print or write the table."""
    if not write:
        click.echo(table())
        return
    readme = (ROOT / "README.md").read_text()
    before, rest = readme.split(BEGIN)
    (ROOT / "README.md").write_text(before + BEGIN + table() + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
