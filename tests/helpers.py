"""What several test files use."""

import functools
import hashlib
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

# Lillicrap et al. 2015, section 7 and Algorithm 1; 2.5 million steps: caption of Table 1.
PAPER = {
    "total_timesteps": 2_500_000,
    "num_envs": 1,
    "updates_per_step": 1,
    "batch_size": 64,
    "replay_capacity": 1_000_000,
    "hidden": (400, 300),
    "gamma": 0.99,
    "tau": 0.001,
    "actor_learning_rate": 1e-4,
    "critic_learning_rate": 1e-3,
    "critic_weight_decay": 1e-2,
    "stddev": 0.2,
}


STUDIES = {
    "ablation": "--task pendulum --seeds 2 --steps 240 --hidden 8 --episodes 2",
    "value_estimates": "--task pendulum --seeds 2 --steps 400 --episodes 2 --window 10",
    "toy_mdp": "--seeds 3 --steps 90 --samples 20000 --critics 2 --critic-steps 50",
    "variance": "--seeds 3 --steps 300 --episodes 2",
}
"""The options of each study at a tiny size."""


TINY_RUN = {
    "total_timesteps": 12,
    "learning_starts": 4,
    "batch_size": 4,
    "hidden": (4,),
    "replay_capacity": 20,
    "evaluation_episodes": 1,
    "final_episodes": 1,
    "evaluate_every": 0,
    "progress": False,
}
"""The options of a run of which something else is looked at."""
SHORT_RUN = {
    "learning_starts": 100,
    "steps_per_chunk": 50,
    "total_timesteps": 200,
    "hidden": (8,),
    "replay_capacity": 1_000,
    "evaluation_episodes": 1,
    "final_episodes": 1,
}
"""The options of a run that learns for 100 steps."""


def watched(monkeypatch: Any, factories: Iterable[tuple[Any, str]]) -> dict[str, Any]:
    """``{name: (positional, keywords, result)}`` of the last call of each ``(module, name)``, from
    now on.
    """
    made: dict[str, Any] = {}

    def watch(module: Any, name: str) -> None:
        factory = getattr(module, name)

        @functools.wraps(factory)
        def called(*args: Any, **options: Any) -> Any:
            made[name] = (args, options, factory(*args, **options))
            return made[name][2]

        monkeypatch.setattr(module, name, called)

    for each in factories:
        watch(*each)
    return made


def machine() -> str:
    """What compiled programs depend on besides their text: jaxlib, and the model and the features
    of the CPU."""
    about = Path("/proc/cpuinfo")
    if about.exists():
        kinds = ("model name", "flags", "Features", "CPU part")
        lines = [line for line in about.read_text().splitlines() if line.startswith(kinds)]
        processor = "\n".join(sorted(set(lines)))
    else:
        processor = platform.processor()
    digest = hashlib.sha256(processor.encode()).hexdigest()[:12]
    return f"jaxlib-{version('jaxlib')}-{platform.machine()}-{digest}"


def hyperparameter_types() -> dict[str, type]:
    """Name and type of each hyper-parameter of some preset that is not a tuple of widths."""
    from ddpg_jax.runs.presets import hyperparameter_options

    types = {name: each.kind for name, each in hyperparameter_options().items()}
    return {name: kind for name, kind in types.items() if kind in (int, float, bool, str)}


def check(code: str) -> None:
    """Run Python in a process of its own, in the root of the checkout; it ends well."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def command(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """`ddpg-jax` in a process of its own, to its end."""
    words = [sys.executable, "-m", "ddpg_jax.runs.cli.commands", *map(str, arguments)]
    environment = os.environ | options.pop("env", {})
    return subprocess.run(words, env=environment, text=True, **{"capture_output": True} | options)


def events(folder: Path) -> Iterator[Any]:
    """The events of TensorBoard's files in a folder, in the order of their names."""
    from tensorboardX.proto import event_pb2

    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:  # length, its checksum, the event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            yield event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
