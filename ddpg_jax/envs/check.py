"""Does an environment keep the contract? A conformance test for any adapter, also one of your own, with readable findings."""

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax.types import Environment, Key, PyTree, TimeStep, is_key


def check(env: Environment, *, steps: int | None = None, seed: int = 0) -> list[str]:
    """Look for what breaks learning silently; each finding is one sentence, and an environment that is right has none.

    Plays random actions in all environments and looks at shapes and dtypes, what follows the ends of episodes, time limits,
    starts, the range of actions, keys and compilation. What never occurred in that time is not judged.

    Args:
        env: any `ddpg_jax.types.Environment`.
        steps: vector steps to play; None is two episodes and a few steps.
        seed: of the play.

    Returns:
        Findings, the gravest first.
    """
    steps = 2 * env.time_limit + 10 if steps is None else steps
    findings = _shapes(env)
    if findings:
        return findings
    plain, traces = env, list[None]()

    def traced(state: PyTree, action: jax.Array, key: Key) -> tuple[PyTree, TimeStep]:
        traces.append(None)
        return plain.step(state, action, key)

    # A simulator is slow to compile: two programs serve all that follows.
    env = env._replace(reset=jax.jit(env.reset), step=jax.jit(traced))
    played = _play(env, steps, seed)
    return [*_ends(env, played), *_starts(env, played), *_keys(env, seed), *_actions(env, seed), *_compiles(len(traces))]


def _random_actions(env: Environment, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (env.num_envs, *env.action.shape)).astype(env.action.dtype)


def _shapes(env: Environment) -> list[str]:
    key = jax.random.key(0)
    try:
        state, observation = jax.eval_shape(env.reset, key)
        action = jax.ShapeDtypeStruct((env.num_envs, *env.action.shape), env.action.dtype)
        after, now = jax.eval_shape(env.step, state, action, key)
    except Exception as error:
        return [f"reset or step cannot be traced by JAX: {type(error).__name__}: {str(error).splitlines()[0]}"]
    expected = jax.tree.map(lambda x: jax.ShapeDtypeStruct((env.num_envs, *x.shape), x.dtype), env.observation)
    flags = jax.ShapeDtypeStruct((env.num_envs,), jnp.bool_)
    wanted = {
        "the observation of reset": (observation, expected),
        "observation": (now.observation, expected),
        "next_observation": (now.next_observation, expected),
        "reward": (now.reward, jax.ShapeDtypeStruct((env.num_envs,), jnp.float32)),
        "terminated": (now.terminated, flags),
        "truncated": (now.truncated, flags),
        **({"valid": (now.valid, flags)} if env.breaks else {}),
        "the state after a step": (after, state),
    }
    return [
        f"{name} is {_describe(given)} where {_describe(want)} was declared: shapes and dtypes must not drift"
        for name, (given, want) in wanted.items()
        if _describe(given) != _describe(want)
    ]


def _describe(tree: PyTree) -> str:
    described = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree)
    leaves = jax.tree_util.tree_leaves_with_path(described)
    return ", ".join(f"{jax.tree_util.keystr(path)}{' ' if path else ''}{leaf}" for path, leaf in leaves)


def _play(env: Environment, steps: int, seed: int) -> dict[str, np.ndarray]:
    """Everything that was seen, ``[steps, E, ...]``; observations as one flat vector each."""
    reset_key, *keys = jax.random.split(jax.random.key(seed), steps + 1)

    @jax.jit
    def flat(observation: PyTree) -> jax.Array:
        leaves = [x.reshape(env.num_envs, -1).astype(jnp.float32) for x in jax.tree.leaves(observation)]
        return jnp.concatenate(leaves, axis=1)

    state, observation = env.reset(reset_key)
    first, seen = flat(observation), []
    for number, key in enumerate(keys):
        state, now = env.step(state, jnp.asarray(_random_actions(env, number)), key)
        valid = np.ones(env.num_envs, bool) if now.valid is None else now.valid
        seen.append((flat(now.observation), flat(now.next_observation), now.reward, now.terminated, now.truncated, valid))
    names = ("observation", "next_observation", "reward", "terminated", "truncated", "valid")
    stacked = (np.stack(parts) for parts in zip(*jax.device_get(seen), strict=True))
    return {"first": np.asarray(first), **dict(zip(names, stacked, strict=True))}


def _ends(env: Environment, played: dict[str, np.ndarray]) -> list[str]:
    terminated, truncated = played["terminated"], played["truncated"]
    done = terminated | truncated
    same = np.all(played["observation"] == played["next_observation"], axis=-1)
    findings = []
    bad = ~np.isfinite(played["reward"]) | ~np.isfinite(played["next_observation"]).all(axis=-1)
    if bad.any():
        findings.append(
            f"at {np.mean(bad):.1%} of steps an observation or reward is NaN or infinite: an adapter says which steps are not "
            "`valid`, and resets"
        )
    if not np.all(same[~done & ~bad]):
        findings.append("within an episode observation and next_observation differ: both are what follows the action")
    whole = done & played["valid"]
    if whole.any() and np.any(same[whole]):
        share = np.mean(same[whole])
        findings.append(
            f"at {share:.0%} of episode ends next_observation is the observation of the new episode, or no new episode began: "
            "next_observation must be the true successor, observation the start of the next episode"
        )
    if np.any(terminated & truncated):
        findings.append("terminated and truncated are both set at one step: a time limit does not terminate")
    lengths, ends = _lengths(done, terminated)
    if lengths.size and lengths.max() > env.time_limit:
        findings.append(f"an episode lasted {lengths.max()} steps where the time limit is {env.time_limit}")
    if not lengths.size and len(done) > env.time_limit:
        findings.append(f"no episode ended in {len(done)} steps where the time limit is {env.time_limit}")
    at_limit = lengths == env.time_limit
    if at_limit.any() and np.all(ends[at_limit]):
        findings.append(
            f"all {at_limit.sum()} episodes that lasted {env.time_limit} steps, the time limit, are terminated: a time limit "
            "truncates, so that the value of what would have followed still counts"
        )
    return findings


def _lengths(done: np.ndarray, terminated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length of every whole episode, and whether it was terminated."""
    lengths, ends = [], []
    for member in range(done.shape[1]):
        at = np.flatnonzero(done[:, member])
        lengths += np.diff(at, prepend=-1).tolist()
        ends += terminated[at, member].tolist()
    return np.array(lengths, int), np.array(ends, bool)


def _starts(env: Environment, played: dict[str, np.ndarray]) -> list[str]:
    done = played["terminated"] | played["truncated"]
    first, later = played["first"], played["observation"][done]
    everything = np.concatenate([first, later])
    different = len(np.unique(everything, axis=0))
    if len(everything) > 1 and different == 1:
        return [
            "every start is one and the same: a policy would learn from that one alone (fine only if the task has just one)"
        ]
    findings = []
    if len(first) > 1 and len(np.unique(first, axis=0)) == 1:
        findings.append("all environments start alike: reset must split its key over the environments")
    member = np.argwhere(done)[:, 1]
    for index in range(env.num_envs):
        starts = later[member == index]
        if len(starts) > 1 and len(np.unique(starts, axis=0)) == 1:
            findings.append(f"environment {index} begins every episode alike: a key is used again at each reset")
            break
    return findings


def _keys(env: Environment, seed: int) -> list[str]:
    keys = jax.random.split(jax.random.key(seed), 2)
    findings = []
    if not _equal(env.reset(keys[0]), env.reset(keys[0])):
        findings.append("reset with one key twice gives two results: it must depend on its key alone")
    state, _ = env.reset(keys[0])
    action = jnp.asarray(_random_actions(env, seed))
    if not _equal(env.step(state, action, keys[1]), env.step(state, action, keys[1])):
        findings.append("step with the same arguments twice gives two results: it must depend on them alone")
    return findings


def _actions(env: Environment, seed: int) -> list[str]:
    """Whether [-1, 1] is the range of each dimension: beyond it nothing changes, within it something does."""
    keys = jax.random.split(jax.random.key(seed), 2)
    state, _ = env.reset(keys[0])
    size = env.action.shape[0]

    def acted(dimension: int, value: float) -> PyTree:
        action = np.zeros((env.num_envs, size), env.action.dtype)
        action[:, dimension] = value
        return env.step(state, jnp.asarray(action), keys[1])[1].next_observation

    findings = []
    for sign in (1.0, -1.0):
        wide = [index for index in range(size) if not _equal(acted(index, sign), acted(index, 3 * sign))]
        narrow = [index for index in range(size) if index not in wide and _equal(acted(index, 0.5 * sign), acted(index, sign))]
        moved = [index for index in narrow if not _equal(acted(index, 0.0), acted(index, sign))]
        for what, dimensions in (("beyond", wide), ("short of", moved)):
            if dimensions:
                findings.append(
                    f"action dimensions {dimensions} have a limit {what} {sign:+.0f}: an adapter scales [-1, 1] to the "
                    "bounds of each dimension and clips there"
                )
    return findings


def _compiles(traces: int) -> list[str]:
    if traces > 1:
        return [f"step was traced {traces} times: a dtype or weak type drifts (`ddpg_jax.types.strong` mends it)"]
    return []


def _equal(one: PyTree, other: PyTree) -> bool:
    raw = lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(raw(a), raw(b), equal_nan=np.issubdtype(raw(a).dtype, np.inexact)) for a, b in pairs)
