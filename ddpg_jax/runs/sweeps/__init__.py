"""Sweeps: many members with numbers of their own, as few runs as can be, each a folder as of `ddpg_jax.runs.train`."""
