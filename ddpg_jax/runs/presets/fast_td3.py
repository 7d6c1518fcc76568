"""FastTD3 as its authors run it on MuJoCo Playground: a thousand environments, large batches, bfloat16."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ddpg_jax.runs.options.preset import Parts, Preset
from ddpg_jax.runs.presets import td3_categorical

if TYPE_CHECKING:
    from ddpg_jax.types import Environment

ACTOR_BOUND = 0.01 * 3**0.5
"""U[-b, b] has the standard deviation b / sqrt(3)."""
OWN = {
    r"playground/CheetahRun": {
        "n_step": 3,
        "stddev_low": 0.1,
        "target_noise": 0.1,
        "v_min": -500.0,
        "v_max": 500.0,
    },
    r"playground/Go1\w*": {"updates_per_step": 8, "stddev_low": 0.2, "stddev_high": 0.8, "target_noise": 0.2},
}
"""Of tasks for which its configuration has other hyper-parameters."""


def compose(hyperparameters: td3_categorical.TD3CategoricalHyperparameters, env: Environment) -> Parts:
    """TD3 with categorical critics whose layers start as there."""
    return td3_categorical.compose(hyperparameters, env, actor_bound=ACTOR_BOUND, critic_bound=None)


def own(env: str) -> Mapping[str, Any]:
    """Its hyper-parameters for this environment that are not those of the others."""
    return next((hyperparameters for name, hyperparameters in OWN.items() if re.fullmatch(name, env)), {})


PRESETS = (
    Preset(
        name="fast-td3",
        summary="FastTD3: TD3 with categorical critics, on large batches from a thousand environments; the choice on a GPU.",
        source=(
            "Seo et al. 2025 (arXiv:2505.22642) and its configuration for MuJoCo Playground: 1,024 environments, batch 32,768, "
            "2 updates per step, delay 2, AdamW 3e-4 with decay 0.1, tau 0.1, gamma 0.97, 101 atoms on +-10, stddev ~ U(0.001, "
            "0.4) per episode, target noise 0.001 clipped at 0.5, actor 512-256-128, critics 1,024-512-256, 10,240 steps of "
            "each environment in the replay, the first update after 10, observations normalised, networks in bfloat16; "
            "CheetahRun: 3-step returns, +-500, stddev from 0.1, target noise 0.1; Go1: 8 updates per step, stddev ~ U(0.2, "
            "0.8), target noise 0.2."
        ),
        ours="the actor's final layer starts in U of the same spread (N(0, 0.01) there); 5e7 steps.",
        hyperparameters=replace(td3_categorical.NUMBERS, dtype="bfloat16"),
        compose=compose,
        exact=True,
        published_for=own,
    ),
)
