"""The table of where to add what is true: each row's thing is added to a copy of the package, and
works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ddpg_jax

ROOT = Path(ddpg_jax.__file__).parent
GUIDE = ROOT.parent / "docs" / "architecture.md"
TABLE = (
    (GUIDE.read_text() if GUIDE.is_file() else "")
    .partition("## Where to add what")[2]
    .partition("\n## ")[0]
)
ROWS = {row.split("|")[1].strip(): row for row in TABLE.splitlines() if row.startswith("| a new ")}

ALGORITHM = '''"""DDPG whose actor also likes small actions."""

import jax.numpy as jnp

from ddpg_jax import losses
from ddpg_jax.agents.actor_critic import ActorLoss, CriticLoss, forward, make_agent
from ddpg_jax.agents.optimization import adam, optimizers
from ddpg_jax.agents.targets import soft_update


def meek(actor, critic, *, gamma=0.99, tau=0.01, meekness=0.1):
    """DDPG with a penalty on actions."""

    def critic_target(actor_target, critic_target, batch, key):
        action = actor.apply(actor_target, batch.next_observation)
        value = critic.apply(critic_target, batch.next_observation, action)
        return losses.td_target(batch.reward, batch.discount, value, gamma)

    def critic_loss(params, batch, target):
        value, variables = forward(critic, params, batch.observation, batch.action)
        loss = losses.squared_error(value, target)
        metrics = {"value": jnp.mean(value)}
        return CriticLoss(loss, jnp.abs(target - value), variables, metrics)

    def actor_loss(params, critic_params, batch):
        action, variables = forward(actor, params, batch.observation)
        value = critic.apply(critic_params, batch.observation, action)
        value = value - meekness * jnp.sum(action**2, axis=-1)
        return ActorLoss(losses.deterministic_policy_gradient(value), variables, {})

    functions = {
        "critic_target": critic_target,
        "critic_loss": critic_loss,
        "actor_loss": actor_loss,
    }
    tracking = dict.fromkeys(("track_actor", "track_critic"), soft_update(tau))
    return make_agent(actor, critic, **tracking, **functions, **optimizers(adam(), 1e-3, 1e-3, 0.0))
'''
PRESET = '''"""Meek DDPG."""

from dataclasses import dataclass

import ddpg_jax
from ddpg_jax.runs.presets import components
from ddpg_jax.runs.options.field import option
from ddpg_jax.runs.options.hyperparameters import Hyperparameters
from ddpg_jax.runs.options.preset import Preset


@dataclass(frozen=True, kw_only=True)
class MeekHyperparameters(Hyperparameters):
    """With a number of its own."""

    meekness: float = option(0.1, "How meek it is.", group="targets", low=0, high=1)


def compose(hyperparameters, env):
    """Meek DDPG without noise."""
    agent = ddpg_jax.agents.meek(
        components.actor(hyperparameters, env),
        components.critic(hyperparameters, env),
        gamma=hyperparameters.gamma,
        tau=hyperparameters.tau,
        meekness=hyperparameters.meekness,
    )
    return components.assemble(
        hyperparameters, env, agent, lambda agent: ddpg_jax.behaviour.dull(agent)
    )


PRESETS = (
    Preset(
        name="meek",
        summary="Meek.",
        source="Nobody 2026.",
        hyperparameters=MeekHyperparameters(),
        compose=compose,
    ),
)
'''
ENVIRONMENT = '''"""A point on a line that shall be still."""

import jax
import jax.numpy as jnp

from ddpg_jax.envs.autoreset import batch
from ddpg_jax.environment import SingleEnvironment


def make(num_envs, *, time_limit=9):
    """Points."""

    def step(place, action, key):
        place = place + 0.1 * jnp.clip(action, -1.0, 1.0)
        return place, place, -jnp.sum(place**2), jnp.zeros((), bool)

    reset = lambda key: (jax.random.uniform(key, (1,)),) * 2
    return batch(SingleEnvironment(reset, step, action_size=1), num_envs, time_limit)
'''
REPLAY = '''"""The newest transitions alone."""

import jax.numpy as jnp

from ddpg_jax.replay.rows import rows
from ddpg_jax.types import Replay


def newest(capacity, batch_size):
    """A ring whose sample is its newest rows."""
    ring = rows(capacity)
    newest = lambda state: (state.position - 1 - jnp.arange(batch_size)) % capacity
    return Replay(ring.init, ring.add, lambda state, key: ring.get(state, newest(state)))
'''
NOISE = """

def shift(by):
    return Noise(lambda key, action: (), lambda state, action, key, reset: (action + by, state))
"""
BEHAVIOUR = """

def dull(agent):
    def act(state, agent_state, observation, key, reset):
        return agent.act(agent_state, observation), state

    return Behaviour(lambda key, action: (), act)
"""
WRAPPER = """

def lazy(agent):
    return agent._replace(act=lambda state, observation: 0.5 * agent.act(state, observation))
"""
SHAPE = '''"""Discs that face whoever looks."""

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax.envs.render.hit import Hit, along, nearest, of, where_met


@struct.dataclass
class Discs:
    """``center: [N, 3]``, ``radius: [N]``, ``color: [N, 3]``."""

    center: jax.Array
    radius: jax.Array
    color: jax.Array

    def hit(self, rays):
        """See `ddpg_jax.envs.render.hit.Shapes`."""
        away = self.center - rays.origin[None]
        place = along(away, rays)
        beside = jnp.sum(away**2, axis=1, keepdims=True) - place**2
        distance, shape = nearest(where_met(beside < self.radius[:, None] ** 2, place))
        (color,) = of(shape, self.color)
        return Hit(distance, -rays.direction, color, shape)
'''
BRANCH = """    if name == "points":
        return points.make(num_envs, **options)
"""
TASK = """        Task(
            env="points",
            solved=-1.0,
            hyperparameters={"hidden": (8,), "batch_size": 4},
        ),
"""
# What each row adds: ``(file, text, line that it goes before; at the end without)``.
ADDITIONS = {
    "a new algorithm": [
        ("agents/meek.py", ALGORITHM, None),
        (
            "agents/__init__.py",
            "from ddpg_jax.agents.meek import meek\n",
            "from ddpg_jax.agents.td3 import",
        ),
    ],
    "a new noise": [("noise.py", NOISE, None)],
    "a new behaviour": [("behaviour.py", BEHAVIOUR, None)],
    "a new environment family": [
        ("envs/points.py", ENVIRONMENT, None),
        (
            "envs/__init__.py",
            "from ddpg_jax.envs import points\n",
            "from ddpg_jax.envs import brax",
        ),
        ("envs/__init__.py", BRANCH, "    if name not in names():"),
    ],
    "a new replay scheme": [
        ("replay/newest.py", REPLAY, None),
        (
            "replay/__init__.py",
            "from ddpg_jax.replay.newest import newest\n",
            "from ddpg_jax.replay.prioritised import",
        ),
    ],
    "a new wrapper": [
        ("agents/wrappers.py", WRAPPER, None),
        ("envs/wrappers.py", "\n\ndef dear(env):\n    return scale_reward(env, 2.0)\n", None),
    ],
    "a new shape of a scene": [
        ("envs/render/discs.py", SHAPE, None),
        (
            "envs/render/__init__.py",
            "from ddpg_jax.envs.render.discs import Discs\n",
            "from ddpg_jax.envs.render.hit import Hit",
        ),
    ],
    "a new preset": [
        ("runs/presets/meek.py", PRESET, None),
        (
            "runs/presets/__init__.py",
            "from ddpg_jax.runs.presets import meek\n",
            "from ddpg_jax.runs.presets import (\n",
        ),
        (
            "runs/presets/__init__.py",
            "PRESETS |= {preset.name: preset for preset in meek.PRESETS}\n\n\n",
            "def hyperparameter_options()",
        ),
    ],
    "a new task": [
        ("runs/tasks.py", TASK, '        Task("brax/walker2d", support=(-100.0, 700.0)),')
    ],
}
SCRIPT = """
import sys
import jax, jax.numpy as jnp
import ddpg_jax
from ddpg_jax import agents, behaviour, envs, networks, noise, replay, runs, train
from ddpg_jax.envs import wrappers
from ddpg_jax.agents.wrappers import lazy
assert ddpg_jax.__file__.startswith(sys.argv[1])
env = wrappers.dear(envs.make("points", 2))
assert envs.check(env) == []
agent = lazy(agents.meek(networks.Actor(1, (4,)), networks.Critic((4,), 0)))
explore = behaviour.explore(agent, noise.chain(noise.shift(0.1), noise.clip()))
newest = replay.newest(100, 4)
trainer = train.make_train(agent, env, newest, explore, learning_starts=10, steps_per_chunk=20)
first = jax.jit(lambda key: trainer.chunk(trainer.warm_up(trainer.init(key))))
state, report = first(jax.random.key(0))
assert jnp.isfinite(report.metrics["critic_loss"])
see = envs.render
disc = see.Discs(jnp.zeros((1, 3)), jnp.ones(1), jnp.ones((1, 3)))
picture = see.render(see.Scene(see.look_at((0.0, -5.0, 0.0), (0.0, 0.0, 0.0)), (disc,)), 9, 9)
assert picture[4, 4, 0] == round(255 * 0.6) and picture[4, 0, 0] != picture[4, 4, 0]
sizes = {"total_timesteps": 60, "learning_starts": 20, "steps_per_chunk": 20}
options = {"run_dir": sys.argv[1] + "/run", "progress": False, "evaluation_episodes": 2}
result = runs.train("points", preset="meek", meekness=0.3, **options, **sizes)
assert result.config.hyperparameters.meekness == 0.3
assert result.config.hyperparameters.hidden == (8,)
assert set(result.config.replaced) == {"hidden", "batch_size"}
assert result.env_steps.tolist() == [40, 60]
"""


def test_every_row_of_the_table_is_tried_here():
    assert set(ROWS) == {*ADDITIONS, "a new network"}, (
        "a network needs no place: `tests/test_composition.py` has one"
    )


@pytest.mark.parametrize("row", ADDITIONS)
def test_a_row_names_every_file_that_is_touched(row):
    named = re.findall(r"`(?:ddpg_jax/)?([\w/<>]+\.py)", ROWS[row])
    patterns = [re.sub(r"<\w+>", r"\\w+", name) for name in named]
    for file, *_ in ADDITIONS[row]:
        file = file.removeprefix("runs/") if file == "runs/presets/__init__.py" else file
        found = [pattern for pattern in patterns if re.fullmatch(pattern, file)]
        assert found or ("export line" in ROWS[row] and file.endswith("__init__.py")), file


@pytest.mark.slow
def test_all_of_it_works_together(tmp_path):
    shutil.copytree(ROOT, tmp_path / "ddpg_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for file, text, before in (
        addition for additions in ADDITIONS.values() for addition in additions
    ):
        path = tmp_path / "ddpg_jax" / file
        old = path.read_text() if path.exists() else ""
        assert before is None or old.count(before) == 1, (file, before)
        path.write_text(old + text if before is None else old.replace(before, text + before))
    environment = {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    listed = [sys.executable, "-m", "ddpg_jax.runs.cli.commands", "train", "--help-all"]
    assert (
        "--meekness"
        in subprocess.run(
            listed, env=os.environ | environment, cwd=tmp_path, capture_output=True, text=True
        ).stdout
    )
