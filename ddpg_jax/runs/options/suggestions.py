"""What is meant by a name that other libraries use."""

import difflib
from collections.abc import Iterable

ENVIRONMENT = ("env", "env_id", "env_name", "environment", "task")
"""Options of other libraries for what is an argument here."""
SYNONYMS = {
    "total_timesteps": "steps num_steps timesteps num_timesteps total_steps max_steps",
    "preset": "algorithm algo agent",
    "draws": "random samples num_samples trials num_trials n_trials",
    "num_envs": "n_envs envs num_environments",
    "actor_learning_rate": "lr learning_rate actor_lr",
    "critic_learning_rate": "lr learning_rate critic_lr",
    "replay_capacity": "buffer_size replay_size memory_size",
    "gamma": "discount discount_factor",
    "tau": "polyak soft_update",
    "stddev": "sigma noise exploration_noise",
}
"""Names here, and those of other libraries for the same."""


def synonyms(name: str, known: Iterable[str]) -> list[str]:
    """Return those of ``known`` names that ``name``, with ``-`` or ``_``, means elsewhere."""
    wanted = name.lower().replace("-", "_")
    meant = {own for own, others in SYNONYMS.items() if wanted in others.split()}
    return [each for each in known if each in meant]


def suggestions(name: str, known: Iterable[str]) -> list[str]:
    """Return `synonyms`, or where there is none the known name that differs by a letter or two."""
    known = [*known]
    return synonyms(name, known) or difflib.get_close_matches(name, known, n=1, cutoff=0.85)
