"""The options of a sweep besides those of its runs."""

from dataclasses import dataclass

from ddpg_jax.runs.options.field import option


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What members of a sweep differ in, and how many train at once."""

    set: tuple[str, ...] = option(
        (),
        "Values of a hyper-parameter: 1e-4,1e-3 or log:LOW:HIGH[:COUNT] or uniform:LOW:HIGH[:COUNT]"
        "; may be repeated.",
        "sweep",
        metavar="NAME=VALUES",
        common=True,
    )
    draws: int | None = option(
        None, "Random settings, where values are drawn from ranges.", "sweep", common=True
    )
    memory: int | None = option(
        None,
        "Memory for members trained at once.",
        "sweep",
        "bytes",
        low=1,
        unset="0.8 of the memory",
    )
    pbt: bool = option(
        False,
        "Population-based training: between chunks the worst members take over from the best.",
        "population-based training",
        common=True,
    )


@dataclass(frozen=True, kw_only=True)
class EvolveOptions:
    """How members evolve, as `ddpg_jax.population.evolution.evolving` takes it."""

    fraction: float = option(
        0.2,
        "Share of members that may be replaced, at least one of them.",
        "population-based training",
        positive=True,
        high=0.5,
    )
    change: float = option(
        0.2,
        "Relative change of a hyper-parameter, up or down.",
        "population-based training",
        low=0,
        high=1,
    )
    resample: float = option(
        0.25,
        "Probability to draw a hyper-parameter from its range instead.",
        "population-based training",
        low=0,
        high=1,
    )
    copy_replay: bool = option(
        True, "Copy the replay of the better member too.", "population-based training"
    )
