"""The studies at the tiny size of their notebook: their figures are those that they promise.

They take turns with the slow tests; of one the environment is looked at in every run."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, STUDIES, check

pytestmark = pytest.mark.skipif(
    not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not here: this is not a checkout"
)
ERRORS = ("root_mean_square_error", "overestimation")


def result_of(tmp_path: Path, name: str) -> dict[str, Any]:
    """What a study writes, beside its picture."""
    path = tmp_path / f"{name}.json"
    script = ROOT / "benchmarks" / "studies" / f"{name}.py"
    words = [sys.executable, str(script), "--out", str(path), *STUDIES[name].split()]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    result: dict[str, Any] = json.loads(path.read_text())
    assert {"python", "ddpg_jax", "jax", "jaxlib"} <= set(result["versions"])
    assert "(cpu)" in result["device"]
    return result


@pytest.mark.slow
def test_ablation(tmp_path: Path) -> None:
    result = result_of(tmp_path, "ablation")
    curves, final = result["curves"]["pendulum"], result["final_return"]["pendulum"]
    assert set(curves) == set(final)
    assert len(curves) == 4
    for name, each in curves.items():
        assert each["steps"][0] == 64
        assert (
            len(each["steps"]) == len(each["returns"]) == 23
        )  # 176 steps are 22 chunks of 8; and the start
        assert all(len(row) == 2 for row in each["returns"])
        assert all(-2_000 < value < -100 for value in final[name]["values"])
        assert final[name]["mean"] == pytest.approx(sum(final[name]["values"]) / 2)
        tau = result["config"]["pendulum"][name]["tau"]
        assert tau == (1.0 if "no targets" in name else 0.001)
    # The same seeds begin alike (batch normalisation has seen nothing yet) and end apart.
    first, last = ([tuple(each["returns"][i]) for each in curves.values()] for i in (0, -1))
    assert first[1:] == [pytest.approx(first[0], abs=0.1)] * 3
    assert len(set(last)) == 4


@pytest.mark.slow
def test_value_estimates(tmp_path: Path) -> None:
    result = result_of(tmp_path, "value_estimates")["tasks"]["pendulum"]
    assert set(result) == {"DDPG", "TD3", "D4PG"}
    for each in result.values():
        assert each["states"] == [20, 20]
        # At most 0 and at least -16.27 a step; nobody balances after so few updates.
        assert all(-1_627 < value < -50 for value in each["mean_return"]["values"])
        assert all(
            error >= abs(bias)
            for error, bias in zip(*(each[x]["values"] for x in ERRORS), strict=True)
        )
    # The first estimates of a scalar critic are near 0, so they are too high by about the return.
    over, seen = (result["DDPG"][name]["mean"] for name in ("overestimation", "mean_return"))
    assert over == pytest.approx(-seen, rel=0.3)


@pytest.mark.slow
def test_value_estimates_discount_what_follows() -> None:
    """Reward 1 a step, the end after 4 steps, gamma 0.5: 1.875, 1.75, 1.5, 1 follow, and nothing
    from the next episode.
    """
    check(
        "import jax, jax.numpy as jnp, numpy as np\n"
        "from benchmarks.studies.value_estimates import errors, visit\n"
        "from ddpg_jax.envs import SingleEnvironment, batch\n"
        "from ddpg_jax.types import Agent\n"
        "start = lambda key: (jnp.zeros(()), jnp.zeros((1,)))\n"
        "step = lambda s, a, key: (s + 1, (s + 1)[None], jnp.ones(()), s == 3)\n"
        "agent = Agent(None, lambda state, observation: jnp.zeros((2, 1)), None)\n"
        "value = lambda state, observation, action: 2.0 + 0 * observation[:, 0]\n"
        "look = visit(agent, batch(SingleEnvironment(start, step, 1), 2, 100), value, 0.5, "
        "window=6, after=10)\n"
        "q, g, alive = (np.asarray(x)[None] for x in look(None, jax.random.key(0)))\n"
        "assert np.allclose(g[0, :, 0], [1.875, 1.75, 1.5, 1, 0, 0]), g\n"
        "assert alive[0, :, 1].tolist() == [True] * 4 + [False] * 2\n"
        "assert np.isclose(errors(q, g, alive)['overestimation']['mean'], 2 - 6.125 / 4)\n"
    )


@pytest.mark.slow
def test_toy_mdp(tmp_path: Path) -> None:
    result = result_of(tmp_path, "toy_mdp")
    toy = result["toy_mdp"]
    assert toy["deterministic"] == {"actions": 20_000, "largest_magnitude": 0.0}
    closed = {(row["mean"], row["stddev"]): row["closed"] for row in toy["gaussian"]}
    # -phi(m / sigma) / sigma at sigma 0.2: phi(0) 0.398942, phi(1) 0.241971, phi(2.5) 0.017528.
    assert [closed[mean, 0.2] for mean in (0.0, 0.2, 0.5)] == pytest.approx(
        [-1.99471, -1.20985, -0.08764], rel=1e-4
    )
    for row in toy["gaussian"]:
        assert abs(row["reinforce"] - row["closed"]) <= 5 * row["standard_error"] + 1e-3
    assert set(result["one_d_toy"]) == set(result["published"]["success"])
    for each in result["one_d_toy"].values():
        assert each["steps"][0] == 50
        assert each["steps"][-1] == 90
        assert each["success"]["count"] == each["solved_by_step"][-1]
        parts = [each[name] for name in ("success_if_rewarded_early", "success_if_not")]
        assert sum(part["of"] for part in parts) == each["success"]["of"] == 3
        assert parts[0]["of"] == each["rewarded_early"]["count"]
        assert len(each["failures"]["rewards_found"]) == 3 - each["success"]["count"]
        low, high = each["success"]["interval"]
        assert 0 <= low <= each["success"]["rate"] <= high <= 1


def test_toy_mdp_environment() -> None:
    """Right by 0.1 a step, left of 0 is the end with reward 1, and 50 steps are the limit; noise p
    acts in a share p.
    """
    check(
        "import jax, jax.numpy as jnp, numpy as np\n"
        "from benchmarks.studies.one_d_toy import environment, probabilistic\n"
        "env, key = environment(2), jax.random.key(0)\n"
        "state, observation = env.reset(key)\n"
        "state, seen = env.step(state, jnp.array([[1.0], [-0.2]]), key)\n"
        "assert np.allclose(seen.next_observation[:, 0], [0.1, 0.0]) and "
        "seen.reward.tolist() == [0, 1]\n"
        "assert seen.terminated.tolist() == [False, True] and not seen.truncated.any()\n"
        "for _ in range(49): state, seen = env.step(state, jnp.ones((2, 1)), key)\n"
        "assert seen.truncated.tolist() == [True, False] and not seen.terminated.any()\n"
        "assert np.allclose(seen.next_observation[:, 0], 1.0)\n"
        "action = jnp.full((20_000, 1), 2.0)\n"
        "moved = probabilistic(0.1).apply((), action, key, jnp.zeros(20_000, bool))[0]\n"
        "assert abs((moved != 2.0).mean() - 0.1) < 0.01 and (abs(moved[moved != 2.0]) <= 1).all()\n"
    )


@pytest.mark.slow
def test_variance(tmp_path: Path) -> None:
    result = result_of(tmp_path, "variance")
    assert set(result["agents"]) == {"DDPG", "TD3"}
    for each in result["agents"].values():
        final, steps, curve = each["final_return"], each["steps"], each["curve"]
        assert -2_000 < final["min"] == min(final["values"]) <= final["mean"] <= final["max"] < -100
        assert len(set(final["values"])) == 3
        assert final["std"] > 0
        assert each["config"]["seeds"] == 3
        widths = [b - a for a, b in itertools.pairwise(steps)]
        middles = [(a[0] + b[0]) / 2 for a, b in itertools.pairwise(curve)]
        area = sum(width * middle for width, middle in zip(widths, middles, strict=True)) / (
            steps[-1] - steps[0]
        )
        assert each["area_under_curve"]["values"][0] == pytest.approx(area, abs=0.01)


def test_what_counts_as_a_collapse(tmp_path: Path) -> None:
    """Below half of the best, or 100 below it, once the task was solved, and not before."""
    from benchmarks.studies import collapse

    def part(env: str, first: int, *returns: list[float]) -> dict[str, Any]:
        curve = [list(each) for each in zip(*returns, strict=True)]
        watched = dict.fromkeys(collapse.WATCHED, curve)
        own = {"settings": {"seed": first}, "env_steps": [100, 200, 300, 400], "returns": curve}
        return own | {"final_returns": [each[-1] for each in returns]} | watched

    returns = [[900.0, 100.0, 960.0, 481.0], [960.0, 1_000.0, 499.0, 1_000.0], [940.0, 0, 0, 0]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collapse, "BLOCK", 3)
        parts = [part("", 10, *returns), part("", 13, *[[0.0, 960.0, 479.0, 2.0]] * 3)]
        found = collapse.judged("brax/inverted_pendulum", parts)
        other = collapse.judged("pendulum", [part("", 0, *[[-190.0, -90.0, -191.0, -189.0]] * 3)])
    assert found["seeds_with_events"] == [11, 13, 14, 15]
    assert (found["events"], found["seeds"], found["solved"]) == (4, 6, 5)
    assert (found["evaluations_in_collapse"], found["evaluations_after_solving"]) == (7, 15)
    assert found["median_steps_to_solve"] == 200
    assert found["watched"]["value"]["before"] == 960.0
    assert (other["events"], other["evaluations_in_collapse"]) == (3, 3)


@pytest.mark.slow
def test_collapse(tmp_path: Path) -> None:
    """Parts are not trained twice; what is watched is there for each evaluation and seed."""
    from benchmarks.studies import collapse

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collapse, "BLOCK", 2)
        patch.setattr(collapse, "EVALUATIONS", 4)
        patch.setattr(
            collapse, "REMEDIES", {"none": {"hidden": (8,)}, "norm": {"layer_norm": True}}
        )
        patch.setitem(collapse.ENVS, "pendulum", {"evaluation_episodes": 2, "final_episodes": 2})
        words = ["tune", "--env", "pendulum", "--remedy", "none"]
        words += ["--parts", str(tmp_path / "parts"), "--out", str(tmp_path)]
        for _ in range(2):
            collapse.main(words, standalone_mode=False)
            (path,) = (tmp_path / "parts").iterdir()
            kept = json.loads(path.read_text())
            patch.setattr(collapse.runs, "train", pytest.fail)
    for name in (*collapse.WATCHED, "returns"):
        assert [len(row) for row in kept[name]] == [2] * 4, name
    assert all(0 <= share <= 1 for row in kept["at_bounds"] for share in row)
    assert min(kept["critic_norm"][0]) > 0.5
    rows = json.loads((tmp_path / "collapse_tune.json").read_text())["rows"]
    assert rows["pendulum, none"]["seeds"] == 2
    assert (tmp_path / "collapse_tune.png").read_bytes().startswith(b"\x89PNG")
