"""The nouns of the library: bags of pure functions, and the frozen pytrees of arrays they pass around.

A bag of functions is a ``NamedTuple`` and never sits inside a state. A bag of arrays is a frozen dataclass that JAX
knows as a pytree. Axes are written in capitals: ``B`` batch, ``E`` environments, ``A`` action dimensions.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

Key = jax.Array
PyTree = Any
Metrics = dict[str, jax.Array]


@struct.dataclass
class Transition:
    """What replay stores and an agent learns from. Every leaf has the same leading axes.

    ``discount`` is 0 if and only if the episode terminated, else gamma^(k-1) under a k-step return (1 for k = 1), so
    that ``update`` multiplies by gamma once. A time limit never zeroes it.

    ``valid`` accompanies a transition on its way into the replay, and only from environments that may break down
    (`Environment.breaks`): False where there is nothing to store.
    """

    observation: PyTree
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    next_observation: PyTree
    valid: jax.Array | None = None


@struct.dataclass
class TimeStep:
    """What one step of ``E`` environments returned.

    ``observation`` is what to act on now, after an automatic reset. ``next_observation`` is what really followed the
    action, before it. They differ only where ``terminated`` or ``truncated``.

    ``valid`` is False where the simulation broke down (`Environment.breaks`) and None where that cannot happen. Such a step
    is truncated, and nothing else of it means anything but ``observation``: it is not stored, and its episode not counted.
    """

    observation: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_observation: PyTree
    valid: jax.Array | None = None


@struct.dataclass
class Sample:
    """What a prioritised replay hands out: the batch, beside it importance weights ``[B]`` and the rows ``[B]`` it is from."""

    batch: PyTree
    weight: jax.Array
    rows: jax.Array


@struct.dataclass
class NetworkState:
    """One network: online parameters, their slowly tracking copy, and the optimiser's state.

    ``batch_stats``: what a network carries that is not trained, as Flax collections (running statistics of batch
    normalisation, the key of a noisy network), for the online and the target parameters alike. Empty for most.
    """

    params: PyTree
    target_params: PyTree
    opt_state: PyTree
    batch_stats: PyTree = struct.field(default_factory=dict)


@struct.dataclass
class AgentState:
    """Everything an agent learns: ``step`` counts updates (int32 scalar).

    ``slots``: what wrappers around the agent remember, each under a name of its own (`ddpg_jax.agents.wrappers.slot`).
    """

    actor: NetworkState
    critic: NetworkState
    step: jax.Array
    slots: dict[str, PyTree] = struct.field(default_factory=dict)


class Network(Protocol):
    """Any object with these two methods is a network; a Flax module is one."""

    def init(self, key: Key, /, *inputs: Any) -> PyTree: ...
    def apply(self, params: PyTree, /, *inputs: Any, **options: Any) -> Any: ...


class Agent(NamedTuple):
    """An off-policy agent. ``update`` reads only the five attributes of `Transition` from its batch."""

    init: Callable[[Key, PyTree, jax.Array], AgentState]
    """``init(key, observation, action)``: example arrays without a batch axis."""
    act: Callable[[AgentState, PyTree], jax.Array]
    """``act(state, observation)``: the deterministic action in [-1, 1], any leading axes."""
    update: Callable[..., tuple[AgentState, Metrics]]
    """``update(state, batch, key, weight=None)``: one step on a batch ``[B, ...]``; ``weight: [B]`` of the critic's losses."""
    observe: Callable[[AgentState, PyTree], AgentState] | None = None
    """``observe(state, observation)``: told every collected observation ``[E, ...]``, for running statistics."""
    keep: Callable[[AgentState, PyTree], PyTree] | None = None
    """``keep(state, observation)``: what replay stores of observations, where that never changes; None is all of them."""


class Noise(NamedTuple):
    """Exploration noise added to actions; `ddpg_jax.noise.chain` composes several."""

    init: Callable[[Key, jax.Array], PyTree]
    """``init(key, action)``: the noise state for actions shaped like ``action: [E, A]``."""
    apply: Callable[[PyTree, jax.Array, Key, jax.Array], tuple[jax.Array, PyTree]]
    """``apply(noise_state, action, key, reset)``: ``reset: [E]`` is True where an episode begins with this action."""


class Storage(NamedTuple):
    """How the transitions of a replay lie in memory, apart from how they are drawn. Its states have ``size``, rows with data,
    and ``position``, the row written next."""

    init: Callable[[PyTree], Any]
    add: Callable[..., Any]
    """Both as of `Replay`."""
    get: Callable[[Any, jax.Array], PyTree]
    """``get(storage_state, rows)``: the transitions in these rows, ``[B]``."""
    capacity: int


class Replay(NamedTuple):
    """Experience replay that lives on the device."""

    init: Callable[[PyTree], PyTree]
    """``init(transition)``: an empty buffer for items shaped like the example (no batch axis)."""
    add: Callable[..., PyTree]
    """``add(replay_state, transitions, valid=None)``: store ``[E, ...]`` items, or those where ``valid: [E]``; the oldest
    give way. A replay is added to in one of the two ways throughout."""
    sample: Callable[[PyTree, Key], PyTree]
    """``sample(replay_state, key)``: a batch of ``B`` exchangeable rows, or a `Sample` where ``update`` is given."""
    update: Callable[[PyTree, jax.Array, jax.Array], PyTree] | None = None
    """``update(replay_state, rows, td_error)``: take back the errors ``[B]`` of what was sampled."""


class Window(NamedTuple):
    """Turns every step into one transition over up to ``length`` steps, ``length - 1`` steps later (`ddpg_jax.returns`)."""

    init: Callable[[Transition], PyTree]
    """``init(transition)``: from the shapes of one step's transitions ``[E, ...]``."""
    push: Callable[[PyTree, Transition, jax.Array], tuple[PyTree, Transition]]
    """``push(state, transition, done)``: take in a step ``[E, ...]`` and whether an episode ended with it, ``[E]``; give out
    the transition that begins ``length - 1`` steps earlier. Only from the ``length``-th step on is that one that was taken."""
    length: int


class Single(NamedTuple):
    """One environment, without batch axis, time limit or reset: what an adapter has to supply; `envs.batch` makes many."""

    reset: Callable[[Key], tuple[PyTree, PyTree]]
    """``reset(key)``: ``(state, observation)``; a fresh draw from the start distribution."""
    step: Callable[[PyTree, jax.Array, Key], tuple[PyTree, PyTree, jax.Array, jax.Array]]
    """``step(state, action, key)``: ``(state, observation, reward, terminated)`` for ``action: [A]`` in [-1, 1]."""
    action_size: int
    truncated: Callable[[PyTree], jax.Array] | None = None
    """``truncated(state)``: whether the episode is cut off here, though not over; None where only the time limit does that.
    A state that is terminated as well is terminated."""
    valid: Callable[[PyTree, PyTree, jax.Array], jax.Array] | None = None
    """``valid(state, observation, reward)``: whether the simulation still holds; None where it cannot break down. Where it
    does not, the environment is reset, and the step is no transition (`TimeStep`)."""
    scene: Callable[[PyTree], PyTree] | None = None
    """``scene(state)``: the shapes of which it consists now, for a renderer; None where it has none to show."""


class View(NamedTuple):
    """How an `Environment` is looked at. Nothing of it is needed to train."""

    draw: Callable[[PyTree], Sequence[Any]] | None = None
    """``draw(states)``: frames ``[H, W, 3]`` uint8, from states ``[T, ...]`` of the `Single` (`Environment.single_state`)."""
    viewer: Callable[[PyTree], str] | None = None
    """``viewer(states)``: the same as an HTML page, where the simulator has a viewer."""
    fps: float = 30.0
    """Steps per second of the environment's own time."""


def unit_action(action: jax.Array) -> jax.Array:
    """The action of an environment whose own range is [-1, 1] in every dimension."""
    return jnp.clip(action, -1.0, 1.0)


class Making(NamedTuple):
    """How `ddpg_jax.envs.batch` made an `Environment`."""

    make: Callable[..., "Environment"]
    """``make(single, time_limit, view)``: another `Single` made into as many environments in the same way."""
    step: Callable[..., Any]
    """The environment's own; one that has another was wrapped since."""


class Environment(NamedTuple):
    """``num_envs`` environments stepped as one, with automatic reset; actions are in [-1, 1] per dimension."""

    reset: Callable[[Key], tuple[PyTree, PyTree]]
    """``reset(key)``: ``(env_state, observation)`` with leading axis ``E``."""
    step: Callable[[PyTree, jax.Array, Key], tuple[PyTree, TimeStep]]
    """``step(env_state, action, key)``: ``action: [E, A]``."""
    num_envs: int
    observation: PyTree
    """Shape and dtype of one observation (``jax.ShapeDtypeStruct``, no batch axis)."""
    action: jax.ShapeDtypeStruct
    """Shape ``[A]`` and dtype of one action."""
    time_limit: int
    """Steps after which an episode is truncated."""
    breaks: bool = False
    """Whether a simulation may break down, which `TimeStep.valid` then says."""
    native_action: Callable[[jax.Array], jax.Array] = unit_action
    """``native_action(action)``: ``[..., A]`` in the environment's own units and bounds, for export."""
    single: Single | None = None
    """What it was made from: what a planner steps and a renderer draws; None where it was made in another way."""
    single_state: Callable[[PyTree], PyTree] = lambda env_state: env_state
    """``single_state(env_state)``: the states of ``single`` in it, with its leading axes."""
    view: View = View()
    stacked: int = 1
    """Frames that an image joins along its last axis, of which each step brings one (`ddpg_jax.envs.frame_stack`)."""
    making: Making | None = None
    """How it was made; of use to what makes one like it (`ddpg_jax.envs.pixels`)."""


class HostStep(NamedTuple):
    """What one step of ``E`` host environments returned; NumPy, as `TimeStep`.

    ``valid: [E]`` is False where the environment ignored the action in order to begin its next episode (Gymnasium's
    next-step autoreset): there is no transition there, and nothing but ``observation`` means anything.
    """

    observation: Any
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_observation: Any
    valid: np.ndarray


class HostEnvironment(NamedTuple):
    """``num_envs`` environments on the host, with automatic reset. What is not explained here is as of `Environment`."""

    reset: Callable[[int], Any]
    """``reset(seed) -> observation [E, ...]``; any non-negative integer."""
    step: Callable[[np.ndarray], HostStep]
    """``step(action [E, A]) -> HostStep``."""
    close: Callable[[], None]
    num_envs: int
    observation: Any
    """Shape and dtype of one observation, as the agent sees it: float64 as float32; uint8 stays, dicts stay dicts."""
    action: jax.ShapeDtypeStruct
    time_limit: int | None
    same_step: bool
    """Whether every step of every environment is a transition (same-step autoreset)."""
    native_action: Callable[[jax.Array], jax.Array]
    draw: Callable[[], Any]
    """``draw() -> [H, W, 3]`` uint8, environment 0 now; None where it was not made to be drawn."""
    fps: float
    """Steps per second of its own time."""
    stacked: int = 1


class Behaviour(NamedTuple):
    """What chooses actions while collecting: an agent with noise, uniform warm-up, or parameter-space noise."""

    init: Callable[[Key, jax.Array], PyTree]
    """``init(key, action)``: the behaviour state for actions shaped like ``action: [E, A]``."""
    act: Callable[[PyTree, AgentState, PyTree, Key, jax.Array], tuple[jax.Array, PyTree]]
    """``act(behaviour_state, agent_state, observation, key, reset)``: ``(action, behaviour_state)``."""
    adapt: Callable[[PyTree, AgentState, Any], PyTree] | None = None
    """``adapt(behaviour_state, agent_state, batch)``: learn from a replayed batch how far to explore."""


class Policy(NamedTuple):
    """What acts where nothing is learned: an agent as it is (`ddpg_jax.rollout.deterministic`), or a planner, which sees the
    environments' own state and steps `Environment.single`."""

    init: Callable[[Key, PyTree], PyTree]
    """``init(key, env_state)``: what it remembers, leading axis ``E``."""
    act: Callable[[PyTree, AgentState, PyTree, PyTree, Key], tuple[jax.Array, PyTree]]
    """``act(policy_state, agent_state, env_state, observation, key)``: ``(action [E, A], policy_state)``."""


def is_key(leaf: Any) -> bool:
    """Whether an array holds typed random keys."""
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def strong(tree: PyTree) -> PyTree:
    """The same arrays without weak types: a weak leaf in a state makes the second call of a program compile it again."""
    return jax.tree.map(lambda x: x if is_key(x) else jax.lax.convert_element_type(x, jnp.result_type(x)), tree)
