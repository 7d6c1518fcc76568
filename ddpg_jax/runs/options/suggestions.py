"""What is meant by a name that other libraries use."""

from collections.abc import Iterable

ENVIRONMENT = ("env", "env_id", "env_name", "environment", "task")
"""Options of other libraries for what is an argument here."""
_STEPS = ("steps", "num_steps", "timesteps", "num_timesteps", "total_steps", "max_steps")
_RATES = ("actor_learning_rate", "critic_learning_rate")
SYNONYMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_STEPS, ("total_timesteps",)),
    **dict.fromkeys(("algorithm", "algo", "agent"), ("preset",)),
    **dict.fromkeys(("lr", "learning_rate", "learningrate"), _RATES),
    **dict.fromkeys(("actor_lr", "critic_lr"), _RATES),
    **dict.fromkeys(("buffer_size", "replay_size", "memory_size"), ("replay_capacity",)),
    **dict.fromkeys(("discount", "discount_factor"), ("gamma",)),
    **dict.fromkeys(("polyak", "soft_update"), ("tau",)),
    **dict.fromkeys(("sigma", "noise", "exploration_noise"), ("stddev",)),
}
"""Names here by those of other libraries."""


def synonyms(name: str, known: Iterable[str]) -> list[str]:
    """Return those of ``known`` names that ``name``, with ``-`` or ``_``, means elsewhere."""
    meant = SYNONYMS.get(name.lower().replace("-", "_"), ())
    own = set(known)
    return [each for each in meant if each in own]
