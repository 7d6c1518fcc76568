"""The page about runs: it needs nothing else, says what the files say, and escapes all text."""

import base64
import dataclasses
import html.parser
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ddpg_jax.runs.cli import commands, run_commands
from ddpg_jax.runs.config import differences
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.results import report
from ddpg_jax.runs.sweeps.plan import make_plan

GIF = b"GIF89a of an episode"
DASH = "\N{EN DASH}"


class Page(html.parser.HTMLParser):
    """Collects tags with their attributes, the rows of tables, and other text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.rows, self.text, self._cell = [], [], "", False
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self._cell = tag in ("td", "th")

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data
        else:
            self.text += data

    def row(self, name, cells):
        (found,) = [row for row in self.rows if row[0] == name and len(row) == cells]
        return found


def make_run(folder, *, ended=True, evaluations=3, env="pendulum", **options):
    """A folder as a run leaves it, with returns that follow from the member and the step."""
    config = make_config(env, **options)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.flat()))
    steps = [1_000 * (i + 1) for i in range(evaluations)]
    rows = [
        {
            "env_steps": x,
            "evaluation_return": [
                -900.0 + x / 10 - i - 250 * (x == steps[-1]) for i in range(config.seeds)
            ],
            "train_seconds": x / 100,
            "env_steps_per_second": 4_321.4,
        }
        for x in steps
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if ended:
        members = np.arange(config.seeds)
        summary = {
            "final_returns": (-150.0 - members).tolist(),
            "final_return_std": [9.0] * config.seeds,
            "best_returns": (-140.5 - members).tolist(),
            "best_env_steps": (2_000 + 500 * members).tolist(),
            "best_evaluation_returns": (-133.0 - members).tolist(),
            "env_steps": 20_000,
            "wall_seconds": 98.76,
            "train_seconds": 54.321,
            "env_steps_per_second": 12_345.6,
            "versions": {"python": "3.11.7", "jax": "0.10.2"},
            "device": "cpu x1 (cpu), 2 host processors",
        }
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def page_of(tmp_path, *folders):
    written = report.report(folders, tmp_path / "report")
    assert written == str(tmp_path / "report.html")
    return Page(tmp_path / "report.html")


def test_numbers_have_a_place_after_the_point_from_ten_on():
    texts = [report._number(x) for x in (None, 12_345, 9.994_6, -10.04, 1_234.56, 0.000_123)]
    assert texts == [report.NONE, "12,345", "9.995", "-10.0", "1,234.6", "0.000123"]


def test_a_page_needs_no_other_file(tmp_path):
    run = make_run(tmp_path / "run", seeds=3)
    (run / "episode.gif").write_bytes(GIF)
    (run / "episode-2.mp4").write_bytes(b"a film")
    (run / "episode-1.html").write_text("<script>Brax's viewer</script>")
    (run / "films").mkdir()
    for steps in (500, 1_500, 12_000, 9_000):
        (run / "films" / f"{steps}.gif").write_bytes(b"%d" % steps)
    page = page_of(tmp_path, run)
    links = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster", "style")
    ]
    assert all(link.startswith("data:") for link in links)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base"}
    assert "http:" not in page.source and "https:" not in page.source  # noqa: PT018
    assert "url(" not in page.source and "@import" not in page.source  # noqa: PT018
    kinds = [link.partition(";base64,")[0] for link in links]
    assert kinds == [*2 * ["data:image/svg+xml"], "data:video/mp4", *2 * ["data:image/gif"]]
    drawn = [base64.b64decode(link.partition(",")[2]) for link in links]
    assert drawn[3:] == [GIF, b"12000"], "of the films made while training the last"
    assert all(b"<svg" in each for each in drawn[:2])
    titles = (b"environment steps", b"minutes of training")
    assert [[title in each for title in titles] for each in drawn[:2]] == [
        [True, False],
        [False, True],
    ]
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert alts[:2] == [f"returns of evaluations over {over}" for over in ("steps", "time")]
    assert f"{run / 'episode-1.html'} is a file of its own" in page.text
    assert ("meta", "width=device-width, initial-scale=1") in [
        (tag, attributes.get("content")) for tag, attributes in page.tags
    ]


def test_the_table_has_the_figures_of_the_summary(tmp_path):
    runs = [make_run(tmp_path / "three", seeds=3), make_run(tmp_path / "one", preset="td3")]
    page = page_of(tmp_path, *runs)
    assert page.row("run", 11) == list(report.HEAD)
    # Three seeds: -150, -151, -152, whose standard deviation is sqrt(2 / 3) = 0.8165.
    assert page.row("three", 11)[1:] == [
        *("pendulum", "default", "3", "-151.0 ± 0.8165", "-141.5 ± 0.8165"),
        *("2,000 to 3,000", "20,000", "98.8", "54.3", "12,346"),
    ]
    assert page.row("one", 11)[2:7] == ["td3", "1", "-150.0", "-140.5", "2,000"]
    values = {row[0]: row[1] for row in page.rows if len(row) == 2}
    assert values["device"] == "cpu x1 (cpu), 2 host processors"
    assert values["versions"] == "python 3.11.7, jax 0.10.2"
    assert "Training of 2 runs" in page.text


def test_a_run_that_has_not_ended_and_one_without_an_evaluation(tmp_path):
    runs = [
        make_run(tmp_path / "cut", seeds=2, ended=False),
        make_run(tmp_path / "begun", evaluations=0, ended=False),
    ]
    page = page_of(tmp_path, *runs)
    # The best evaluation is the second, -900 + 200 and one less, and is in brackets.
    assert page.row("cut", 11)[3:] == [
        *("2", f"{DASH} (not ended)", "(-700.5 ± 0.5)", "2,000", "3,000", DASH, "30.0", "4,321"),
    ]
    assert page.row("begun", 11)[4:] == [f"{DASH} (not ended)", *6 * [DASH]]
    assert sum(tag == "img" for tag, _ in page.tags) == 2
    alone = page_of(tmp_path, runs[1])
    assert sum(tag == "img" for tag, _ in alone.tags) == 0
    assert "none of these runs has an evaluation yet" in alone.text


def test_a_run_is_called_after_its_folder_and_shown_once(tmp_path, monkeypatch):
    run = make_run(tmp_path / "mine")
    monkeypatch.chdir(run)
    report.report([Path(), run], tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert page.row("mine", 11)[3] == "1"
    assert "Run mine" in page.text


def test_members_without_a_return_are_told_and_others_count(tmp_path):
    run = make_run(tmp_path / "three", seeds=3)
    path = run / "summary.json"
    found = json.loads(path.read_text())
    found |= {"final_returns": [-100.0, None, -104.0], "best_returns": None}
    found |= {"collapsed": [False, True, True], "stopped": "a return of -100"}
    path.write_text(json.dumps(found))
    page = page_of(tmp_path, run)
    row = page.row("three", 11)
    assert row[4:6] == ["-102.0 ± 2 (2 of 3 seeds), 2 collapsed", "(-134.0 ± 0.8165)"]
    assert ["stopped", "a return of -100"] in page.rows
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"summary\.json is damaged"):
        report.report([run], tmp_path / "report.html")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("summary.json", {"final_returns": 5}),
        ("summary.json", {"best_env_steps": "x"}),
        ("summary.json", {"wall_seconds": "x"}),
        ("summary.json", {"collapsed": None}),
        ("summary.json", {"versions": [1]}),
        ("metrics.jsonl", {"env_steps_per_second": "x"}),
    ],
)
def test_a_run_whose_files_hold_other_types_is_named(tmp_path, name, change):
    run = make_run(tmp_path / "mine", ended=name == "summary.json")
    path = run / name
    *before, last = path.read_text().splitlines() if name == "metrics.jsonl" else [path.read_text()]
    path.write_text("\n".join([*before, json.dumps(json.loads(last) | change), ""]))
    with pytest.raises(ValueError, match=r"mine: summary\.json or metrics\.jsonl is damaged \("):
        report.report([run], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_what_is_called_as_a_film_and_is_none_is_left_out(tmp_path):
    run = make_run(tmp_path / "mine")
    (run / "episode.gif").mkdir()
    (run / "episode-1.mp4").symlink_to(tmp_path / "nowhere")
    (run / "films" / "100.gif").mkdir(parents=True)
    assert "Films" not in page_of(tmp_path, run).text


def test_what_is_replaced_in_the_preset_is_listed(tmp_path):
    run = make_run(tmp_path / "run", tau=0.02, hidden=(48, 24), batch_size=256)
    page = page_of(tmp_path, run)
    changes = {row[0]: row[1:] for row in page.rows if len(row) == 4}
    assert changes.pop("hyper-parameter") == ["preset", "this run", "why"]
    assert changes["tau"] == ["0.005", "0.02", "given"]
    assert changes["hidden"] == ["256, 256", "48, 24", "given"]
    assert changes["actor_learning_rate"] == ["0.0003", "0.001", "found by trying on pendulum"]
    assert changes["batch_size"] == ["256", "256", "given"], "the task's, 64, was replaced"
    assert "gamma" not in changes
    assert ["gamma", "0.99"] in page.rows, "the configuration holds all"
    untouched = page_of(tmp_path, make_run(tmp_path / "other", env="mine:make", preset="paper"))
    assert "Nothing." in untouched.text


def test_published_exceptions_and_members_that_differ():
    env = "playground/CheetahRun"
    found = differences.differences(make_config(env, "fast-td3", n_step=5))
    assert found == {
        "target_noise": (0.001, 0.1, f"published for {env}"),
        "stddev_low": (0.001, 0.1, f"published for {env}"),
        "v_min": (-10.0, -500.0, f"published for {env}"),
        "v_max": (10.0, 500.0, f"published for {env}"),
        "n_step": (1, 5, "given"),
    }
    vary = {"tau": [0.1, 0.1, 0.5], "seed": [0, 1, 0]}
    varied = differences.differences(make_config("mine:make", "paper", seeds=3, vary=vary))
    assert varied == {"tau": (0.001, [0.1, 0.5], "members differ")}


def test_hostile_text_is_text(tmp_path):
    evil = "<script>alert(1)</script>"
    run = make_run(
        tmp_path / "<script>&amp;",
        env=f"mine:{evil}",
        preset="td3",
        env_options={"name_of": f'"{evil}', "b": "$title"},
    )
    found = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(found | {"device": f"{evil}&lt;"}))
    (run / f"episode'\"{evil.replace('/', '')}.gif").write_bytes(GIF)
    page = page_of(tmp_path, run)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.row("<script>&amp;", 11)[1] == f"mine:{evil}"
    assert ["device", f"{evil}&lt;"] in page.rows
    assert "Run <script>&amp;" in page.text
    assert shlex.quote(f"mine:{evil}") in page.text
    assert '"$title"' in page.source.replace("&quot;", '"')


def test_a_sweep_has_a_row_for_each_setting_and_its_film(tmp_path, monkeypatch):
    """From the shell: the runs of a sweep, and the film in the sweep's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_commands, "begin", lambda: None)
    plan = make_plan("pendulum", {"tau": "0.1,0.5"}, seeds=2)
    (part,) = plan.parts
    make_run(tmp_path / "sweep" / "part-0", **part.options)
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(dataclasses.asdict(plan)))
    (tmp_path / "sweep" / "episode.gif").write_bytes(GIF)
    done = CliRunner().invoke(commands.main, ["report", "sweep", "--out", "x.htm"])
    assert (done.exit_code, done.stdout) == (0, "x.htm\n"), (done.output, done.exception)
    page = Page(tmp_path / "x.htm")
    names = [f"sweep/part-0: pendulum, default (tau {tau})" for tau in (0.1, 0.5)]
    assert [page.row(name, 11)[3:5] for name in names] == [
        ["2", "-150.5 ± 0.5"],
        ["2", "-152.5 ± 0.5"],
    ]
    changes = {row[0]: row[1:] for row in page.rows if len(row) == 4}
    assert changes["tau"] == ["0.005", "0.1, 0.5", "members differ"]
    assert "sweep/episode.gif" in page.text
    assert "Train it again" not in page.text


def test_a_large_film_is_named_only(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MOST_BYTES", len(GIF) - 1)
    run = make_run(tmp_path / "run")
    (run / "episode.gif").write_bytes(GIF)
    page = page_of(tmp_path, run)
    assert sum(tag == "img" for tag, _ in page.tags) == 2
    assert f"{run / 'episode.gif'} is a file of its own" in page.text


def test_only_a_page_is_written(tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"x\.pdf ends in \.pdf: a report is a page, name it"):
        report.report([run], tmp_path / "x.pdf")
    assert not (tmp_path / "x.pdf").exists()


COMMANDS = {
    "plain": {},
    "many": {"preset": "td3", "seeds": 3, "seed": 7, "tau": 0.02, "hidden": (8, 9)},
    "switches": {"layer_norm": True, "evaluate_every": 0, "keep": 5, "total_timesteps": 5_000},
    "environment": {
        "env": "lane",
        "env_options": {"time_limit": 20, "curvature": 0.02, "observation": "features"},
    },
    "pixels": {"preset": "drq-v2", "env_options": {"pixels": True, "image_size": 32}},
    "callbacks": {"stop_at": -200.5, "csv": True, "film_every": 4_000},
    "chunks": {"steps_per_chunk": 512, "preset": "d4pg", "v_min": -30.0},
    "no": {"preset": "fast-td3", "normalize_observations": False, "env_options": {"pixels": False}},
    "words": {"env": "my module:make it", "env_options": {"name_of": "a 'b'", "x": "1"}},
}


@pytest.mark.parametrize("options", COMMANDS.values(), ids=COMMANDS)
def test_the_command_trains_such_a_run_again(options, monkeypatch):
    config = make_config(**{"env": "pendulum"} | options)
    command = differences.command(config)
    given = {}
    monkeypatch.setattr(commands, "begin", lambda: None)
    monkeypatch.setattr(commands.runs, "train", lambda env, **others: given.update(others, env=env))
    program, *words = shlex.split(command)
    done = CliRunner().invoke(commands.main, words)
    assert (program, done.exit_code) == ("ddpg-jax", 0), (command, done.output)
    del given["profile"], given["progress"]
    again = make_config(**given).flat()
    assert again | {"device_kind": config.device_kind} == config.flat(), command
    if not options:
        assert words == ["train", "pendulum", "--preset", "default"]


def test_what_no_command_alone_trains_has_none():
    assert differences.command(make_config("pendulum", seeds=2, vary={"tau": [0.1, 0.2]})) is None
    assert differences.command(make_config("pendulum", start_from="/run")) is None
