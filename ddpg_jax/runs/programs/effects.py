"""Hyper-parameters that change nothing in what members train."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
from jax.interpreters.partial_eval import dce_jaxpr

from ddpg_jax import envs
from ddpg_jax.runs.programs.build import member_of
from ddpg_jax.runs.programs.setup import member_hyperparameters, member_keys

if TYPE_CHECKING:
    from ddpg_jax.runs.config.run_config import Config


def without_effect(config: Config, *, from_start: bool) -> list[str]:
    """Return the members' own hyper-parameters that change nothing in their training.

    Args:
        config: of members with hyper-parameters of their own.
        from_start: whether what they change before the first update counts.
    """
    hyperparameters, *traced = _traced(config)
    found = [
        dce_jaxpr(one.jaxpr.jaxpr, [True] * len(one.jaxpr.jaxpr.outvars))[1]
        for one in (traced if from_start else traced[:1])
    ]
    # States follow the hyper-parameters.
    used = zip(sorted(hyperparameters), *found, strict=False)
    return [name for name, *everywhere in used if not any(everywhere)]


def program_of(config: Config) -> str:
    """Return a text of what a member computes: where two are equal, so is what they train."""
    texts = [one.lower().as_text() for one in _traced(config)[1:]]
    return repr((config.schedule, config.trained_timesteps, texts))


def _traced(config: Config) -> tuple[Any, jax.stages.Traced, jax.stages.Traced]:
    """Return the hyper-parameters of a member, a chunk of it, and its start."""
    if envs.on_host(config.env):  # the same networks, around an environment that can be traced
        shown = {"pixels": True} if config.preset.images else {}
        config = dataclasses.replace(config, env="pendulum", env_options=shown)
    member, keys = member_of(config), member_keys(config)
    hyperparameters = member_hyperparameters(config)
    start = jax.jit(lambda own: member(own).start(keys)).trace(hyperparameters)
    chunk = jax.jit(lambda own, state: member(own).chunk(state))
    return hyperparameters, chunk.trace(hyperparameters, start.out_info), start
