"""One page of HTML about runs, which needs no other file: curves, figures, films, configuration."""

import base64
import contextlib
import datetime
import html
import importlib.resources
import io
import json
import string
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_jax import checks
from ddpg_jax.runs.config import differences
from ddpg_jax.runs.config.run_config import Config
from ddpg_jax.runs.config.stored import load_config, read_stored
from ddpg_jax.runs.folder import files, metrics, output_path, versions
from ddpg_jax.runs.results import plots

SUFFIXES = (".html", ".htm")
FILMS = {".gif": "image/gif", ".mp4": "video/mp4"}
"""Films that are put into the page, with their types."""
MOST_BYTES = 32 * 2**20
"""A larger film is named only."""
CURVE_WIDTH = 5.2
"""In inches: two beside each other, and still to be read on a telephone."""
HEAD = (
    *("run", "environment", "preset", "seeds", "final return", "best return", "at step"),
    *("steps", "wall seconds", "training seconds", "steps/s"),
)
NONE = "\N{EN DASH}"
EXPLAINED = (
    "Returns are of deterministic episodes: means over seeds \N{PLUS-MINUS SIGN} their standard "
    "deviation. The final return is of fresh episodes after training. The best is of each seed's "
    "best evaluation, its agent played again in fresh episodes; in brackets the evaluations that "
    "chose it, where it was not. Steps are of each seed; steps/s of all members of the run "
    "together, without compiling, warm-up and evaluation. Wall seconds are of the last session, "
    "with everything."
)


def report(folders: Sequence[Path], path: Path) -> str:
    """Write a page about runs and return the file's name.

    Args:
        folders: of the runs, ended or not.
        path: of the page; ``.html`` where it has no suffix.

    Raises:
        ValueError: the file is not called as a page, or cannot be written; a configuration is
            damaged.
    """
    if path.name and not path.suffix:
        path = path.with_name(f"{path.name}.html")
    if path.name and path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} ends in {path.suffix}: a report is a page, name it .html.")
    output_path.require_writable(path)
    folders = list(dict.fromkeys(folder.resolve() for folder in folders))
    title = f"Training of {len(folders)} runs" if len(folders) > 1 else f"Run {_name(folders[0])}"
    about = f"{_now()}, by ddpg_jax {versions.package_versions()['ddpg_jax']}"
    parts = [_curves(folders), _figures(folders), _films(folders)]
    for folder in folders:
        with _named_if_damaged(folder):
            parts.append(_section(folder))
    skeleton = importlib.resources.files(__package__).joinpath("report.html").read_text("utf-8")
    page = string.Template(skeleton).substitute(
        title=html.escape(title), about=html.escape(about), content="\n".join(parts)
    )
    files.write_file(path, page)
    return str(path)


@contextlib.contextmanager
def _named_if_damaged(folder: Path) -> Iterator[None]:
    """Say whose files hold other types than a run writes."""
    try:
        yield
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder}: summary.json or metrics.jsonl is damaged ({checks.first_line(error)}): "
            "restore it, or leave the run out."
        ) from error


def _name(folder: Path) -> str:
    """Return what a run is called: of a sweep with its name."""
    return str(folder.relative_to(plots.family_of(folder).parent))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _curves(folders: Sequence[Path]) -> str:
    """Return the curves over steps and over time, as pictures in the page."""
    found = []
    for over in plots.OVER:
        try:
            figure = plots.draw_curves(folders, over, CURVE_WIDTH)
        except ValueError as error:
            found.append(f"<p>Over {over}: {html.escape(str(error))}</p>")
            continue
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg")
        source = _data("image/svg+xml", drawn.getvalue())
        found.append(f'<img src="{source}" alt="returns of evaluations over {over}">')
    return f'<h2>Curves</h2>\n<div class="side">{"".join(found)}</div>'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _figures(folders: Sequence[Path]) -> str:
    """Return the table of results, a row for each run, and for each setting in one of a sweep."""
    rows = []
    for folder in folders:
        found = plots.groups([folder])
        for label, ((_, own),) in found:
            name = f"{_name(folder)}: {label}" if len(found) > 1 else _name(folder)
            with _named_if_damaged(folder):
                rows.append(_row(name, folder, own))
    table = _table(rows, "figures cards", HEAD)
    return f'<h2>Results</h2>\n{table}\n<p class="note">{html.escape(EXPLAINED)}</p>'


def _row(label: str, folder: Path, own: list[int]) -> list[str]:
    """Return the cells of a line; ``own`` are its members."""
    config, summary = load_config(folder), _summary(folder)
    rows = metrics.read_metrics(folder)
    last = rows[-1] if rows else {}
    final = _spread(summary.get("final_returns"), own) or f"{NONE} (not ended)"
    collapsed = sum(summary.get("collapsed", [])[i : i + 1] == [True] for i in own)
    final += f", {collapsed} collapsed" if collapsed else ""
    best, steps = _best(folder, summary, own)
    times = [summary.get(f"{name}_seconds") for name in ("wall", "train")]
    times[1] = times[1] or last.get("train_seconds")
    rate = summary.get("env_steps_per_second") or last.get("env_steps_per_second")
    rate = None if rate is None else round(rate)
    done = summary.get("env_steps") or last.get("env_steps")
    return [
        *(label, config.env, config.preset.name, str(len(own)), final, best, steps),
        *map(_number, (done, *times, rate)),
    ]


def _best(folder: Path, summary: dict[str, Any], own: list[int]) -> tuple[str, str]:
    """Return the best agents' returns, and at which steps they were."""
    at, values = metrics.read_curve(folder)
    if not len(at):
        return NONE, NONE
    chosen = summary.get("best_evaluation_returns")
    reached = summary.get("best_env_steps")
    if chosen is None or reached is None:  # not ended
        values = np.where(np.isfinite(values), values, -np.inf)
        chosen, reached = values.max(axis=0).tolist(), at[values.argmax(axis=0)].tolist()
    text = _spread(summary.get("best_returns"), own) or f"({_spread(chosen, own) or NONE})"
    first, last = (
        _number(pick(reached[i] for i in own if i < len(reached))) for pick in (min, max)
    )
    return text, first if first == last else f"{first} to {last}"


def _spread(values: Any, own: list[int]) -> str:
    """Return mean and standard deviation over members; empty where none has a value."""
    every = [values[i] for i in own if i < len(values)] if values else []
    known = [x for x in every if x is not None and np.isfinite(x)]
    if not known:
        return ""
    text = _number(float(np.mean(known)))
    if len(every) > 1:
        text += f" \N{PLUS-MINUS SIGN} {_number(float(np.std(known)))}"
    return text + (f" ({len(known)} of {len(every)} seeds)" if len(known) < len(every) else "")


def _number(value: float | None) -> str:
    if value is None:
        return NONE
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.4g}"


def _summary(folder: Path) -> dict[str, Any]:
    """Return the content of a run's ``summary.json``; of one that has not ended none."""
    path = folder / "summary.json"
    found: dict[str, Any] = read_stored(path, "run", "train", dict) if path.is_file() else {}
    return found


def _films(folders: Sequence[Path]) -> str:
    """Return the films in the folders of runs, and of the sweeps that they belong to."""
    places = dict.fromkeys([*folders, *map(plots.family_of, folders)])
    found = [
        _film(path)
        for place in places
        for path in (*sorted(place.glob("episode*")), *_newest(place / "films"))
        if path.suffix in (*FILMS, *SUFFIXES) and path.is_file()
    ]
    return f'<h2>Films</h2>\n<div class="side">{"".join(found)}</div>' if found else ""


def _newest(folder: Path) -> list[Path]:
    """Return the film of the most steps, of those made while training."""
    return sorted(folder.glob("*.gif"), key=lambda path: (len(path.name), path.name))[-1:]


def _film(path: Path) -> str:
    name, kind = html.escape(str(path)), FILMS.get(path.suffix)
    if kind is None or path.stat().st_size > MOST_BYTES:
        return f"<p>{name} is a file of its own: open it.</p>"
    source = _data(kind, path.read_bytes())
    shown = (
        f'<img src="{source}" alt="an episode">'
        if kind.startswith("image")
        else f'<video src="{source}" controls loop muted></video>'
    )
    return f"<figure>{shown}<figcaption>{name}</figcaption></figure>"


def _section(folder: Path) -> str:
    """Return what a run was: where, with what, what was replaced, and how to train it again."""
    config, summary = load_config(folder), _summary(folder)
    used = [f"{name} {version}" for name, version in summary.get("versions", {}).items()]
    about = {
        "folder": folder,
        "preset": f"{config.preset.name}: {config.preset.cites}",
        "device": summary.get("device", NONE),
        **({"stopped": summary["stopped"]} if "stopped" in summary else {}),
        "versions": ", ".join(used) or NONE,
    }
    parts = [
        f"<h2>{html.escape(_name(folder))}</h2>",
        _table(about.items(), "pairs"),
        _changes(config),
    ]
    if command := differences.command(config):
        parts.append(f"<h3>Train it again</h3><pre>{html.escape(command)}</pre>")
    flat = {name: json.dumps(value) for name, value in config.flat().items()}
    inside = _table(flat.items(), "pairs")
    parts.append(f"<details><summary>Configuration</summary>{inside}</details>")
    return "\n".join(parts)


def _changes(config: Config) -> str:
    """Return what was replaced in the preset."""
    found = differences.differences(config)
    title = "<h3>Replaced in the preset</h3>"
    if not found:
        return f"{title}<p>Nothing.</p>"
    rows = [(name, *map(_text, values), why) for name, (*values, why) in found.items()]
    return title + _table(rows, "cards", ("hyper-parameter", "preset", "this run", "why"))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _table(rows: Iterable[Sequence[Any]], kind: str, head: Sequence[str] = ()) -> str:
    """Return a table; the first cell of each row is its head."""
    lines = ["".join(f"<th>{html.escape(name)}</th>" for name in head)] if head else []
    for first, *others in rows:
        names = head[1:] or [""] * len(others)
        lines.append(f"<th>{html.escape(str(first))}</th>")
        lines[-1] += "".join(
            f'<td data-name="{html.escape(name)}">{html.escape(str(value))}</td>'
            for name, value in zip(names, others, strict=True)
        )
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table class="{kind}">\n{body}\n</table></div>'
