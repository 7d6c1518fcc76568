"""The renderer against MuJoCo's own (OpenGL): do silhouettes agree, and how many frames a second.

    python benchmarks/rendering.py                       # needs OpenGL: Debian's libegl1 or
    libosmesa6 python benchmarks/rendering.py --no-silhouettes      # speed alone, of a quiet
    machine; --no-speed: silhouettes alone python benchmarks/rendering.py --pictures out/       #
    both pictures of each model side by side

Silhouettes: intersection over union of the pixels that are some geom but the ground, and of each
limb, which is the geoms of one body, that covers at least 100 pixels, at 256x256, in states that
MuJoCo reaches by random actions. Speed: states that differ, drawn in batches, one batch after the
other in one program; a frame is all from where the bodies are to bytes.
"""

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from ddpg_jax.envs import brax, playground, render
from ddpg_jax.envs.render import image, model
from ddpg_jax.runs.folder import files
from ddpg_jax.runs.results import video

MODELS = (
    "brax/halfcheetah",
    "brax/ant",
    "brax/humanoid",
    "playground/CartpoleSwingup",
    "playground/CheetahRun",
    "playground/PendulumSwingup",
    "playground/FishSwim",
    "playground/SwimmerSwimmer6",
)
SPEED = ("brax/halfcheetah", "playground/CartpoleSwingup")
SIDE, LIMB = 256, 100


@click.command(context_settings={"show_default": True})
@click.option("--silhouettes/--no-silhouettes", default=True)
@click.option("--speed/--no-speed", "with_speed", default=True)
@click.option("--states", default=10)
@click.option("--size", default=64)
@click.option(
    "--batch", "batches", multiple=True, default=(1, 16, 64), help="Frames drawn at once."
)
@click.option("--repetitions", default=5)
@click.option("--pictures", type=click.Path(path_type=Path), default=None)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/rendering.json")
)
def main(
    silhouettes: bool,
    with_speed: bool,
    states: int,
    size: int,
    batches: tuple[int, ...],
    repetitions: int,
    pictures: Path | None,
    out: Path,
) -> None:
    """Compare, measure, and write JSON; what is not measured stays what it was there."""
    video.use_headless_opengl()
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    if silhouettes:
        each = {name: _said(name, agreement(name, states, pictures)) for name in MODELS}
        found["silhouettes"] = harness.context() | {"side": SIDE, "states": states, "models": each}
    if with_speed:
        each = {name: _said(name, speed(name, size, batches, repetitions)) for name in SPEED}
        found["speed"] = harness.context() | {"size": size, "models": each}
    files.write_file(out, json.dumps(found, indent=1) + "\n")


def _said(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    print(name, json.dumps(figures), flush=True)
    return figures


def model_of(name: str) -> Any:
    """The ``mujoco.MjModel`` of an environment."""
    if name.startswith(playground.PREFIX):
        return playground.load(name.removeprefix(playground.PREFIX), {})[0].mj_model
    return brax._create(name.removeprefix("brax/"), "spring", {}).sys.mj_model


def states_of(made: Any, count: int) -> list[Any]:
    """States, each after 0.3 s of random actions from the start: none has fallen through a floor
    that does not hold it.
    """
    import mujoco

    generator, data, found = np.random.default_rng(0), mujoco.MjData(made), []
    for _ in range(count):
        mujoco.mj_resetData(made, data)
        for _ in range(6):
            data.ctrl[:] = generator.uniform(-1, 1, made.nu)
            mujoco.mj_step(made, data, nstep=max(1, round(0.05 / made.opt.timestep)))
        mujoco.mj_forward(made, data)
        found.append((data.qpos.copy(), data.mocap_pos.copy(), data.mocap_quat.copy()))
    return found


def agreement(name: str, count: int, pictures: Path | None) -> dict[str, Any]:
    """Intersection over union, worst and mean over the states, of the whole and of the limbs."""
    import mujoco

    made = model_of(name)
    ours, order = jax.jit(_shapes(made)), model.order_of(made)
    renderer, data = mujoco.Renderer(made, SIDE, SIDE), mujoco.MjData(made)
    whole, limbs = [], []
    for number, (data.qpos[:], data.mocap_pos[:], data.mocap_quat[:]) in enumerate(
        states_of(made, count)
    ):
        mujoco.mj_forward(made, data)
        shapes, picture, origin, rays = map(
            np.asarray,
            ours(jnp.asarray(data.xpos, jnp.float32), jnp.asarray(data.xquat, jnp.float32)),
        )
        theirs, both = _segments(renderer, made, data), np.where(shapes < 0, -1, order[shapes])
        ground = [geom for geom in range(made.ngeom) if made.geom_type[geom] == model.PLANE]
        body = [(seen >= 0) & ~np.isin(seen, ground) for seen in (both, theirs)]
        whole.append(_overlap(*body))
        limb_of = np.concatenate(
            [made.geom_bodyid, made.site_bodyid, [-1]]
        )  # the last for -1, where there is nothing
        sides = [
            np.where(seen, limb_of[geoms], -1)
            for seen, geoms in zip(body, (both, theirs), strict=True)
        ]
        differ = (sides[0] != sides[1]) & (sides[0] >= 0) & (sides[1] >= 0)
        same = [_coincide(made, data, origin, rays[:, pixel]) for pixel in np.flatnonzero(differ)]
        # Whose surface it is where two coincide, as where limbs join, says nothing of silhouettes.
        for side in sides:
            side.reshape(-1)[np.flatnonzero(differ)[np.array(same, bool)]] = -1
        large = [
            limb for limb in np.unique(sides[1]) if limb >= 0 and (sides[1] == limb).sum() >= LIMB
        ]
        limbs += [_overlap(*(side == limb for side in sides)) for limb in large]
        if pictures is not None and number == 0:
            _save(pictures, name, renderer, data, made, picture)
    renderer.close()
    worst = {"body": min(whole), "limb": min(limbs, default=1.0)}
    return {
        "worst": worst,
        "mean": {"body": float(np.mean(whole)), "limb": float(np.mean(limbs))},
        "limbs": len(limbs),
    }


def _shapes(made: Any) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, ...]]:
    """``(number of the shape or -1 [SIDE, SIDE], picture, origin of the rays, directions)``."""
    scene = render.scene_of(made)

    def seen(position: jax.Array, rotation: jax.Array) -> tuple[jax.Array, ...]:
        now = image.single_precision(scene(position, rotation))
        rays = render.rays(now.camera, SIDE, SIDE)
        hit = render.trace(now, rays)
        shapes = jnp.where(hit.distance < render.hit.NOTHING, hit.shape, -1)
        return (
            shapes.reshape(SIDE, SIDE),
            render.render(now, SIDE, SIDE, samples=2),
            rays.origin,
            rays.direction,
        )

    return seen


def _segments(renderer: Any, made: Any, data: Any) -> np.ndarray:
    """Geoms as MuJoCo draws them, ``[SIDE, SIDE]``, sites counted on, -1 where there is none."""
    import mujoco

    renderer.enable_segmentation_rendering()
    renderer.update_scene(data, camera=0 if made.ncam else -1)
    numbers, kinds = np.moveaxis(renderer.render(), -1, 0)
    renderer.disable_segmentation_rendering()
    geom, site = (
        kinds == int(kind) for kind in (mujoco.mjtObj.mjOBJ_GEOM, mujoco.mjtObj.mjOBJ_SITE)
    )
    return np.where(geom, numbers, np.where(site, numbers + made.ngeom, -1))


def _coincide(made: Any, data: Any, origin: np.ndarray, ray: np.ndarray) -> bool:
    """Whether the two nearest bodies along a ray are less than a millimetre apart."""
    import mujoco

    number, groups, way = (
        np.array([-1], np.int32),
        np.array([1, 1, 1, 0, 0, 0], np.uint8),
        (origin.astype(float), ray.astype(float)),
    )
    near = mujoco.mj_ray(made, data, *way, groups, 1, -1, number)
    return (
        abs(mujoco.mj_ray(made, data, *way, groups, 1, made.geom_bodyid[number[0]], number) - near)
        < 1e-3
    )


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0


def _save(pictures: Path, name: str, renderer: Any, data: Any, made: Any, ours: np.ndarray) -> None:
    from PIL import Image

    renderer.update_scene(data, camera=0 if made.ncam else -1)
    pictures.mkdir(parents=True, exist_ok=True)
    side_by_side = np.concatenate([renderer.render(), ours], axis=1)
    Image.fromarray(side_by_side).save(pictures / f"{name.replace('/', '_')}.png")


def speed(name: str, size: int, batches: tuple[int, ...], repetitions: int) -> dict[str, Any]:
    """Frames a second at each size of batch, and the seconds of compiling."""
    import mujoco

    made = model_of(name)
    scene, data = render.scene_of(made), mujoco.MjData(made)
    mujoco.mj_forward(made, data)
    bodies = jnp.asarray(np.concatenate([data.xpos, data.xquat], axis=1), jnp.float32)

    def draw(state: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        moved = state + 0.01 * jax.random.normal(key, state.shape)
        return moved, jax.vmap(
            lambda now: render.render(scene(now[:, :3], now[:, 3:]), size, size)
        )(moved)

    found, seconds = {}, {}
    for batch in batches:
        count = max(1, 512 // batch)
        begin = time.perf_counter()
        start = jnp.tile(bodies, (batch, 1, 1))
        run = harness.scanned(functools.partial(_given, start), draw, count, jax.random.key(0))
        seconds[str(batch)] = {
            "with_tracing": time.perf_counter() - begin,
            "compile": run.compile_seconds,
        }
        found[batch] = (count * batch, run)
    times = harness.alternate({str(batch): run for batch, (_, run) in found.items()}, repetitions)
    return {
        str(batch): {
            "frames_per_second": harness.spread([frames / t for t in times[str(batch)]]),
            **seconds[str(batch)],
        }
        for batch, (frames, _) in found.items()
    }


def _given(start: jax.Array, key: jax.Array) -> jax.Array:
    return start


if __name__ == "__main__":
    main()
