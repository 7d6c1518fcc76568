"""Every notebook runs from top to bottom at a small budget and shows what it promises.

One of them does so in each run of the tests, the others in rotation with the slow tests: what they
show of the library is tested elsewhere."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from helpers import STUDIES
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
# What replaces each notebook's cell tagged "parameters", and how many pictures of which kind it
# then shows.
SMALL = {
    "quickstart.ipynb": (
        "total_timesteps, seeds, learning_rates, frames = 3_000, 2, [1e-3, 1e-2], 3",
        {"image/png": 3, "image/gif": 1},
    ),
    "environments.ipynb": (
        "total_timesteps, num_envs = 3_000, 4",
        {"image/png": 1, "image/gif": 1},
    ),
    "pixels.ipynb": ("total_timesteps, num_envs = 2_000, 8", {"image/png": 3, "image/gif": 1}),
    "driving.ipynb": (
        "total_timesteps, frames, roads = 1_000, 3, 2\n"
        'options = {"image_updates": 3, "images": 32, "latent_size": 4,\n'
        '           "env_options": {"time_limit": 30, "camera_size": 16},\n'
        '           "learning_starts": 64, "batch_size": 16, "evaluation_episodes": 2}',
        {"image/png": 3, "image/gif": 1},
    ),
    "studies.ipynb": (
        "small = " + json.dumps(STUDIES),
        {"image/png": 8},
    ),
}
ALWAYS = "environments.ipynb"
"""Trains on an environment written in it: the shortest."""
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the notebooks are not here: this is not a checkout"
)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A kernel of this very interpreter, whatever kernels are installed; it shares the tests'
    compiled programs."""
    place = tmp_path_factory.mktemp("kernels")
    folder = place / "jupyter" / "kernels" / "ddpg-jax-tests"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "tests", "language": "python"})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(place / "jupyter"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(place / "runtime"))
        patch.setenv("IPYTHONDIR", str(place / "ipython"))
        patch.delenv("MPLBACKEND", raising=False)
        yield folder.name


def play(name: str, kernel: str, folder: Path) -> None:
    """Run a notebook in ``folder``, where its temporary files lie too, and look at what it shows.

    A cell that raises ends this with its traceback.
    """
    parameters, pictures = SMALL[name]
    notebook = nbformat.read(FOLDER / name, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    cell.source = parameters
    check = f"import sys; assert sys.executable == {sys.executable!r}"
    notebook.cells.append(nbformat.v4.new_code_cell(check))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        NotebookClient(
            notebook,
            kernel_name=kernel,
            timeout=1_800,
            resources={"metadata": {"path": os.fspath(folder)}},
        ).execute()
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    shown = [kind for output in outputs for kind in output.get("data", {})]
    assert {kind: shown.count(kind) for kind in pictures} == pictures
    assert not [output.text for output in outputs if output.get("name") == "stderr"]


def test_every_notebook_is_listed_here() -> None:
    assert {path.name for path in FOLDER.glob("*.ipynb")} == set(SMALL)


def test_all_are_stored_without_outputs() -> None:
    for name in SMALL:
        notebook = nbformat.read(FOLDER / name, as_version=4)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert not any(cell.outputs or cell.execution_count for cell in cells), name


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != ALWAYS)) for name in SMALL],
)
def test_runs_and_draws(name: str, kernel: str, tmp_path: Path) -> None:
    play(name, kernel, tmp_path)
