"""A row of the tables for each kind of result of learning: what was measured, and its figures."""

from typing import Any

from benchmarks.table_speed import Row, device


def learning(result: dict[str, Any]) -> Row:
    """Of `benchmarks/studies/learning.py`."""
    settings, returns, wall = (
        result[name] for name in ("settings", "final_return", "wall_seconds")
    )
    backend, threshold = settings["backend"], settings["threshold"]
    words = ["ddpg-jax train", settings["env"], *(("--backend", backend) if backend else ())]
    seeds = result["seeds"]
    count = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    reached = "" if threshold is None else f"{result['reached']} of "
    reached += f"{count}; " if threshold is None else f"{count} reach {threshold:,.0f}; "
    compiled = {"off": "compiled anew", "warm": "programs from the cache"}[settings["cache"]]
    spread = returns["std"] if len(seeds) > 1 else seeds[0]["final_return_std"]  # of its episodes
    random = ""
    if "random_policy" in result:
        random = f" (random actions: {result['random_policy']['mean']:,.1f})"
    return (
        f"`{' '.join([*words, *settings['options']])}`, each seed from the shell, {compiled}",
        f"{reached}return {returns['mean']:,.1f} ± {spread:,.1f}, worst {returns['min']:,.1f}"
        f"{random}; {wall['min']:.1f} to {wall['max']:.1f} s",
    )


def blind(result: dict[str, Any]) -> Row:
    """Of `benchmarks/studies/blind.py`."""
    each = [
        f"{kind.replace('_', ' ')} {result[kind]['mean']:,.1f}"
        for kind in ("random", "constant", "square_wave")
    ]
    env = result["settings"]["env"]
    what = f"{env}, blind: random actions, the best constant, the best square wave"
    return what, "; ".join(each)


def pixel_shares(result: dict[str, Any]) -> Row:
    """Of `benchmarks/studies/pixels_shares.py`."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result["shares"].items())
    what = f"{result['settings']['env']} {' '.join(result['settings']['options'])}"
    rate = f"{result['pictures_per_second']:,.0f}"
    return f"{what}, pixels: pictures/s, and where its time goes", f"{rate}; {shares}"


def many_seeds(result: dict[str, Any]) -> Row:
    """Of a run of many seeds."""
    low, high = result["interquartile_mean_interval"]
    return (
        f"`ddpg-jax train pendulum --seeds {result['config']['seeds']}`, one program",
        f"interquartile mean {result['interquartile_mean']:.1f} [{low:.1f}, {high:.1f}], worst "
        f"{min(result['final_returns']):.1f}; {result['updates_per_second']:,.0f} updates/s, "
        f"{result['wall_seconds']:.0f} s",
    )


def lecture(result: dict[str, Any]) -> Row:
    """Of `benchmarks/studies/pendulum_lecture.py`."""
    solved = [value for value in result["episodes_until_solved_strict"] if value is not None]
    return (
        "preset `pendulum-lecture`: episodes until the mean of the last 100 exceeds -300",
        f"{len(solved)} of {len(result['scores'])} seeds, after {min(solved)} to "
        f"{max(solved)} episodes",
    )


def agents(result: dict[str, Any]) -> Row:
    """Of `benchmarks/studies/agents.py`."""
    settings, contestants = result["settings"], result["contestants"]
    means = [f"{agent} {one['interquartile_mean']:,.0f}" for agent, one in contestants.items()]
    first = next(iter(contestants.values()))
    steps = first["curve"]["env_steps"][-1]
    what = f"{settings['env']} after {steps:,} steps, {settings['seeds']} seeds, interquartile mean"
    return what, "; ".join(means)


def bfloat16(result: dict[str, Any]) -> Row:
    """Of `benchmarks/studies/agents.py`, of networks that compute in both dtypes."""
    each = []
    for name, one in result["contestants"].items():
        mean = sum(one["final_returns"]) / len(one["final_returns"])
        each.append(f"{name} {mean:,.1f} ± {one['std']:,.1f}")
    both = "networks that compute in float32 and in bfloat16"
    return agents(result)[0].replace("interquartile mean", both), "; ".join(each)


def evolution(result: dict[str, Any]) -> Row:
    """Of `benchmarks/studies/pbt.py`."""
    settings, kinds = result["settings"], {"evolving": "with", "the same without": "without"}
    each = lambda values: ", ".join(f"{value:.0f}" for value in values)
    figures = {name: result["summary"][kind] for name, kind in kinds.items()}
    return (
        f"{settings['env']}, {settings['members']} members from learning rates of "
        f"{settings['low']:g} to {settings['high']:g}, {settings['steps']:,} steps each, "
        f"{settings['repetitions']} times",
        "; ".join(
            f"{name}: mean {each(one['mean'])}, best {each(one['best'])}"
            for name, one in figures.items()
        ),
    )


def driving(result: dict[str, Any]) -> Row:
    """Of `benchmarks/studies/driving.py`."""
    settings, paper = result["settings"], result["paper"]

    def each(name: str, row: dict[str, Any]) -> str:
        metres = row["metres_per_disengagement"]
        known = paper.get(name, {}).get("metres_per_disengagement")
        figure = "no disengagement"
        if row["disengagements"]["max"]:
            figure = f"{metres['mean']:,.1f} ± {metres['std']:,.1f}"
        figure += "" if known is None else f" (paper {known:g})"
        if "options" in row:
            figure += f", {row['drive_all']} of {row['count']} seeds drive all roads"
        return f"{name} {figure}"

    return (
        f"lane: metres per disengagement on {settings['roads']} held-out roads of "
        f"{settings['metres_of_a_road']:g} m, and those of Kendall et al. 2018 with a car",
        "; ".join(each(name, row) for name, row in result["rows"].items()),
    )


def autoencoder(result: dict[str, Any]) -> Row:
    """Of `benchmarks/studies/autoencoder.py`."""
    return (
        f"preset `drive`: on {result['images']:,} pictures of held-out roads, the error of their "
        "mean picture over its autoencoder's",
        ", ".join(f"{one['factor']:.1f}" for one in result["runs"]),
    )


def reached(result: dict[str, Any]) -> Row:
    """Of a part of `benchmarks/accelerator.py` that learns until a return is reached."""
    (found,) = result["measured"]
    each = []
    for one in found["reached"]:
        text = f"{one['return']:,.0f} not reached "
        if one["reached"]:
            text = f"{one['return']:,.0f} after {one['seconds']:.0f} s, "
            text += f"{one['train_seconds']:.0f} s of it training "
        each.append(f"{text}(published {one['published_seconds']:.0f} s)")
    config = found["config"]
    options = ", ".join(f"{name} {value}" for name, value in config["env_options"].items())
    return (
        f"{device(result)}: preset {config['preset']} on {config['env']} ({options}), one seed, "
        "from nothing until the return, compilation and evaluations included; beside it "
        f"{found['reached'][0]['published']}",
        "; ".join(each),
    )


ROWS = {
    "learning_": learning,
    "blind_": blind,
    "shares_": pixel_shares,
    "pendulum_32_seeds": many_seeds,
    "pendulum_lecture": lecture,
    "family_": agents,
    "bfloat16_": bfloat16,
    "study_pbt": evolution,
    "study_driving": driving,
    "study_autoencoder": autoencoder,
    "accelerator_reach_": reached,
}
"""By how the names of results begin."""
