"""What a run's profile says, and that the run does not notice it."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from ddpg_jax import runs
from ddpg_jax.population import Programs
from ddpg_jax.runs.profiling import hlo, profile

SMALL: dict[str, Any] = {
    "learning_starts": 50,
    "steps_per_chunk": 50,
    "hidden": (8,),
    "batch_size": 4,
    "evaluation_episodes": 2,
}
NEVER_SAME = {"train_seconds", "env_steps_per_second", "updates_per_second"}
TEXT = """HloModule jit_chunk, is_scheduled=true

%fused (a: f32[4]) -> f32[4] {
  %a = f32[4] parameter(0)
  ROOT %dot.1 = f32[4] dot(%a, %a), metadata={op_name="jit(chunk)/while/update/Critic/dot_general"}
}

%drawn (b: f32[4]) -> f32[4] {
  %b = f32[4] parameter(0)
  %hit = f32[4] add(%b, %b), metadata={op_name="jit(chunk)/while/environment/vmap(rendering)/add"}
  %lit = f32[4] add(%b, %b), metadata={op_name="jit(chunk)/while/environment/vmap(rendering)/mul"}
  ROOT %reset = f32[4] select(%b, %hit, %lit), metadata={op_name="jit(chunk)/while/environment/or"}
}

%body (s: f32[4]) -> f32[4] {
  %s = f32[4] parameter(0)
  %step = f32[4] add(%s, %s), metadata={op_name="jit(chunk)/while/vmap(environment)/add"}
  %ray = f32[4] fusion(%s), calls=%drawn, metadata={op_name="jit(chunk)/while/environment/or"}
  %critic = f32[4] fusion(%s), calls=%fused, metadata={op_name="jit(chunk)/while/update/Critic/add"}
  %adam = f32[4] multiply(%s, %s), metadata={op_name="jit(chunk)/while/update/mul"}
  %inner = f32[4] while(%s), body=%inside, metadata={op_name="jit(chunk)/while/replay/while"}
  ROOT %act = f32[4] tanh(%s), metadata={op_name="jit(chunk)/while/Actor/tanh"}
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %p = f32[4] parameter(0)
  ROOT %loop = f32[4] while(%p), body=%body, metadata={op_name="jit(chunk)/while"}
}
""".replace(
    "%body (",
    "%inside (t: f32[4]) -> f32[4] {\n  ROOT %copy = f32[4] copy(%t)\n}\n\n%body (",
    1,
)


def event(name: str, micros: int, module: str = "jit_chunk") -> Any:
    """One of a trace; without a module it is the host's own."""
    stats = {"hlo_op": name, "hlo_module": module} if module else {}
    return SimpleNamespace(name=name, duration_ns=1_000 * micros, stats=stats.items())


def trace(*events: Any) -> Any:
    """All on one line of one plane."""
    return SimpleNamespace(planes=[SimpleNamespace(lines=[SimpleNamespace(events=events)])])


def profiled(folder: Path, env: str, **options: Any) -> tuple[runs.Result, dict[str, Any]]:
    """Train and profile; what came of both."""
    given = {"progress": False} | SMALL | options
    result = runs.train(env, run_dir=folder, profile=True, **given)
    return result, json.loads((folder / "profile/shares.json").read_text())


def test_a_profile_changes_nothing(tmp_path: Path) -> None:
    """Bit for bit; and each part of the run's own program is found in its trace."""
    plain = runs.train(
        "pendulum", run_dir=tmp_path / "plain", progress=False, **SMALL, total_timesteps=250
    )
    result, found = profiled(tmp_path / "profiled", "pendulum", total_timesteps=250)
    jax.tree.map(
        lambda a, b: (a == b).all() or pytest.fail("another state"),
        plain.agent_state,
        result.agent_state,
    )
    rows = [
        [{k: v for k, v in row.items() if k not in NEVER_SAME} for row in one.metrics]
        for one in (plain, result)
    ]
    assert rows[0] == rows[1]
    assert plain.summary["final_returns"] == result.summary["final_returns"]
    assert not (tmp_path / "plain/profile").exists()
    assert list((tmp_path / "profiled/profile").rglob("*.xplane.pb"))
    # 4 chunks of 50 rounds, 2 of them traced.
    assert (found["chunks"], found["chunks_were_traced"], found["overlapping"]) == (2, False, False)
    assert set(found["shares"]) == set(profile.PARTS)
    assert all(0 < share < 1 for share in found["shares"].values())
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert 0 < found["products_over_update"] < 1
    assert found["seconds_per_round"] > 1e-6


def test_shares_of_a_trace() -> None:
    """A loop counts by what is in it, which XLA's own copies belong to; other programs and the
    host's events are left out.
    """
    ran = [
        ("loop", 99),
        ("step", 2),
        ("ray", 6),
        ("critic", 5),
        ("adam", 3),
        ("inner", 50),
        ("copy", 4),
        ("act", 10),
    ]
    events = [event(*one) for one in ran]
    events += [event("step", 1_000, "jit_evaluate"), event("end: step", 1_000, "")]
    found = profile.shares(trace(*events, *events[1:2]), [TEXT])
    # 2 + 2 + 6 of the environment, 4, 5 + 3, 10: 32 microseconds.
    assert found["traced_seconds"] == pytest.approx(32e-6)
    shares = {"environment": 10 / 32, "replay": 4 / 32, "update": 8 / 32, "rest": 10 / 32}
    assert found["shares"] == pytest.approx(shares)
    assert found["rendering_over_environment"] == pytest.approx(6 / 10)
    assert found["products_over_update"] == pytest.approx(5 / 8)
    about = {
        "seconds_per_round": 1e-4,
        "chunks": 3,
        "chunks_were_traced": False,
        "overlapping": False,
    }
    said = profile.sentences(found | about)
    assert "a round takes 100 us (median of 3 chunks)" in said
    assert "environment 31%, replay 12%, update 25%, rest 31%" in said
    assert "Rendering is 60% of the environment." in said
    assert "matrix products take 62% of an update." in said


def test_steps_on_the_host_are_the_environments() -> None:
    found = profile.shares(trace(event("environment", 30, ""), event("critic", 10)), [TEXT])
    assert found["shares"] == pytest.approx(
        {"environment": 0.75, "replay": 0, "update": 0.25, "rest": 0}
    )


def test_a_trace_without_instructions_is_said() -> None:
    found = profile.shares(trace(event("gemm_kernel", 30, "")), [TEXT])
    about = {
        "seconds_per_round": 1e-4,
        "chunks": 1,
        "chunks_were_traced": True,
        "overlapping": False,
    }
    assert "shares are unknown" in profile.sentences(found | about)


def test_scopes_of_a_program() -> None:
    """Those of the loop around it where an instruction has no name; of a fusion, what is fused."""
    assert hlo.name_of(TEXT) == "jit_chunk"
    found = hlo.instructions(TEXT)
    assert "replay" in found["copy"].scopes
    assert (found["critic"].multiplies, found["critic"].inside) == (True, {"a", "dot.1"})
    assert not found["adam"].multiplies
    line = 'x = f32[4] add(a), metadata={op_name="jit(chunk)/%s/add"}'
    half = hlo._scopes([line % "update", line % "vmap(replay)", "y = f32[4] copy(x)"])
    assert half == {"jit", "chunk", "add", ""}, "more than half"
    most = hlo._scopes([line % "update", line % "update/replay", line % "rest"])
    assert "update" in most
    assert "replay" not in most


@pytest.mark.parametrize(
    ("count", "planned", "traced"),
    [(1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 9, 2), (1, 9, 1), (0, 9, 0)],
)
def test_the_first_chunks_are_traced_and_the_others_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, planned: int, traced: int
) -> None:
    """Two, or fewer so that one is left; of four rounds each. The median is of those that no trace
    slows down.
    """
    done: list[str] = []
    clock = [0.0]
    start = lambda folder, profiler_options: done.append(f"trace {folder.name}")
    monkeypatch.setattr(jax.profiler, "start_trace", start)
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: done.append("end"))
    monkeypatch.setattr(profile.time, "perf_counter", lambda: clock[0])
    for name, age in (("old", 1), ("new", 2)):
        path = tmp_path / "profile" / f"{name}.xplane.pb"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (age, age))
    found = {"shares": {"rest": 1.0}}
    read: list[str] = []
    monkeypatch.setattr(profile.ProfileData, "from_file", read.append)
    monkeypatch.setattr(profile, "shares", lambda trace, texts: done.extend(texts) or found)

    def chunk(number: int) -> int:
        done.append(f"chunk {number}")
        clock[0] += 100.0 if number < traced else number
        return number + 1

    program = SimpleNamespace(as_text=lambda: "text")
    programs = Programs(None, chunk, None, 0.0, (program, program))
    said: list[str] = []
    with profile.Profile(planned, 4, tmp_path / "profile") as watched:
        made = watched.watch(programs)
        assert [made.chunk(number) for number in range(count)] == [*range(1, count + 1)]
    chunks = [f"chunk {number}" for number in range(count)]
    wanted = ["trace profile", *chunks[:traced], "end", *chunks[traced:]] if count else []
    assert done == wanted
    watched.report(said.append)
    if not count:
        assert said == ["no chunk was left to train: there is nothing to profile."]
        return
    assert done == [*wanted, "text", "text"]
    assert read == [str(tmp_path / "profile" / "new.xplane.pb")]
    assert said[0] == (
        f"trace of {traced} chunks, for TensorBoard or Perfetto: {tmp_path / 'profile'}"
    )
    written = json.loads((tmp_path / "profile" / "shares.json").read_text())
    timed = [*range(traced, count)] or [100.0] * traced
    assert written["chunks"] == len(timed)
    assert written["chunks_were_traced"] == (traced == count)
    assert written["seconds_per_round"] == float(np.median(timed)) / 4
    assert written["overlapping"] is True
    assert said[1] == profile.sentences(written)
    alone = profile.Profile(2, 4, tmp_path / "profile")
    alone.watch(programs._replace(inside=(), chunk=program))
    assert (alone._programs, alone._overlapping) == ((program,), False)


def test_a_round_and_its_shares_in_words() -> None:
    about = {"seconds_per_round": 2e-4, "chunks": 3, "chunks_were_traced": True}
    about |= {"overlapping": True, "shares": {"environment": 0.256, "rest": 0.744}}
    assert profile.sentences(about) == (
        "a round takes 200 us (median of 3 chunks, slowed down by the trace); in the trace: "
        "environment 26%, rest 74% (acting, keys, reports). The host steps the environments while "
        "the device learns: shares overlap in time."
    )


@pytest.mark.slow
def test_a_profile_on_the_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run of one chunk that chunk is traced, and said to be slow."""
    result, found = profiled(
        tmp_path / "run", "gymnasium/Pendulum-v1", total_timesteps=100, progress=True
    )
    assert len(result.metrics) == found["chunks"] == 1
    assert found["chunks_were_traced"]
    assert found["overlapping"]
    assert all(share > 0 for share in found["shares"].values())
    said = capsys.readouterr().out
    assert "slowed down by the trace" in said
    assert "shares overlap in time" in said
    assert "matrix products take" in said
