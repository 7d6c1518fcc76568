"""Tests marked ``eight_devices`` run in one child process whose CPU is eight devices.

The first worker that meets one starts the child, which runs all of them that this session has
collected; each test then passes or fails as it did there."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 8
REPORT = "PYTEST_EIGHT_DEVICES_REPORT"
"""Names the file to which the child writes a line for each test."""
SECONDS = 1_800
"""After which a child that hangs is killed."""


def is_child() -> bool:
    """Whether this process is the child."""
    return REPORT in os.environ


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the child: how each test ended, one JSON object a line."""
    if is_child() and (report.failed or report.when == "call"):
        line = {"name": _name(report.nodeid), "failure": report.longreprtext * report.failed}
        with open(os.environ[REPORT], "a") as file:
            file.write(json.dumps(line) + "\n")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Instead of calling a marked test, look up how it ended in the child."""
    if is_child() or pyfuncitem.get_closest_marker("eight_devices") is None:
        return None
    found = _results(pyfuncitem.session)
    failure = found.get(_name(pyfuncitem.nodeid), "it did not run in the child")
    if failure:
        pytest.fail(failure, pytrace=False)
    return True


def _name(nodeid: str) -> str:
    """File and test, from whatever folder pytest was started."""
    return nodeid.rsplit("/", 1)[-1]


def _results(session: pytest.Session) -> dict[str, str]:
    """The failure of each marked test, empty where it passed."""
    folder = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    report = shared / "eight_devices.jsonl"
    with (shared / "eight_devices.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not report.exists():
            _run(session, report)
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    return {row["name"]: row["failure"] for row in rows}


def _run(session: pytest.Session, report: Path) -> None:
    """Run the marked tests in the child, which shares the cache of compiled programs."""
    marked = [item for item in session.items if item.get_closest_marker("eight_devices")]
    names = [f"{item.path}::{item.nodeid.partition('::')[2]}" for item in marked]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={COUNT}"
    own = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    report.touch()
    subprocess.run(
        [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider", *names],
        cwd=session.config.rootpath,
        env=own | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, REPORT: str(report)},
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
