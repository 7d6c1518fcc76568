"""The command ``ddpg-jax``."""
