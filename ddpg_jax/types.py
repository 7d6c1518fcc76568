"""The nouns of the library: bags of pure functions, and the frozen pytrees of arrays they pass
around.

A bag of functions is a ``NamedTuple`` and never sits inside a state. A bag of arrays is a frozen
dataclass that JAX knows as a pytree. Axes are written in capitals: ``B`` batch, ``E`` environments,
``A`` action dimensions.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

Array = jax.Array
"""An array of JAX, traced or not."""
Key = Array
"""A typed random key, or an array of them; used once."""
PyTree = Any
"""Any tree of arrays that JAX knows."""
Metrics = dict[str, Array]
"""Scalars to report, by name."""
Numeric = float | Array
"""A hyper-parameter: a number or an array, traced or not."""


@struct.dataclass
class Transition:
    """What replay stores and an agent learns from. Every leaf has the same leading axes.

    ``discount`` is 0 if and only if the episode terminated, else gamma^(k-1) under a k-step return
    (1 for k = 1), so that ``update`` multiplies by gamma once. A time limit never zeroes it.

    ``valid`` accompanies a transition on its way into the replay, and only from environments that
    may break down (`Environment.breaks`): False where there is nothing to store.
    """

    observation: PyTree
    action: Array
    reward: Array
    discount: Array
    next_observation: PyTree
    valid: Array | None = None


class Batch(Protocol):
    """What an agent learns from: any object with these five attributes, a `Transition` among them.
    Axis ``B`` is the batch.
    """

    @property
    def observation(self) -> PyTree:
        """``[B, ...]`` in each leaf."""

    @property
    def action(self) -> Array:
        """``[B, A]``, in [-1, 1]."""

    @property
    def reward(self) -> Array:
        """``[B]``, of n steps where replay stores n-step returns."""

    @property
    def discount(self) -> Array:
        """``[B]``: 0 where the episode terminated, else gamma^(k-1) under a k-step return (see
        `Transition`).
        """

    @property
    def next_observation(self) -> PyTree:
        """``[B, ...]`` in each leaf: what followed the action, or the last of k."""


@struct.dataclass
class Segment:
    """Successive single steps ``[B, n, ...]``, the first ``length: [B]`` of them of one episode."""

    transitions: Transition
    length: Array


@struct.dataclass
class Sample:
    """What a prioritised replay hands out: the batch, beside it importance weights ``[B]`` and the
    rows ``[B]`` it is from.
    """

    batch: PyTree
    weight: Array
    rows: Array


@struct.dataclass
class NetworkState:
    """One network: online parameters, their slowly tracking copy, and the optimiser's state.

    ``batch_stats``: what a network carries that is not trained, as Flax collections (running
    statistics of batch normalisation, the key of a noisy network), for the online and the target
    parameters alike. Empty for most.
    """

    params: PyTree
    target_params: PyTree
    opt_state: PyTree
    batch_stats: PyTree = struct.field(default_factory=dict)


@struct.dataclass
class AgentState:
    """Everything an agent learns: ``step`` counts updates (int32 scalar).

    ``slots``: what wrappers around the agent remember, each under a name of its own
    (`ddpg_jax.agents.with_slot`).
    """

    actor: NetworkState
    critic: NetworkState
    step: Array
    slots: dict[str, PyTree] = struct.field(default_factory=dict)


class Network(Protocol):
    """Any object with these two methods is a network; a Flax module is one."""

    def init(self, key: Key, /, *inputs: Any) -> PyTree:
        """Parameters for example inputs; consumes ``key``."""

    def apply(self, params: PyTree, /, *inputs: Any, **options: Any) -> Any:
        """The output for these inputs."""


class Update(NamedTuple):
    """What one update of an agent returns.

    ``priority: [B]``, at least 0 and in the order of the batch: how much each example had left to
    learn, for a replay that samples by it. ``metrics``: scalars to report.
    """

    state: AgentState
    priority: Array
    metrics: Metrics


class Agent(NamedTuple):
    """An off-policy agent."""

    init: Callable[[Key, PyTree, Array], AgentState]
    """``init(key, observation, action)``: example arrays without a batch axis."""
    act: Callable[[AgentState, PyTree], Array]
    """``act(state, observation)``: the deterministic action in [-1, 1], any leading axes."""
    update: Callable[..., Update]
    """``update(state, batch, key, weight=None)``: one step on a `Batch`; ``weight: [B]`` of the
    critic's losses.
    """
    observe: Callable[[AgentState, PyTree], AgentState] | None = None
    """``observe(state, observation)``: told every collected observation ``[E, ...]``, for running
    statistics.
    """
    to_replay: Callable[[AgentState, PyTree], PyTree] | None = None
    """``to_replay(state, observation)``: what replay stores of an observation, where that never
    changes; None is all of it.
    """
    gamma: Numeric | None = None
    """The discount factor, for comparison with the window's; None is not known."""


class Noise(NamedTuple):
    """Exploration noise added to actions; `ddpg_jax.noise.chain` composes several."""

    init: Callable[[Key, Array], PyTree]
    """``init(key, action)``: the noise state for actions shaped like ``action: [E, A]``."""
    apply: Callable[[PyTree, Array, Key, Array], tuple[Array, PyTree]]
    """``apply(noise_state, action, key, reset)``: ``reset: [E]`` is True where an episode begins
    with this action.
    """


class Dealt(NamedTuple):
    """A replay on another number of shards.

    ``places``: for each new shard where its rows 0, 1, ... lay before, ``(shard, row)``; ``lost``:
    transitions that no new shard has.
    """

    state: PyTree
    places: Sequence[Any]
    lost: int


class Storage(NamedTuple):
    """How the transitions of a replay lie in memory, apart from how they are drawn. Its states have
    ``size``, rows with data, and ``position``, the row written next.
    """

    init: Callable[[PyTree], Any]
    add: Callable[..., Any]
    """Both as of `Replay`."""
    get: Callable[[Any, Array], PyTree]
    """``get(storage_state, rows)``: the transitions in these rows, ``[B]``."""
    capacity: int
    deal: Callable[..., Dealt] | None = None
    """As of `Replay`; a third argument says where each row goes."""


class Replay(NamedTuple):
    """Experience replay that lives on the device."""

    init: Callable[[PyTree], PyTree]
    """``init(transition)``: an empty buffer for items shaped like the example (no batch axis)."""
    add: Callable[..., PyTree]
    """``add(replay_state, transitions, valid=None)``: store ``[E, ...]`` items, or those where
    ``valid: [E]``; the oldest are overwritten. Pass ``valid`` always or never. Where `of_episodes`
    also ``ended=``, ``[E]``: whether an episode ended with the step of each environment.
    """
    sample: Callable[[PyTree, Key], PyTree]
    """``sample(replay_state, key)``: a batch of ``B`` exchangeable rows, or a `Sample` where
    ``update`` is given.
    """
    update: Callable[[PyTree, Array, Array], PyTree] | None = None
    """``update(replay_state, rows, priority)``: store the priorities ``[B]`` of what was sampled.
    """
    deal: Callable[[PyTree, int], Dealt] | None = None
    """``deal(replay_states, count)``: the transitions of other shards' replays, NumPy arrays with a
    leading axis of shards, in ``count`` replays such as this one, again NumPy arrays. Without it a
    run cannot resume on another number of shards.
    """
    of_episodes: bool = False
    """Whether ``add`` is told where episodes end, and a `Window` is given to it alone."""


class Window(NamedTuple):
    """Turns every step into one transition over up to ``length`` steps, ``length - 1`` steps later
    (`ddpg_jax.returns`).
    """

    init: Callable[[Transition], PyTree]
    """``init(transition)``: from the shapes of one step's transitions ``[E, ...]``."""
    push: Callable[[PyTree, Transition, Array], tuple[PyTree, Transition]]
    """``push(state, transition, ended)``: add a step ``[E, ...]`` and whether an episode ended with
    it, ``[E]``; returns the transition that begins ``length - 1`` steps earlier, which exists only
    from the ``length``-th step on.
    """
    of: Callable[[Segment], Transition]
    """``of(segment)``: the same ``[B, ...]`` of a `Segment`; a discount of 0 ends it."""
    length: int
    gamma: Numeric | None = None
    """The discount factor, for comparison with the agent's; None is not known."""


class Behaviour(NamedTuple):
    """What chooses actions while collecting: an agent with noise, uniform warm-up, or
    parameter-space noise.
    """

    init: Callable[[Key, Array], PyTree]
    """``init(key, action)``: the behaviour state for actions shaped like ``action: [E, A]``."""
    act: Callable[[PyTree, AgentState, PyTree, Key, Array], tuple[Array, PyTree]]
    """``act(behaviour_state, agent_state, observation, key, reset)``:
    ``(action, behaviour_state)``.
    """
    adapt: Callable[[PyTree, AgentState, Batch], PyTree] | None = None
    """``adapt(behaviour_state, agent_state, batch)``: learn from a replayed batch how far to
    explore.
    """


class Policy(NamedTuple):
    """What acts where nothing is learned: an agent as it is (`ddpg_jax.rollout.deterministic`), or
    a planner, which sees the environments' own state and steps `Environment.single`.
    """

    init: Callable[[Key, PyTree], PyTree]
    """``init(key, env_state)``: what it remembers, leading axis ``E``."""
    act: Callable[[PyTree, AgentState, PyTree, PyTree, Key], tuple[Array, PyTree]]
    """``act(policy_state, agent_state, env_state, observation, key)``:
    ``(action [E, A], policy_state)``.
    """


def is_key(leaf: Any) -> bool:
    """Whether an array holds typed random keys."""
    if isinstance(getattr(leaf, "dtype", None), np.dtype):  # what JAX asks takes 20 us
        return False
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def zeros(like: PyTree, *lead: int) -> PyTree:
    """Zeros of the dtypes and, behind the axes ``lead``, the shapes of arrays (or of shapes)."""
    return jax.tree.map(lambda x: jnp.zeros((*lead, *x.shape), x.dtype), like)


def strong(tree: PyTree) -> PyTree:
    """The same arrays without weak types: a weak leaf in a state makes the second call of a program
    compile it again.
    """
    return jax.tree.map(
        lambda x: x if is_key(x) else jax.lax.convert_element_type(x, jnp.result_type(x)), tree
    )
