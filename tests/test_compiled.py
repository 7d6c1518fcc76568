"""What is read from compiled programs: the reader on texts counted by hand, and figures that may
not grow unseen.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not here: this is not a checkout", allow_module_level=True)
sys.path.insert(0, str(ROOT))
from benchmarks.compiled import accelerators, guard, hlo, kernels  # noqa: E402

PARTS = """
%fused_add (a: f32[4], b: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %b = f32[4]{0} parameter(1)
  %scaled = f32[4]{0} multiply(%a, %b)
  ROOT %sum = f32[4]{0} add(%scaled, %b)
}

%fused_copy (c: f32[2,4]) -> f32[8] {
  %c = f32[2,4]{1,0} parameter(0)
  %copied = f32[2,4]{0,1} copy(%c)
  ROOT %flat = f32[8]{0} bitcast(%copied)
}

%fused_copy_and_add (d: f32[4]) -> f32[4] {
  %d = f32[4]{0} parameter(0)
  %e = f32[4]{0} copy(%d)
  ROOT %f = f32[4]{0} add(%d, %e)
}

%condition (state: (s32[], f32[4])) -> pred[] {
  %state = (s32[], /*index=1*/f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %n = s32[] constant(3)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

%inner (state.1: (s32[], f32[4])) -> (s32[], f32[4]) {
  %state.1 = (s32[], f32[4]{0}) parameter(0)
  %x = f32[4]{0} get-tuple-element(%state.1), index=1
  %y = f32[4]{0} fusion(%x, %x), calls=%fused_add, metadata={op_name="jit(run)/while/Critic/add"}
  %z = f32[4]{0:T(128)} copy(%y)
  ROOT %out = (s32[], f32[4]{0}) tuple(%x, %z)
}

%graph (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  %first = f32[4]{0} fusion(%p, %p), kind=kLoop, calls=%fused_add
  ROOT %second = f32[4]{0} custom-call(%first), custom_call_target="__cublas$gemm"
}

%yes (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  %once = f32[4]{0} negate(%q)
  %twice = f32[4]{0} negate(%once)
  ROOT %thrice = f32[4]{0} copy(%twice)
}

%no (r: f32[4]) -> f32[4] {
  ROOT %r = f32[4]{0} parameter(0)
}
"""
LOOP = (
    "while(%start), condition=%condition, body={body}, "
    'backend_config={{"known_trip_count":{{"n":"{trips}"}},"dynamic":false}}'
)


def program(body: str, entry: str = "") -> hlo.Loop:
    """A program that passes ten times through ``body``, and has ``entry`` besides."""
    loop = LOOP.format(body="%outer", trips=10)
    return hlo.read(
        f'HloModule jit_run, is_scheduled=true\n\nFileNames\n1 "here.py"\n{PARTS}\n'
        f"%outer (s: (s32[], f32[4])) -> (s32[], f32[4]) {{\n  %s = (s32[], f32[4]{{0}}) "
        f"parameter(0)\n{body}\n}}\n\n"
        f"ENTRY %main (start: (s32[], f32[4])) -> (s32[], f32[4]) {{\n  %start = (s32[], "
        f"f32[4]{{0}}) parameter(0)\n{entry}\n"
        f"  ROOT %done = (s32[], f32[4]{{0}}) {loop}\n}}\n"
    )


def test_loops_in_loops() -> None:
    found = program(
        "  %one = f32[4]{0} fusion(%s, %s), kind=kLoop, calls=%fused_add\n"
        f"  %three = (s32[], f32[4]{{0}}) {LOOP.format(body='%inner', trips=3)}\n"
        "  %more = (s32[], f32[4]{0}) while(%start), condition=%condition, body=%inner",
        entry=(
            "  %before = f32[4]{0} broadcast(%zero), dimensions={}\n  %after = f32[4]{0} "
            "copy(%before)"
        ),
    )
    loop = hlo.busiest(found)
    # One fusion, and twice three times a fusion and a copy; a loop of unknown length counts once.
    assert (loop.trips, loop.count(), loop.copied(), str(loop)) == (
        10,
        1 + 3 * 2 + 2,
        3 + 1,
        "1 + 3 x (2) + ? x (2)",
    )
    assert (found.count(), found.copied()) == (2 + 10 * 9, 1 + 10 * 4)
    assert loop.called() == 9 + 2  # the two loops are instructions too
    kernel = loop.loops[0].kernels[0]
    assert (kernel.label, kernel.operation, kernel.shape) == ("y", "fusion", "f32[4]{0}")
    assert kernel.name == "jit(run)/while/Critic/add"
    assert [
        line.count("y f32[4]{0} jit(run)/while/Critic/add") for line in kernels.lines(loop)
    ] == [
        0,
        0,
        1,
        0,
        0,
        1,
        0,
    ]


def test_a_program_without_a_loop() -> None:
    text = (
        f"{PARTS}\nENTRY %main (q.1: f32[4]) -> f32[4] {{\n  ROOT %n = f32[4]{{0}} negate(%q.1)\n}}"
    )
    assert hlo.busiest(hlo.read(text)) == hlo.read(text)
    assert hlo.read(text).count() == 1


def test_the_busiest_loop_launches_most_in_all_its_passes() -> None:
    body, entry = (
        "  %one = f32[4]{0} negate(%s)",
        f"  %often = (s32[], f32[4]{{0}}) {LOOP.format(body='%inner', trips=4)}",
    )
    assert hlo.busiest(program(body, entry)).trips == 10  # of 1, where the other has 4 of 2
    entry = entry.replace('"4"', '"6"')
    assert hlo.busiest(program(body, entry)).trips == 6


def test_names_of_memory_launch_nothing() -> None:
    free = (
        "get-tuple-element(%s), index=1",
        "bitcast(%s)",
        "tuple(%s)",
        "constant({1, 2, 3, 4})",
        "opt-barrier(%s)",
        'custom-call(), custom_call_target="AllocateBuffer"',
    )
    body = "\n".join(f"  %f.{i} = f32[4]{{0}} {each}" for i, each in enumerate(free))
    assert hlo.busiest(program(body + "\n  %only = f32[4]{0} dot(%f.0, %f.1)")).count() == 1


def test_fusions_that_only_copy() -> None:
    body = (
        "  %copied = f32[8]{0} fusion(%s), kind=kLoop, calls=%fused_copy\n"
        "  %added = f32[4]{0} fusion(%s, %s), kind=kLoop, calls=%fused_add\n"
        "  %both = f32[4]{0} fusion(%s), kind=kLoop, calls=%fused_copy_and_add\n"
        "  %moved = (f32[4]{0:S(1)}, f32[4]{0}, u32[]{:S(2)}) copy-start(%added)\n"
        "  %there = f32[4]{0:S(1)} copy-done(%moved)"
    )
    loop = hlo.busiest(program(body))
    assert (loop.count(), loop.copied()) == (4, 2)
    assert [one.label for one in loop.copies] == ["copied", "moved"]


def test_calls_count_as_what_they_call() -> None:
    call = "  %call = f32[4]{0} call(%s), to_apply=%graph"
    assert hlo.busiest(program(call)).count() == 2
    assert (
        hlo.busiest(program(call + ', frontend_attributes={xla_cpu_small_call="true"}')).count()
        == 1
    )


def test_either_branch_of_a_conditional() -> None:
    listed = "  %either = f32[4]{0} conditional(%s, %s, %s), branch_computations={%yes, %no}"
    named = (
        "  %either = f32[4]{0} conditional(%s, %s, %s), true_computation=%yes, "
        "false_computation=%no"
    )
    for text in (listed, named):
        loop = hlo.busiest(program(f"  %one = f32[4]{{0}} negate(%s)\n{text}"))
        assert (loop.count(), loop.count(min), str(loop)) == (1 + 3, 1, "1 + one of (3 | 0)")
        assert (loop.copied(), loop.copied(min), loop.called()) == (1, 0, 5)


def test_collectives_of_both_kinds() -> None:
    body = (
        "  %sum = f32[4]{0} all-reduce(%s), replica_groups={{0,1}}, to_apply=%graph\n"
        "  %begun = (f32[4]{0}, f32[8]{0}) all-gather-start(%sum), dimensions={0}\n"
        "  %gathered = f32[8]{0} all-gather-done(%begun)\n"
        "  %wrapped = ((f32[4]{0}), f32[4]{0}, u32[]) async-start(%sum), calls=%graph\n"
        "  %on = ((f32[4]{0}), f32[4]{0}, u32[]) async-update(%wrapped)\n"
        "  %ready = f32[4]{0} async-done(%on)"
    )
    loop = hlo.busiest(program(body))
    assert loop.collectives == {"all-reduce": 1, "all-gather": 1}
    assert loop.count() == 2 + 2


def test_passes_of_a_policy_delay_in_a_conditional() -> None:
    """An actor that learns in every second pass: an update is one pass with it and one without."""
    loop = program(
        "  %one = f32[4]{0} negate(%s)\n  %e = f32[4]{0} conditional(%s), "
        "branch_computations={%yes, %no}"
    )
    done = accelerators.Compiled(loop, "", {"temporary": 1, "argument": 2, "aliased": 2}, 0.5)
    row = kernels.figures(kernels.PROGRAMS["sbx_td3"], done)
    assert (row["kernels_per_update"], row["copies_per_update"]) == (4 + 1, 1)
    assert row["kernels_per_env_step"] is None
    row = kernels.figures(kernels.PROGRAMS["ddpg_pendulum_16"], done)
    assert (row["kernels_per_update"], row["kernels_per_env_step"]) == (4, 4 / 16)


def call(script: str, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """The command as a user starts it, where ``path`` is found before what is installed."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    before = os.environ.get("PYTHONPATH", "")
    env = os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{before}" if path else before}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


KEPT = json.loads(guard.KEPT.read_text())
CHANGED = KEPT["versions"]["jaxlib"] != importlib.metadata.version("jaxlib")
same_compiler = pytest.mark.skipif(
    CHANGED, reason=f"the figures are of jaxlib {KEPT['versions']['jaxlib']}"
)


@same_compiler
def test_programs_of_the_cpu_do_not_grow() -> None:
    done = call("compiled/guard.py", "--only", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("instructions") == len(guard.AGENTS)


@same_compiler
@pytest.mark.skipif(bool(accelerators.missing("h100")), reason=accelerators.missing("h100"))
def test_programs_of_the_h100_do_not_grow() -> None:
    done = call("compiled/guard.py", "--only", "h100")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kernels") == len(guard.AGENTS)


def test_more_than_a_tenth_is_too_much() -> None:
    kept = {"td3": {"kernels": 100, "copies": 0}}
    assert list(guard.grown({"td3": {"kernels": 110, "copies": 0}}, kept)) == []
    assert list(guard.grown({"td3": {"kernels": 60, "copies": 0}}, kept)) == []
    assert list(guard.grown({"td3": {"kernels": 111, "copies": 1}}, kept)) == [
        "td3: 111 kernels, kept are 100",
        "td3: 1 copies, kept are 0",
    ]
    assert list(guard.grown({"d4pg": {"kernels": 1}}, kept)) == ["d4pg: 1 kernels, kept are None"]


def test_the_guard_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from click.testing import CliRunner

    kept = tmp_path / "kept.json"
    monkeypatch.setattr(accelerators, "only_cpu", lambda: None)
    monkeypatch.setitem(guard.MEASURES, "cpu", lambda: {"ddpg": {"instructions": 200}})
    run = lambda *arguments: CliRunner().invoke(
        guard.main, ["--only", "cpu", "--kept", str(kept), *arguments]
    )
    assert run("--write").exit_code == 0
    assert json.loads(kept.read_text())["figures"] == {"cpu": {"ddpg": {"instructions": 200}}}
    assert run().exit_code == 0
    monkeypatch.setitem(guard.MEASURES, "cpu", lambda: {"ddpg": {"instructions": 221}})
    done = run()
    assert done.exit_code == 1
    assert "cpu, ddpg: 221 instructions, kept are 200" in done.stderr
    assert "python benchmarks/compiled/guard.py --write" in done.stderr
    kept.write_text(kept.read_text().replace(importlib.metadata.version("jaxlib"), "0.0.1"))
    done = run()
    assert done.exit_code == 2
    assert "made with jaxlib 0.0.1" in done.stderr


@pytest.mark.parametrize("device", accelerators.ACCELERATORS)
def test_a_compiler_that_is_missing_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(accelerators, "installed", lambda module: False)
    with pytest.raises(accelerators.MissingError) as caught:
        accelerators.place_on(device)
    version = importlib.metadata.version("jax")
    command = f'pip install "jax[tpu]=={version}"'
    if not device.startswith("v5e"):
        command = (
            f"pip install --no-deps jax-cuda12-plugin=={version} jax-cuda12-pjrt=={version} "
            "nvidia-cuda-nvcc-cu12"
        )
    assert str(caught.value).endswith(command)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("sbx_td3", "sbx_td3 needs a package that is missing: pip install sbx-rl"),
        (
            "rejax_td3_pendulum_1",
            'rejax_td3_pendulum_1 needs a package that is missing: pip install rejax "gymnax<1"',
        ),
        ("dpg", "There is no program 'dpg'; there are ddpg, td3, d4pg,"),
    ],
)
def test_a_program_that_cannot_be_compiled_is_one_sentence(
    name: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    monkeypatch.setattr(accelerators, "only_cpu", lambda: None)
    monkeypatch.setattr(accelerators, "installed", lambda module: False)
    done = CliRunner().invoke(kernels.main, ["--only", name])
    assert done.exit_code == 2
    assert sentence in done.stderr
