"""Statistics over seeds, and what is read from and drawn of a run."""

import json

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from ddpg_jax.reporting import Episodes, Report
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.folder.metrics import (
    Clock,
    mean_over_members,
    metrics_row,
    read_curve,
    read_metrics,
)
from ddpg_jax.runs.results import plots, statistics


def make_run(folder, evaluations, seed=0, pace=None, **config):
    """A folder with a configuration and one line per evaluation: ``{env_steps: returns or
    None}``; with a ``pace`` they have times, so many seconds for each step."""
    folder.mkdir()
    values = next((value for value in evaluations.values() if value is not None), [0.0])
    flat = {"env": "pendulum", "preset": "default", "seed": seed, "seeds": len(values)} | config
    (folder / "config.json").write_text(json.dumps(flat))
    rows = [
        {"env_steps": steps, "evaluation_return": returns}
        | ({} if pace is None else {"train_seconds": steps * pace})
        for steps, returns in evaluations.items()
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], 5.0),
        ([1.0, 3.0], 2.0),
        ([0.0, 10.0, 20.0, 1000.0], 15.0),  # one of four is cut at either end: (10 + 20) / 2
        ([9.0, 1.0, 2.0, -90.0, 5.0, 3.0, 4.0, 80.0], 3.5),  # two of eight: (2 + 3 + 4 + 5) / 4
        ([1.0, 2.0, 3.0, 4.0, 100.0], 3.0),  # int(5 / 4) = 1: (2 + 3 + 4) / 3
    ],
)
def test_interquartile_mean_by_hand(values, expected):
    assert statistics.interquartile_mean(np.array(values)) == pytest.approx(expected, rel=1e-12)


def test_interquartile_mean_of_each_row_or_column():
    values = np.random.default_rng(0).normal(size=(3, 12))
    expected = np.sort(values, axis=1)[:, 3:9].mean(axis=1)
    np.testing.assert_allclose(statistics.interquartile_mean(values), expected, rtol=1e-12)
    np.testing.assert_allclose(
        statistics.interquartile_mean(values.T, axis=0), expected, rtol=1e-12
    )


def test_interval_is_the_percentile_bootstrap():
    values = np.random.default_rng(1).normal(10.0, 2.0, size=16)
    draws = np.random.default_rng(2).choice(values, size=(20_000, 16))
    expected = np.quantile(np.sort(draws, axis=1)[:, 4:12].mean(axis=1), [0.025, 0.975])
    low, high = statistics.bootstrap_interval(values)
    # 2,000 resamples against 20,000 others: the quantiles' own error is about 3 % of the width.
    np.testing.assert_allclose([low, high], expected, atol=0.1 * (expected[1] - expected[0]))
    assert low < statistics.interquartile_mean(values) < high
    assert statistics.bootstrap_interval(values) == (low, high), "the same data, the same interval"


def test_interval_without_a_return_is_none_and_no_warning(recwarn):
    low, high = statistics.bootstrap_interval(np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]]))
    assert np.isnan([low[0], high[0]]).all()
    assert (low[1], high[1]) == (1, 3)
    assert not len(recwarn)


def test_interval_narrows_with_less_confidence_and_is_of_each_row():
    values = np.random.default_rng(3).normal([[0.0], [100.0]], 1.0, size=(2, 10))
    low, high = statistics.bootstrap_interval(values)
    low_half, high_half = statistics.bootstrap_interval(values, confidence=0.5)
    assert low.shape == high.shape == (2,)
    assert (low < low_half).all()
    assert (high_half < high).all()
    assert high[0] < 10 < 90 < low[1]


def test_interval_of_one_seed_is_its_own_value():
    low, high = statistics.bootstrap_interval(np.array([[3.0], [-1.0]]))
    np.testing.assert_array_equal(low, [3.0, -1.0])
    np.testing.assert_array_equal(high, [3.0, -1.0])


@pytest.mark.parametrize("cut", [1, 2, 10])
def test_a_last_line_that_was_cut_is_left_out(tmp_path, cut):
    run = make_run(tmp_path / "run", {100: [1.0], 200: [2.0]})
    path = run / "metrics.jsonl"
    whole = path.read_text()
    assert [row["env_steps"] for row in read_metrics(run)] == [100, 200]
    path.write_text(whole + whole.splitlines()[0][:-cut])
    assert [row["env_steps"] for row in read_metrics(run)] == [100, 200]


BAD = [
    b"5",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b'{"env_steps": 150}',
    b'{"evaluation_return": [1.0]}',
    b'{"env_steps": "150", "evaluation_return": null}',
    b'{"env_steps": true, "evaluation_return": null}',
    b'{"env_steps": -1, "evaluation_return": null}',
    b'{"env_steps": 1e3, "evaluation_return": null}',
    b'{"env_steps": 99999999999999999999, "evaluation_return": null}',
    b'{"env_steps": 150, "evaluation_return": 5}',
    b'{"env_steps": 150, "evaluation_return": []}',
    b'{"env_steps": 150, "evaluation_return": [NaN]}',
    b'{"env_steps": 150, "evaluation_return": ["1"]}',
    b'{"env_steps": 150, "evaluation_return": {"0": 1.0}}',
    b"\xff\xfe\x00",
    b"[" * 100_000,
    bytes(50),
]


@pytest.mark.parametrize("bad", [*BAD, b"\n".join(BAD)], ids=[*map(str, range(len(BAD))), "all"])
def test_damaged_lines_hide_no_good_ones(tmp_path, bad):
    run, said = make_run(tmp_path / "run", {100: [1.0], 200: [2.0]}), []
    path = run / "metrics.jsonl"
    first, second = path.read_bytes().splitlines()
    path.write_bytes(first + b"\n" + bad + b"\n" + second + b"\n")
    assert [row["env_steps"] for row in read_metrics(run, said.append)] == [100, 200]
    count = len(bad.split(b"\n"))
    assert said == [f"{path}: {count} of {count + 2} lines are damaged and are ignored."]
    plots.plot([run], tmp_path / "curves.png")


def test_repeated_and_unordered_steps_and_other_seeds(tmp_path):
    """Of each step the last line; of evaluations of other lengths those that are most."""
    run = make_run(
        tmp_path / "run", {200: [2.0, 2.0], 300: [3.0, 3.0], 250: [9.0], 100: [1.0, 1.0]}
    )
    path, again = (
        run / "metrics.jsonl",
        make_run(tmp_path / "again", {200: [5.0, 6.0]}) / "metrics.jsonl",
    )
    path.write_text(path.read_text() + again.read_text())
    steps, values = read_curve(run)
    assert steps.tolist() == [100, 200, 300]
    assert values.tolist() == [[1.0, 1.0], [5.0, 6.0], [3.0, 3.0]]
    plots.plot([run, run], tmp_path / "curves.png")


def test_a_seed_without_an_episode_hides_no_other():
    """Three seeds with 2, 0 and 1 episodes: 10 over 2, none, 3 over 1."""
    config = make_config(
        "pendulum", seeds=3, total_timesteps=3_000, learning_starts=1_000, steps_per_chunk=1_000
    )
    count, sums = np.array([2.0, 0.0, 1.0]), np.array([10.0, 0.0, 3.0])
    episodes = Episodes(count=count, return_sum=sums, length_sum=4 * sums, broken=np.zeros(3))
    clock = Clock()
    clock.add(1.0)
    row = metrics_row(
        config,
        Report(episodes=episodes, metrics={}, first_bad_step={}, finite={}),
        2_000,
        1_000,
        clock,
        None,
    )
    assert json.loads(json.dumps(row)) == row
    assert row["episode_return"] == [5.0, None, 3.0]
    assert row["episode_length"] == [20.0, None, 12.0]
    assert mean_over_members(row["episode_return"]) == 4.0
    assert mean_over_members([None, None]) is None


def test_no_metrics_are_no_rows(tmp_path):
    assert read_metrics(tmp_path) == []


def test_curve_holds_the_evaluations(tmp_path):
    run = make_run(tmp_path / "run", {100: None, 200: [1.0, 2.0], 300: None, 400: [3.0, 4.0]})
    steps, values = read_curve(run)
    np.testing.assert_array_equal(steps, [200, 400])
    np.testing.assert_array_equal(values, [[1.0, 2.0], [3.0, 4.0]])


def drawn(monkeypatch, folders, path, *over, thin=None):
    """The curves that `plot` draws: ``(label, x, y)``, and the number of intervals; ``thin``
    receives those of single seeds."""
    from matplotlib.axes import Axes

    lines, bands = [], []
    plot, fill = Axes.plot, Axes.fill_between
    monkeypatch.setattr(
        Axes,
        "plot",
        lambda self, x, y, **k: (
            (lines if k["label"] != "_seeds" else [] if thin is None else thin).append(
                (k["label"], list(x), np.asarray(y).tolist())
            ),
            plot(self, x, y, **k),
        )[1],
    )
    monkeypatch.setattr(
        Axes, "fill_between", lambda self, *a, **k: (bands.append(a), fill(self, *a, **k))
    )
    plots.plot(folders, path, *over)
    return lines, bands


def test_plot_pools_runs_that_differ_only_in_seeds(tmp_path, monkeypatch):
    said = {
        "source": "in other words",
        "replaced": {"tau": [0.005, 0.001]},
    }  # says where the numbers are from, is none
    runs = [
        make_run(tmp_path / "a", {100: [0.0, 2.0], 200: [4.0, 6.0], 300: [9.0, 9.0]}, seed=0),
        make_run(
            tmp_path / "b", {100: [4.0], 200: [8.0]}, seed=2, **said
        ),  # stopped earlier: only shared steps are drawn
        make_run(tmp_path / "c", {100: [1.0], 200: [5.0]}, seed=0, tau=0.5),
    ]
    flat = json.loads((runs[1] / "config.json").read_text())
    (runs[1] / "config.json").write_text(json.dumps(dict(reversed(flat.items()))))
    lines, bands = drawn(monkeypatch, runs, tmp_path / "curves.png")
    # Of three seeds none is cut, as int(3 / 4) is 0: the interquartile mean is the mean, 2 of 0, 2
    # and 4, then 6 of 4, 6 and 8.
    assert [line[1:] for line in lines] == [([100, 200], [2.0, 6.0]), ([100, 200], [1.0, 5.0])]
    assert "3 seeds" in lines[0][0]
    assert "seeds" not in lines[1][0]
    assert len(bands) == 1
    picture = imread(tmp_path / "curves.png")
    blue = (picture[..., 2] > picture[..., 0] + 0.3).sum()
    assert blue > 200, "a line is to be seen"


def test_members_of_a_sweep_are_a_line_for_each_setting(tmp_path, monkeypatch):
    """Two rates by two seeds, one of them with a copy that fills the run; another batch size in
    the next part; and members that evolve, which are one line."""
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "sweep.json").write_text("{}")
    vary = {"tau": [0.1, 0.1, 0.5, 0.5, 0.5], "seed": [0, 1, 0, 1, 1]}
    returns = {100: [1.0, 3.0, 5.0, 9.0, 9.0]}
    first = make_run(
        sweep / "part-0", returns, vary=vary, batch_size=8, total_timesteps=100, pace=1
    )
    about = {"batch_size": 16, "total_timesteps": 100, "pace": 1}
    other = make_run(sweep / "part-1", {100: [4.0, 6.0]}, vary={"tau": [0.1, 0.1]}, **about)
    lines, bands = drawn(monkeypatch, [first, other], tmp_path / "curves.png")
    assert lines == [
        ("pendulum, default (batch_size 8, tau 0.1), 2 seeds", [100], [2.0]),
        ("pendulum, default (batch_size 8, tau 0.5), 2 seeds", [100], [7.0]),
        ("pendulum, default (batch_size 16, tau 0.1), 2 seeds", [100], [5.0]),
    ]
    assert len(bands) == 3
    lines, _ = drawn(monkeypatch, [first, other], tmp_path / "curves.png", "time")
    assert [label for label, *_ in lines] == [
        "pendulum, default (batch_size 8, tau 0.1), 2 seeds, 5 at once",
        "pendulum, default (batch_size 8, tau 0.5), 2 seeds, 5 at once",
        "pendulum, default (batch_size 16, tau 0.1), 2 seeds, 2 at once",
    ]
    evolve = {"vary": {"tau": [0.1, 0.5], "seed": [0, 1]}, "evolve": {}}
    evolving = make_run(tmp_path / "evolving", {100: [2.0, 4.0]}, **evolve)
    lines, _ = drawn(monkeypatch, [evolving], tmp_path / "curves.png")
    assert lines == [("pendulum, default, 2 seeds", [100], [3.0])]


def test_a_line_where_more_than_three_numbers_differ_is_called_after_its_folder(
    tmp_path, monkeypatch
):
    (tmp_path / "sweep.json").write_text("{}")
    for names, wanted in (
        ("abc", ["(a 0, b 0, c 0)", "(a 1, b 1, c 1)"]),
        ("abcd", ["(4-0)", "(4-1)"]),
    ):
        runs = [
            make_run(tmp_path / f"{len(names)}-{i}", {100: [1.0]}, **dict.fromkeys(names, i))
            for i in range(2)
        ]
        lines, _ = drawn(monkeypatch, runs, tmp_path / "curves.png")
        assert [label.removeprefix("pendulum, default ") for label, _, _ in lines] == wanted


def test_a_band_has_the_colour_of_its_line_and_no_label_vanishes(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figures, write = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), write(self, *a, **k))
    )
    runs = [
        make_run(tmp_path / "one", {100: [0.0], 200: [2.0]}, env="_mine:Env"),
        make_run(tmp_path / "three", {100: [0.0, 4.0, 6.0], 200: [2.0, 5.0, 9.0]}, tau=0.5),
    ]
    plots.plot(runs, tmp_path / "curves.png")
    (axes,) = figures[0].axes
    (band,) = axes.collections
    own = [line.get_color() for line in axes.lines if line.get_label() != "_seeds"]
    assert tuple(band.get_facecolor()[0][:3]) == to_rgb(own[1]) != to_rgb(own[0])
    thin = [line for line in axes.lines if line.get_label() == "_seeds"]
    assert [(line.get_color(), line.get_alpha() < 0.5) for line in thin] == 3 * [(own[1], True)]
    assert all(line.get_zorder() < axes.lines[0].get_zorder() for line in thin)
    np.testing.assert_allclose(figures[0].get_size_inches(), [6.4, 4.0])
    labels = [text.get_text().strip() for text in axes.get_legend().get_texts()]
    assert labels == ["_mine:Env, default (one)", "pendulum, default (three), 3 seeds"]


@pytest.mark.parametrize("evaluations", [{}, {100: None}])
def test_plot_of_no_evaluation(tmp_path, evaluations):
    run = make_run(tmp_path / "run", evaluations)
    with pytest.raises(ValueError, match="none of these runs has an evaluation yet"):
        plots.plot([run], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_over_time_members_share_the_clock_and_runs_are_interpolated(tmp_path, monkeypatch):
    """Two runs of two seeds each share a line, a run of one seed alone has its own."""
    runs = [
        make_run(tmp_path / "a", {10: [0.0, 2.0], 20: [4.0, 6.0], 30: [8.0, 8.0]}, pace=0.6),
        make_run(tmp_path / "b", {10: [1.0, 1.0], 20: [3.0, 5.0]}, seed=2, pace=1.2),
        make_run(tmp_path / "c", {10: [5.0]}, seed=4, pace=60),  # alone: it is no slower
    ]
    thin = []
    lines, bands = drawn(monkeypatch, runs, tmp_path / "curves.png", "time", thin=thin)
    (label, minutes, values), (other, *point) = lines
    # The first is evaluated after 6, 12 and 18 s, the second after 12 and 24 s: 12 and 18 s are in
    # both: 4, 6, 1, 1 and, the second half way, 8, 8, 2, 3. Of four the middle two count.
    np.testing.assert_allclose(minutes, [0.2, 0.3])
    np.testing.assert_allclose(values, [(1 + 4) / 2, (3 + 8) / 2])
    assert label == "pendulum, default (a), 4 seeds, 2 at once"
    assert (other, *point) == ("pendulum, default (c)", [10.0], [5.0])
    assert len(bands) == 1
    np.testing.assert_allclose(thin[0][1], [0.1, 0.2, 0.3])
    assert [each for _, _, each in thin] == [[[0, 2], [4, 6], [8, 8]], [[1, 1], [3, 5]]]
    with pytest.raises(ValueError, match="none of these runs has an evaluation yet"):
        plots.plot([make_run(tmp_path / "d", {1: [1.0]})], tmp_path / "curves.png", "time")


def test_runs_without_a_common_evaluation_are_thin_lines_alone(tmp_path, monkeypatch):
    runs = [
        make_run(tmp_path / "a", {10: [0.0], 20: [4.0]}, pace=1),
        make_run(tmp_path / "b", {30: [1.0], 40: [3.0]}, seed=2, pace=1),
    ]
    for over in plots.OVER:
        thin = []
        lines, bands = drawn(monkeypatch, runs, tmp_path / "curves.png", over, thin=thin)
        assert [(x, y) for _, x, y in lines] == [([], [])]
        assert (len(bands), [each for _, _, each in thin]) == (0, [[[0], [4]], [[1], [3]]])


def test_an_axis_says_what_a_curve_is_over_and_many_labels_stand_below_it(tmp_path):
    runs = [
        make_run(tmp_path / f"$x_{{$ {i}{30 * ' word'}", {100: [0.0]}, tau=i, pace=1)
        for i in range(5)
    ]
    figure = plots.draw_curves(runs, "time")
    (axes,) = figure.axes
    assert axes.get_xlabel().startswith("minutes of training, all seeds of a run together")
    assert "without compiling, warm-up and evaluation" in axes.get_xlabel()
    figure.savefig(tmp_path / "curves.png")
    below = figure.legends[0].get_window_extent()
    assert below.y1 < axes.xaxis.label.get_window_extent().y0
    assert 0 <= below.x0 < below.x1 <= figure.bbox.x1, "a long label has several lines"
    assert below.y0 >= 0
    assert figure.get_size_inches()[1] == 4.0 + 0.2 * 15, "three lines a label"
    few = plots.draw_curves(runs[:3])
    few.savefig(tmp_path / "few.png")
    (axes,) = few.axes
    assert axes.get_xlabel() == "environment steps (per seed)"
    assert axes.get_legend().get_window_extent().y0 > axes.get_window_extent().y0
