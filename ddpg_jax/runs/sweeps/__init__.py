"""Sweeps: many members with hyper-parameters of their own, as few runs as can be, each a folder as
of `ddpg_jax.runs.train`."""
