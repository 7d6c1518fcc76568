"""Where the time of learning from pixels goes, and pictures a second of the whole loop.

    python benchmarks/studies/pixels_shares.py playground/CartpoleSwingup -- --image-size 48

A short run of `ddpg-jax train --pixels --profile`: simulation, rendering, replay and networks, as
its trace has them.
"""

import json
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click

from benchmarks import harness
from benchmarks.studies import common
from ddpg_jax.runs.folder.files import write_json


@click.command(context_settings={"show_default": True})
@click.argument("env")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of compiled programs. [default: none]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="[default: benchmarks/results/shares_ENV.json]",
)
def main(env: str, options: tuple[str, ...], cache: Path | None, out: Path | None) -> None:
    """Train on ENV from pixels with OPTIONS of `ddpg-jax train` after a `--`, and write the shares
    as JSON.
    """
    out = out or Path("benchmarks/results") / f"shares_{harness.slug(env)}_pixels.json"
    with tempfile.TemporaryDirectory() as place:
        arguments = [env, "--pixels", "--profile", "--evaluate-every", "0", *options]
        summary = common.train_by_command(arguments, Path(place) / "run", common.shell(cache))
        found = json.loads((Path(place) / "run/profile/shares.json").read_text())
    config, shares = summary["config"], found["shares"]
    drawn = shares["environment"] * found.get("rendering_over_environment", 0.0)
    steps = config["num_envs"] / found["seconds_per_round"]  # a round is a step of each environment
    result = {
        **found,
        "shares": {"simulation": shares["environment"] - drawn, "rendering": drawn}
        | {name: share for name, share in shares.items() if name != "environment"},
        "env_steps_per_second": steps,
        "pictures_per_second": steps * config["env_options"].get("frames_per_action", 1),
        "simulated_steps_per_second": steps * config["env_options"].get("action_repeat", 1),
        "updates_per_second": config["updates_per_step"] / found["seconds_per_round"],
        "settings": {"env": env, "options": list(options)},
        "config": config,
    }
    write_json(out, result)
    for name in (
        "shares",
        "pictures_per_second",
        "simulated_steps_per_second",
        "updates_per_second",
    ):
        click.echo(f"{name}: {result[name]}")
    click.echo(str(out))


if __name__ == "__main__":
    main()
