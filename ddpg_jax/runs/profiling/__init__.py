"""Where the time of a run goes: ``ddpg-jax train --profile``."""
