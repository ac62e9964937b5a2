"""The rasteriser against the ray caster."""

from pathlib import Path

import numpy as np
import pytest

from training.scenes.models import Model
from training.scenes.render import render
from training.scenes.textures import atlas
from training.scenes.worlds import WORLDS, sample_scene

moderngl = pytest.importorskip("moderngl", reason="moderngl is needed for training alone")

from training.scenes.meshes import build_mesh  # noqa: E402
from training.scenes.rasterize import Rasterizer, find_textures, read_textures  # noqa: E402

WIDTH, HEIGHT = 80, 60


@pytest.fixture(scope="module")
def textures():
    return (atlas()[0].permute(0, 2, 3, 1).numpy() ** (1 / 2.2) * 255.0).astype(np.uint8)


@pytest.fixture(scope="module")
def rasterizer(textures):
    try:
        return Rasterizer(textures, WIDTH, HEIGHT)
    except Exception as error:
        pytest.skip(f"OpenGL over EGL is missing: {error}")


def _cube(side):
    """Return a model: a cube whose foot is at the origin, as two triangles for each side."""
    points, normals = [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, -1], [1, 1], [-1, 1]], np.float32)
            points.append(np.insert(corners, axis, sign, axis=1) * side / 2 + (0, 0, side / 2))
            normals.append(np.tile(sign * np.eye(3, dtype=np.float32)[axis], (6, 1)))
    points, normals = (np.concatenate(part).astype(np.float32) for part in (points, normals))
    return Model("cube", "all", points, normals, np.full_like(points, 0.5))


@pytest.mark.parametrize("kind", list(WORLDS))
def test_depth_is_that_of_the_ray_caster(kind, rasterizer, textures, monkeypatch):
    monkeypatch.setattr("training.scenes.meshes._sample_places", lambda rng, scene: [])
    seed = next(seed for seed in range(100) if sample_scene(seed, len(textures), WIDTH, HEIGHT).kind == kind)
    scene = sample_scene(seed, len(textures), WIDTH, HEIGHT)
    image, depth = rasterizer.render(scene, build_mesh(scene, {}, len(textures), np.random.default_rng(0)))
    expected = render(scene, atlas())
    both = np.isfinite(depth) & expected.depth.isfinite().numpy()
    assert both.mean() > 0.98 * expected.depth.isfinite().float().mean()
    error = np.abs(depth[both] / expected.depth.numpy()[both] - 1.0)
    # Edges differ by half a pixel, and round solids are polyhedra.
    assert np.median(error) < 0.02
    assert np.quantile(error, 0.9) < 0.06
    brightness = [
        float(np.corrcoef(image.mean(-1).ravel(), 255 * expected.image.mean(0).numpy().ravel())[0, 1])
    ]
    assert brightness[0] > 0.6


def test_a_model_stands_in_the_scene(rasterizer, textures, monkeypatch):
    scene = sample_scene(0, len(textures), WIDTH, HEIGHT)
    forward = scene.orientation[:, 2].numpy()
    foot = scene.position.numpy() + 1.5 * forward / np.linalg.norm(forward[:2])
    foot[2] = 0.0
    models = {name: [_cube(1.0)] for name in ("Living room", "Bedroom", "Office", "Kitchen", "Bathroom")}
    models |= {"Characters": models["Office"], "Miscellaneous": models["Office"]}
    depths = []
    for places in ([], [(foot, 2.0)]):
        monkeypatch.setattr("training.scenes.meshes._sample_places", lambda rng, scene, places=places: places)
        mesh = build_mesh(scene, models, len(textures), np.random.default_rng(0))
        depths.append(rasterizer.render(scene, mesh)[1])
    nearer = depths[1] < depths[0] - 0.05
    assert nearer.mean() > 0.05
    assert (depths[1] <= depths[0] + 1e-4).all()
    assert 0.5 < depths[1][nearer].min() < 1.6


def test_textures_are_read_in_the_order_of_their_names(tmp_path):
    cv2 = pytest.importorskip("cv2")
    for number, value in ((2, 200), (1, 50)):
        cv2.imwrite(str(Path(tmp_path) / f"Brick_00{number}.jpg"), np.full((62, 128, 3), value, np.uint8))
    (tmp_path / "overview.jpg").touch()
    assert [path.stem for path in find_textures(tmp_path)] == ["Brick_001", "Brick_002"]
    tiles = read_textures(tmp_path)
    assert [tile.shape for tile in tiles] == [(128, 128, 3)] * 2
    assert [int(tile.mean()) for tile in tiles] == [50, 200]
