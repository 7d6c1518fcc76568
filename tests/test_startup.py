"""How a run begins in its folder: what is in the way, what is written, what is left where it
fails, and where a resumed one goes on."""

import json
import types

import pytest

from ddpg_jax.runs.checkpoints import resharding
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.folder.metrics import read_metrics
from ddpg_jax.runs.folder.metrics_log import write_metrics
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.training import startup

SIZES = {"total_timesteps": 400, "learning_starts": 100, "steps_per_chunk": 100}


def config(**options):
    return make_config("pendulum", **SIZES | options)


def row(steps, returns=None):
    return {"env_steps": steps, "evaluation_return": returns}


def run_in(folder, *steps, **options):
    """The folder of a run with checkpoints at these steps."""
    (folder / "config.json").write_text(json.dumps(config(**options).flat()))
    (folder / "checkpoints").mkdir()
    for step in steps:
        (folder / "checkpoints" / str(step)).mkdir()


def refused(folder, resume=False, **options):
    try:
        startup.check_folder(config(**options), folder, resume)
    except RunError as error:
        return str(error).removeprefix(str(folder)).strip("/ ")
    return None


def test_a_new_run_has_a_folder_of_its_own(tmp_path):
    assert refused(tmp_path) is None
    assert refused(tmp_path / "missing") is None
    (tmp_path / "notes").write_text("mine")
    assert refused(tmp_path) is None
    (tmp_path / "sweep.json").write_text("{}")
    assert refused(tmp_path).startswith("holds a sweep: resume it with `ddpg-jax sweep --resume`")
    (tmp_path / "sweep.json").unlink()
    write_metrics(tmp_path, [row(200)])
    assert refused(tmp_path).startswith("holds files of a run, but not its config.json")
    write_metrics(tmp_path, [])
    run_in(tmp_path)
    assert refused(tmp_path).startswith("already holds a run: choose another --run-dir, or resume")
    (tmp_path / "config.json").unlink()
    assert refused(tmp_path) is None, "nothing is in the folder of checkpoints"
    (tmp_path / "checkpoints" / "200").mkdir()
    assert refused(tmp_path).startswith("holds files of a run, but not its config.json")


def test_a_run_that_failed_before_its_first_checkpoint_is_not_in_the_way(tmp_path):
    run_in(tmp_path)
    assert not startup.has_failed(tmp_path)
    (tmp_path / "failed.json").write_text("{}")
    write_metrics(tmp_path, [row(200)])
    assert startup.has_failed(tmp_path)
    assert refused(tmp_path) is None
    (tmp_path / "checkpoints" / "200").mkdir()
    assert not startup.has_failed(tmp_path)
    assert refused(tmp_path).startswith("already holds a run")


def test_a_run_goes_on_with_its_own_configuration_and_to_no_earlier_step(tmp_path):
    run_in(tmp_path, 300, 400)
    (tmp_path / "checkpoints" / "900.partial").mkdir()
    assert refused(tmp_path, resume=True) is None
    assert refused(tmp_path, resume=True, total_timesteps=500) is None
    told = refused(tmp_path, resume=True, total_timesteps=300)
    assert told == "is already past total_timesteps=300: raise it to continue."
    assert "another configuration: tau" in refused(tmp_path, resume=True, tau=0.5)
    write_metrics(tmp_path, [row(400)])
    assert refused(tmp_path, resume=True) is None


WRITTEN = {"config.json", "metrics.jsonl", "environment.json", "events.out.tfevents.1"}


@pytest.mark.parametrize(
    ("begun", "error", "left"),
    [
        (False, ValueError("no"), {"notes"}),
        (True, ValueError("no"), WRITTEN | {"notes", "failed.json"}),
        (False, KeyboardInterrupt(), WRITTEN | {"notes", "checkpoints"}),
    ],
)
def test_a_run_that_fails_leaves_what_it_has_learned(tmp_path, begun, error, left):
    (tmp_path / "notes").write_text("mine")

    def fail():
        with startup.new_run_files(config(), tmp_path, pytest.fail):
            assert json.loads((tmp_path / "config.json").read_text()) == config().flat()
            (tmp_path / "checkpoints").mkdir()
            (tmp_path / "environment.json").write_text("{}")
            (tmp_path / "events.out.tfevents.1").write_text("")
            write_metrics(tmp_path, [row(200)] if begun else [])
            raise error

    with pytest.raises(type(error)):
        fail()
    assert {path.name for path in tmp_path.iterdir()} == left
    if begun:
        assert json.loads((tmp_path / "failed.json").read_text()) == {"reason": "no"}


def test_files_of_others_stay_and_those_of_a_failed_run_go(tmp_path):
    (tmp_path / "events.out.tfevents.0").write_text("of another")
    with pytest.raises(ValueError, match="no"), startup.new_run_files(config(), tmp_path, print):
        raise ValueError("no")
    assert [path.name for path in tmp_path.iterdir()] == ["events.out.tfevents.0"]
    run_in(tmp_path)
    (tmp_path / "failed.json").write_text("{}")
    write_metrics(tmp_path, [row(200)])
    said = []
    with startup.new_run_files(config(), tmp_path, said.append):
        assert read_metrics(tmp_path) == []
        assert not (tmp_path / "failed.json").exists()
        assert not (tmp_path / "events.out.tfevents.0").exists()
    assert said == [
        f"the run in {tmp_path} failed before its first checkpoint: this one replaces it."
    ]
    assert (tmp_path / "config.json").is_file()


def restored(folder, monkeypatch, rows, *, before=None, none=False, raised=None, **options):
    """What `restore` returns and says of a checkpoint at 300 steps, and the lines then."""
    record = {"config": config(**before or {}).flat(), "train_seconds": 2.5, "row": row(300)}

    def restore_run(*arguments):
        if raised is not None:
            raise raised
        return 300, "state", record

    monkeypatch.setattr(resharding, "restore_run", restore_run)
    write_metrics(folder, rows)
    said, built = [], types.SimpleNamespace(state=None)
    checkpoints = types.SimpleNamespace(are_none=lambda: none)
    found = startup.restore(config(**options), checkpoints, built, None, folder, said.append)
    return found, said, read_metrics(folder)


def test_a_resumed_run_has_the_lines_until_its_checkpoint(tmp_path, monkeypatch):
    """The line of the checkpoint's own step is the checkpoint's, with the evaluation that came
    after it."""
    rows = [row(200, [1.0]), row(300, [2.0]), row(400, [3.0])]
    found, said, lines = restored(tmp_path, monkeypatch, rows)
    assert (found[0], found[1], found[2].total) == ("state", 300, 2.5)
    assert said == ["resumed at 300 steps."]
    assert lines == [row(200, [1.0]), row(300, [2.0])]
    for rows in ([row(200, [1.0])], [row(200, [1.0]), row(400, [3.0])]):
        assert restored(tmp_path, monkeypatch, rows)[2] == [row(200, [1.0]), row(300)]
    assert restored(tmp_path, monkeypatch, [])[2] == [row(300)]


def test_a_resumed_run_says_over_how_many_updates_rates_fall_now(tmp_path, monkeypatch):
    longer = {"total_timesteps": 600, "anneal": True}
    before = {"anneal": True}
    said = restored(tmp_path, monkeypatch, [], before=before, **longer)[1]
    assert said[1:] == [
        "Learning rates fall to zero over 500 critic updates now: those of 600 steps, not of 400."
    ]
    assert len(restored(tmp_path, monkeypatch, [], before=before, anneal=True)[1]) == 1
    assert len(restored(tmp_path, monkeypatch, [], total_timesteps=600)[1]) == 1
    with pytest.raises(RunError, match="another configuration: tau"):
        restored(tmp_path, monkeypatch, [], tau=0.5)


def test_a_run_without_a_readable_checkpoint(tmp_path, monkeypatch):
    found, said, lines = restored(tmp_path, monkeypatch, [row(200)], none=True)
    assert (found, lines) == (None, [])
    assert said == [f"{tmp_path} has no checkpoint yet: the run starts from the beginning."]
    for raised, text in (
        (FileNotFoundError("no checkpoint that can be read"), "nothing to resume"),
        (ValueError("of another version"), "of another version"),
    ):
        with pytest.raises(RunError, match=text):
            restored(tmp_path, monkeypatch, [], raised=raised)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(RunError, match="a finished run whose checkpoints were removed"):
        restored(tmp_path, monkeypatch, [], none=True)
