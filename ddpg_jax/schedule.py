"""Warm-up, rounds and chunks: the arithmetic of a training run, in plain integers."""

from dataclasses import dataclass
from fractions import Fraction

from ddpg_jax import checks

_LARGEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When what happens. A *vector step* is a step of all environments; "steps" alone are
    environment steps over all of them.

    A run is a warm-up, which stores ``learning_starts`` transitions without learning, and then
    chunks, between which it reports. A chunk is a number of rounds: ``collect_steps`` vector steps,
    then ``updates_per_step`` updates.

    Args:
        num_envs: E, at least 1.
        learning_starts: transitions stored before the first update, at least 1 (rounded up to whole
            vector steps).
        updates_per_step: updates of the agent in each round, at least 1; with ``collect_steps`` it
            sets the replay ratio.
        collect_steps: vector steps in each round, at least 1.
        steps_per_chunk: environment steps over all environments per chunk, a multiple of
            ``collect_steps * num_envs``.
        n_step: length of the window of multi-step returns; its first ``n_step - 1`` vector steps
            store nothing.

    Raises:
        ValueError: a number is out of its range.
    """

    num_envs: int = 1
    learning_starts: int = 1_000
    updates_per_step: int = 1
    collect_steps: int = 1
    steps_per_chunk: int = 1_000
    n_step: int = 1

    def __post_init__(self) -> None:
        checks.between(1, **vars(self) | {"steps_per_chunk": 1})  # which is checked below
        whole = self.steps_per_round
        if self.steps_per_chunk < 1 or self.steps_per_chunk % whole:
            unit = f"num_envs={self.num_envs}"
            unit += "" if self.collect_steps == 1 else f" times collect_steps={self.collect_steps}"
            near = max(1, round(self.steps_per_chunk / whole)) * whole
            raise ValueError(
                f"steps_per_chunk={self.steps_per_chunk}: must be a multiple of {unit}, "
                f"for example {near}."
            )

    @property
    def steps_per_round(self) -> int:
        """Environment steps in a round."""
        return self.num_envs * self.collect_steps

    @property
    def rounds(self) -> int:
        """In a chunk."""
        return self.steps_per_chunk // self.steps_per_round

    @property
    def filling(self) -> int:
        """Vector steps until the window gives out whole transitions."""
        return self.n_step - 1

    @property
    def warm_up(self) -> int:
        """Vector steps before the first chunk, those that fill the window among them."""
        return self.filling - (-self.learning_starts // self.num_envs)

    @property
    def warm_up_steps(self) -> int:
        """Environment steps before the first chunk."""
        return self.warm_up * self.num_envs

    @property
    def longest(self) -> int:
        """Environment steps of the longest run, whole chunks or not: the device counts vector steps
        and updates in int32.
        """
        rounds = min(
            (_LARGEST - self.warm_up) // self.collect_steps, _LARGEST // self.updates_per_step
        )
        return self.warm_up_steps + rounds * self.steps_per_round

    def chunks(self, total_timesteps: int) -> int:
        """Whole chunks that fit into so many environment steps after the warm-up."""
        return (total_timesteps - self.warm_up_steps) // self.steps_per_chunk

    def trained(self, total_timesteps: int) -> int:
        """Environment steps of the warm-up and of the whole rounds that fit."""
        return total_timesteps - (total_timesteps - self.warm_up_steps) % self.steps_per_round

    def steps_after(self, chunks: int) -> int:
        """Environment steps after the warm-up and that many chunks."""
        return self.warm_up_steps + chunks * self.steps_per_chunk


def rounds_of(updates_per_step: int, batches_per_update: int) -> tuple[int, int]:
    """``(updates, collect_steps)`` of a round in which every vector step has ``updates_per_step``
    critic updates, of which one update of the agent makes ``batches_per_update`` (a policy delay).
    """
    return Fraction(updates_per_step, batches_per_update).as_integer_ratio()


def even_chunk(rounds: int, chunks: int) -> int:
    """Rounds per chunk, such that half to twice as many whole chunks as asked for leave as little
    as can be of so many rounds; the number nearest to ``chunks`` where that is equal, and at least
    one round.
    """
    sizes = {max(1, rounds // count) for count in range(chunks // 2, 2 * chunks + 1)}
    few = {size for size in sizes if rounds // size <= 2 * chunks}
    return min(few, key=lambda size: (rounds % size, abs(rounds // size - chunks), size))
