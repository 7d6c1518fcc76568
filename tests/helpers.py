"""What several test files use."""

from ddpg_jax.runs.presets import hyperparameter_options


def hyperparameter_types():
    """Name and type of each hyper-parameter of some preset that is not a tuple of widths."""
    types = {name: kind for name, (kind, _) in hyperparameter_options().items()}
    return {name: kind for name, kind in types.items() if kind in (int, float, bool, str)}
