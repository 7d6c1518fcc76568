"""Pictures and tables of a sweep: what each line, cell and row of them is."""

import json
import types

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgba

from ddpg_jax.runs.folder.metrics_log import write_metrics
from ddpg_jax.runs.sweeps import lineage, sweep_plots, table


def test_a_row_of_several_seeds_has_their_mean_worst_and_best():
    assert table._several([1.0, 6.5, 1_503.0]) == ["503.5", "1.0", "1,503.0"]
    assert table._several([1.0, None, 4.0]) == ["2.5", "1 diverged", "4.0"]
    assert table._several([None, None]) == ["diverged", "", ""]


def test_axes_of_a_sweeps_picture():
    """Logarithmic for numbers that are far apart, labels for what is none."""
    assert sweep_plots.is_wide([0.1, 0.1 * sweep_plots.LOG_RATIO])
    assert sweep_plots.is_wide([2.0 * sweep_plots.LOG_RATIO, 2.0]), "that far apart, exactly"
    assert [sweep_plots.is_wide([0.5, high]) for high in (9.99, 10)] == [False, True], "20 times"
    assert not sweep_plots.is_wide([-1.0, 1e9])
    assert not sweep_plots.is_wide([True, 1e9])
    assert not sweep_plots.is_wide([0.1, 0.099 * sweep_plots.LOG_RATIO])
    assert not sweep_plots.is_wide([0.0, 1e9])
    assert not sweep_plots.is_wide([[8], [64]])
    members = lambda *values: [
        {"hyperparameters": {"a": value}, "final_return": float(i), "member": i}
        for i, value in enumerate(values)
    ]
    wide, narrow = (sweep_plots.sweep(members(*own)).axes[0] for own in ((1e-4, 1.0), (1.0, 2.0)))
    assert [axis.get_xscale() for axis in (wide, narrow)] == ["log", "linear"]
    named = sweep_plots.sweep(members([64, 64], [8, 8], [64, 64])).axes[0]
    assert [text.get_text() for text in named.get_xticklabels()] == ["8x8", "64x64"]
    assert named.get_xlabel() == "a"
    assert [one.get_offsets()[:, 0].tolist() for one in named.collections] == []
    assert named.lines[0].get_xdata().tolist() == [1, 0, 1], "at the ticks of their values"
    assert named.get_xticks().tolist() == [0, 1]
    two = [
        {"hyperparameters": {"a": a, "b": b}, "final_return": float(a), "member": a}
        for a, b in ((1, "relu"), (2, "tanh"), (10_000, "relu"))
    ]
    figure = sweep_plots.sweep(two)  # of four pairs there are three
    np.testing.assert_allclose(figure.get_size_inches(), [5.6, 4.4])
    both = figure.axes[0]
    assert (both.get_xlabel(), both.get_ylabel()) == ("a", "b")
    assert (both.get_xscale(), both.get_yscale()) == ("log", "linear")
    assert [text.get_text() for text in both.get_yticklabels()] == ["relu", "tanh"]
    np.testing.assert_array_equal(both.collections[0].get_offsets(), [[1, 0], [2, 1], [10_000, 0]])


def test_a_lineage_is_drawn_over_one_axis_of_time():
    """A panel for each hyper-parameter and for the return; lines from each member's parent."""
    made = {
        "env_steps": [100, 200],
        "parent": [[0, 1], [1, 1]],
        "return": [[-5.0, None], [-3.0, -4.0]],
        "hyperparameters": {"tau": [[1e-5, 1e-1], [1e-3, 1e-1]], "gamma": [[0.9, 0.95]] * 2},
        "ancestors": [1, 0],
    }
    axes = lineage.draw_lineage(made).axes[:3]
    assert [axis.get_ylabel() for axis in axes] == ["tau", "gamma", "return"]
    assert [axis.get_yscale() for axis in axes] == ["log", "linear", "linear"]
    assert all(axes[0].get_shared_x_axes().joined(axes[0], axis) for axis in axes[1:])
    kept, copied = (
        np.array([line.vertices for line in lines.get_paths()]) for lines in axes[0].collections[:2]
    )
    np.testing.assert_allclose(kept, [[[100, 1e-1], [200, 1e-1]]])
    np.testing.assert_allclose(copied, [[[100, 1e-1], [200, 1e-3]]])


def one(number, hyperparameters, final, std=0.0):
    return {
        "member": number,
        "hyperparameters": hyperparameters,
        "final_return": final,
        "final_return_std": std,
    }


def test_a_curve_has_the_colour_of_its_end_and_the_best_one_a_label(monkeypatch):
    """Best is a member of the best setting; who diverged is grey."""
    ends = (None, -5.0, -1.0, -2.0)
    members = [one(i, {"tau": 0.1 * (i > 1), "hidden": [8, 4]}, end) for i, end in enumerate(ends)]
    curve = lambda folder, own: (np.array([1, 2]), np.array([own["member"], 9]))
    monkeypatch.setattr(sweep_plots, "member_curve", curve)
    figure = sweep_plots.curves(None, members)
    axes, bar = figure.axes
    shade = colormaps["viridis"]
    wanted = [to_rgba("lightgrey"), shade(0.0), shade(1.0), shade(0.75)]
    assert [to_rgba(line.get_color()) for line in axes.lines] == wanted
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[1, number], [2, 9]] for number in range(4)
    ]
    assert [line.get_linewidth() for line in axes.lines] == [0.9, 0.9, 2.5, 0.9]
    assert max(axes.lines, key=lambda line: line.get_zorder()) is axes.lines[2]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["member 2: tau 0.1, hidden 8x4"]
    assert bar.get_ylabel() == "final return"
    assert bar.get_ylim() == (-5, -1)
    np.testing.assert_allclose(figure.get_size_inches(), [6.4, 4.0])


def test_a_line_goes_through_the_means_of_values_where_members_have_a_return():
    returns = {0.1: (-4.0, -2.0), 0.3: (-1.0, None), 0.2: (None, None), 0.4: (5.0,)}
    values = [(tau, value) for tau, some in returns.items() for value in some]
    made = [one(i, {"tau": tau}, value) for i, (tau, value) in enumerate(values)]
    (axes,) = sweep_plots.sweep(made).axes
    points, mean = (line.get_xydata() for line in axes.lines)
    np.testing.assert_allclose(points, [[0.1, -4], [0.1, -2], [0.3, -1], [0.4, 5]])
    np.testing.assert_allclose(mean, [[0.1, -3], [0.3, -1], [0.4, 5]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tau", "final return")
    assert axes.lines[0].get_linestyle() == "None"
    np.testing.assert_allclose(axes.figure.get_size_inches(), [5.6, 4.0])


def test_a_heat_map_has_a_cell_for_each_setting():
    """Rows by the first hyper-parameter, upwards; what diverged says so; dark cells have white
    text."""
    cells = {("relu", 2): 0.0, ("elu", 1): 5.9, ("elu", 2): 6.1, ("relu", 3): 10.0}
    cells |= {("relu", 1): 2.0, ("elu", 3): None}
    made = [one(i, {"a": a, "b": b}, value) for i, ((a, b), value) in enumerate(cells.items())]
    made += [one(6, {"a": "elu", "b": 1}, 5.7)]  # a mean of 5.8
    figure = sweep_plots.sweep(made)
    axes, bar = figure.axes
    np.testing.assert_allclose(axes.images[0].get_array().filled(99), [[5.8, 6.1, 99], [2, 0, 10]])
    assert axes.images[0].origin == "lower"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("b", "a")
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "3"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["elu", "relu"]
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert texts == {
        (0, 0): ("5.8", "white"),
        (1, 0): ("6.1", "black"),
        (2, 0): ("diverged", texts[2, 0][1]),
        (0, 1): ("2", "white"),
        (1, 1): ("0", "white"),
        (2, 1): ("10", "black"),
    }
    assert bar.get_ylabel() == "final return, mean over seeds"
    np.testing.assert_allclose(figure.get_size_inches(), [2.6 + 3 * 0.75, 3.2])


@pytest.mark.parametrize(("high", "shown"), [(10, 100), (11, 0)])
def test_a_heat_map_of_many_cells_shows_colours_alone(high, shown):
    pairs = [(a, b) for a in range(high) for b in range(10)]
    made = [one(i, {"a": a, "b": b}, float(i)) for i, (a, b) in enumerate(pairs)]
    figure = sweep_plots.sweep(made)
    assert len(figure.axes[0].texts) == shown
    np.testing.assert_allclose(figure.get_size_inches(), [2.6 + 7.5, 1.2 + 0.55 * high])


def test_parallel_lines_go_from_value_to_value_to_the_return():
    """A place between 0 and 1 on each axis, by the logarithm where values are far apart; who
    diverged ends as low as the lowest."""
    own = [(1e-4, 1, "x"), (1e-2, 2, "y"), (1.0, 5, "x")]
    names = ("rate", "layers", "kind")
    made = [one(i, dict(zip(names, each, strict=True)), -i) for i, each in enumerate(own)]
    made += [one(3, dict(zip(names, (1e-4, 5, "x"), strict=True)), None)]
    figure = sweep_plots.sweep(made)
    axes, bar = figure.axes
    lines = {tuple(np.round(line.get_ydata(), 6)): line for line in axes.lines[:4]}
    assert list(lines) == [(0, 1, 0, 0), (1, 1, 0, 0), (0.5, 0.25, 1, 0.5), (0, 0, 0, 1)]
    assert [line.get_linewidth() for line in lines.values()] == [1.1, 1.1, 1.1, 3.0]
    shade = colormaps["viridis"]
    colours = [to_rgba("lightgrey"), shade(0.0), shade(0.5), shade(1.0)]
    assert [to_rgba(line.get_color()) for line in lines.values()] == colours
    assert [line.get_xdata()[0] for line in axes.lines[4:]] == [0, 1, 2, 3]
    labels = ["rate", "layers", "kind", "final return"]
    assert [text.get_text() for text in axes.get_xticklabels()] == labels
    texts = {(*np.round(text.get_position(), 6),): text.get_text() for text in axes.texts}
    assert texts == {
        (0.04, 0): "0.0001",
        (0.04, 1): "1",
        (1.04, 0): "1",
        (1.04, 1): "5",
        (2.04, 0): "x",
        (2.04, 1): "y",
        (3.04, 0): "-2",
        (3.04, 1): "0",
    }
    assert axes.get_xlim() == (-0.3, 3.4)
    assert axes.get_ylim() == (-0.05, 1.05)
    assert bar.get_ylim() == (-2, 0)
    np.testing.assert_allclose(figure.get_size_inches(), [1.6 + 4 * 1.5, 4.2])


def test_a_grid_of_three_hyper_parameters_is_no_map():
    names = [(a, b, c) for a in (1, 2) for b in (1, 2) for c in (1, 2)]
    made = [one(i, dict(zip("abc", each, strict=True)), float(i)) for i, each in enumerate(names)]
    assert len(sweep_plots.sweep(made).axes[0].lines) == 8 + 4


def test_a_column_of_one_value_is_at_its_foot_and_labels_are_at_its_ends():
    assert sweep_plots._column([3.0, 3.0], log=False) == ([0.0, 0.0], {0.0: "3"})
    heights, ticks = sweep_plots._column([1.0, 10.0, 100.0], log=True)
    assert heights == pytest.approx([0, 0.5, 1])
    assert ticks == {0.0: "1", 1.0: "100"}
    heights, ticks = sweep_plots._column(["b", "c", "a"], log=False)
    assert heights == [0.5, 1.0, 0.0]
    assert ticks == {0.5: "b", 1.0: "c", 0.0: "a"}


def test_a_lineage_follows_the_best_and_shows_every_member():
    """At each time all members by the colour of their return, and the ancestors in black."""
    made = {
        "env_steps": [100, 200, 300],
        "parent": [[0, 1, 2], [1, 1, 2], [0, 0, 2]],
        "return": [[-5.0, -4.0, None], [-3.0, -4.0, -1.0], [-2.0, -1.0, -5.0]],
        "hyperparameters": {"tau": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]},
        "ancestors": [1, 0, 1],
    }
    figure = lineage.draw_lineage(made)
    tau, returns, bar = figure.axes
    kept, copied = (
        np.array([line.vertices for line in lines.get_paths()]) for lines in tau.collections[:2]
    )
    np.testing.assert_allclose(
        kept,
        [
            [[100, 2], [200, 5]],
            [[100, 3], [200, 6]],
            [[200, 4], [300, 7]],
            [[200, 6], [300, 9]],
        ],
    )
    np.testing.assert_allclose(copied, [[[100, 2], [200, 4]], [[200, 4], [300, 8]]])
    shade = colormaps["viridis"]
    for axis, rows in ((tau, made["hyperparameters"]["tau"]), (returns, made["return"])):
        for step, row, ends, dots in zip(
            made["env_steps"], rows, made["return"], axis.collections[2:], strict=True
        ):
            places = np.ma.filled(dots.get_offsets(), np.nan)
            wanted = [np.nan if value is None else value for value in row]
            np.testing.assert_allclose(places[:, 1], wanted)
            np.testing.assert_array_equal(places[np.isfinite(wanted), 0], step)
            colours = [to_rgba("lightgrey") if x is None else shade((x + 5) / 4) for x in ends]
            np.testing.assert_allclose(dots.get_facecolors(), colours)
        (black,) = axis.lines
        assert black.get_color() == "black"
        order = [each.get_zorder() for each in (*axis.collections[:3], black)]
        assert order == sorted(set(order)), "each lies over the one before"
    assert tau.lines[0].get_xydata().tolist() == [[100, 2], [200, 4], [300, 8]]
    assert returns.get_xlabel() == "environment steps of each member"
    assert bar.get_ylim() == (-5, -1)
    np.testing.assert_allclose(figure.get_size_inches(), [7.2, 5.2])


def test_ancestors_are_followed_from_the_end(tmp_path):
    """Of the chunk before the parent of the one after; the first chunk has no parents."""
    rows = [
        {"parent": [2, 1, 0], "tau": [0.1, 0.2, 0.3], "gamma": [1, 1, 1], "return": [-3, -2, -1]},
        {"parent": [1, 1, 2], "tau": [0.2, 0.2, 0.3], "gamma": [1, 1, 1], "return": [-3, -2, None]},
        {"parent": [0, 0, 2], "tau": [0.2, 0.4, 0.3], "gamma": [1, 1, 1], "return": [-3, -2, -1]},
    ]
    part = tmp_path / "part-0"
    part.mkdir()
    at = ({"env_steps": steps, "evaluation_return": None} for steps in (100, 200, 300))
    write_metrics(part, [row | more for row, more in zip(rows, at, strict=True)])
    of = lambda **options: types.SimpleNamespace(parts=[types.SimpleNamespace(options=options)])
    made = lineage.write_lineage(tmp_path, of(evolve={"ranges": {"tau": [0, 1]}}), 1)
    assert made == {
        "env_steps": [100, 200, 300],
        "parent": [row["parent"] for row in rows],
        "return": [row["return"] for row in rows],
        "hyperparameters": {"tau": [row["tau"] for row in rows]},
        "ancestors": [1, 0, 1],
    }
    assert json.loads((tmp_path / "lineage.json").read_text()) == made
    assert lineage.lineage(part, ["tau"], 0)["ancestors"] == [1, 0, 0]
    assert lineage.lineage(part, ["tau"], 2)["ancestors"] == [2, 2, 2]
    assert lineage.write_lineage(tmp_path / "none", of(), 1) is None


def cells(made):
    return [(column.header, list(column.cells)) for column in made.columns]


def test_a_table_has_a_row_for_each_setting_the_best_first():
    numbers = [(0.1, 1.0, 0.5), (0.2, 1_503.25, 2.0), (0.3, None, None)]
    made = [one(i, {"tau": tau}, value, std) for i, (tau, value, std) in enumerate(numbers)]
    shown = table.members_table(made, 12_500)
    assert shown.title == "3 members, 12,500 steps each"
    assert shown.caption is None
    assert cells(shown) == [
        ("member", ["1", "0", "2"]),
        ("tau", ["0.2", "0.1", "0.3"]),
        ("return", ["1,503.2", "1.0", "diverged"]),
        ("std of episodes", ["2.0", "0.5", ""]),
    ]
    assert [row.style for row in shown.rows] == ["bold green", None, None]
    assert {column.justify for column in shown.columns} == {"right"}
    assert table.members_table(made[:1], 5).title == "1 member, 5 steps each"
    both = table.members_table([*made, one(3, {"tau": 0.1}, 4.0)], 5)
    assert both.title == "4 members, 3 settings, 5 steps each"
    assert cells(both)[0] == ("members", ["1", "0, 3", "2"])
    assert cells(both)[2:] == [
        ("mean return", ["1,503.2", "2.5", "diverged"]),
        ("worst", ["1,503.2", "1.0", ""]),
        ("best", ["1,503.2", "4.0", ""]),
    ]


@pytest.mark.parametrize(("count", "caption"), [(40, None), (42, "and 2 more, in members.json")])
def test_a_table_ends_after_forty_settings(count, caption, capsys):
    made = [one(i, {"tau": i / 100, "note": "x" * 120}, float(i)) for i in range(count)]
    shown = table.members_table(made, 5)
    assert len(shown.rows) == 40
    assert shown.caption == caption
    table.print_table(made, 5)
    assert f"{0.41 if count == 42 else 0.39} │ {'x' * 120}" in capsys.readouterr().out


def test_words_and_numbers_of_a_table_are_as_they_are_on_a_terminal(monkeypatch, capsys):
    """In no colours of their own, and no pictures in their place."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "90"}.items():
        monkeypatch.setenv(name, value)
    table.print_table([one(0, {"name": "a"}, 2.0), one(1, {"name": ":x: 3"}, 1.0)], 5)
    assert "│      1 │ :x: 3 │    1.0 │             0.0 │" in capsys.readouterr().out
