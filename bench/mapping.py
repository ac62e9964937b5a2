"""Surface error of a fused map: a rendered bag, `redepth process`, and Open3D's TSDF fusion.

    ./dev run python bench/mapping.py [--open3d PYTHON] [--frames 24] [--seed 97000000]
    ./dev run python bench/mapping.py --record FOLDER   # only write the bag

A camera moves through a rendered room whose depth is known; a lidar gives a few hundred points per frame
with noise, tf gives the poses. `redepth process --format tum` makes depth of the bag: with the lidar's scale
(fast), corrected by its points (fused), and with all frames refined (refined). Open3D fuses each, and the
true depth, into a TSDF. The error is the distance from the points of the fused surface to the surface of
the true depth, in centimetres.
Open3D is not in the environment: name a Python that has it (pip install open3d) by --open3d.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIDE, RESOLUTION, TRUNCATION = 10.0, 256, 0.16
"""Of the TSDF: length of its side and truncation in metres, voxels per side."""
MAX_DEPTH = 8.0
"""Depth that is fused, metres. Open3D's default of 3 m drops the rest silently."""
POINTS, NOISE = 400, 0.01
"""Of the lidar, per frame: number of points and relative noise."""
WIDTH, HEIGHT = 320, 240


def fuse(folder: Path, focal: float) -> object:
    """Return the points of the surface fused from a TUM folder, by Open3D."""
    import open3d as o3d

    # The scalable volume of Open3D 0.20 from PyPI stays empty here; the uniform one works.
    volume = o3d.pipelines.integration.UniformTSDFVolume(
        length=SIDE,
        resolution=RESOLUTION,
        sdf_trunc=TRUNCATION,
        color_type=o3d.pipelines.integration.TSDFVolumeColorType.RGB8,
        origin=np.array([-0.5 * SIDE, -0.5 * SIDE, -1.0]),
    )
    camera = o3d.camera.PinholeCameraIntrinsic(
        WIDTH, HEIGHT, focal, focal, 0.5 * (WIDTH - 1), 0.5 * (HEIGHT - 1)
    )
    poses = [line.split() for line in (folder / "groundtruth.txt").read_text().splitlines() if line[0] != "#"]
    for stamp, *numbers in poses:
        depth = o3d.io.read_image(str(folder / "depth" / f"{stamp}.png"))
        color = o3d.io.read_image(str(folder / "rgb" / f"{stamp}.png"))
        image = o3d.geometry.RGBDImage.create_from_color_and_depth(
            color, depth, depth_scale=5000.0, depth_trunc=MAX_DEPTH, convert_rgb_to_intensity=False
        )
        x, y, z, *quaternion = map(float, numbers)
        pose = np.eye(4)
        pose[:3, :3] = o3d.geometry.get_rotation_matrix_from_quaternion([quaternion[3], *quaternion[:3]])
        pose[:3, 3] = (x, y, z)
        volume.integrate(image, camera, np.linalg.inv(pose))
    return volume.extract_point_cloud()


def compare(folders: list[Path], focal: float) -> None:
    """Print the distances of the fused surfaces to that of the first folder."""
    truth = fuse(folders[0], focal)
    result = {}
    for folder in folders[1:]:
        cloud = fuse(folder, focal)
        to_truth = 100.0 * np.asarray(cloud.compute_point_cloud_distance(truth))
        to_cloud = 100.0 * np.asarray(truth.compute_point_cloud_distance(cloud))
        result[folder.name] = {
            "median error (cm)": round(float(np.median(to_truth)), 1),
            "mean error (cm)": round(float(to_truth.mean()), 1),
            "within 10 cm (%)": round(100.0 * float((to_truth < 10.0).mean()), 1),
            "truth covered within 10 cm (%)": round(100.0 * float((to_cloud < 10.0).mean()), 1),
        }
    print(json.dumps(result))


@dataclass(frozen=True)
class RoomFrame:
    """An image (H, W, 3), its true depth (H, W) in metres, the camera, and its pose (4, 4) in the room."""

    image: Any
    depth: Any
    camera: Any
    pose: Any


def room_frames(seed: int, frames: int, width: int, height: int) -> tuple[int, list[RoomFrame]]:
    """Render what a camera sees that moves through a room; also return the seed after that of the room."""
    from training.scenes.render import render
    from training.scenes.textures import atlas
    from training.scenes.worlds import _camera_axes, sample_scene

    textures = atlas(1)
    while (scene := sample_scene(seed, len(textures[0]), width, height)).kind != "room":
        seed += 1
    forward = scene.orientation[:, 2]
    yaw, pitch = math.atan2(float(forward[1]), float(forward[0])), -math.asin(float(forward[2]))
    found = []
    for number in range(frames):
        share = number / max(1, frames - 1)
        place = scene.position + 0.4 * (share - 0.5) * scene.orientation[:, 0]
        axes = _camera_axes(yaw + math.radians(30.0) * (share - 0.5), pitch, 0.0)
        moved = type(scene)(**{**vars(scene), "position": place.float(), "orientation": axes.float()})
        rendered = render(moved, textures)
        image = (rendered.image.permute(1, 2, 0).numpy() * 255.0).round().astype(np.uint8)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = axes.numpy(), place.numpy()
        found.append(RoomFrame(image, rendered.depth.numpy().astype(np.float32), moved.camera, pose))
    return seed + 1, found


def render_bag(path: Path, truth: Path, frames: int, seed: int) -> float:
    """Write the bag and a TUM folder of the true depth; return the focal length."""
    import torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "test" / "recordings"))
    from bags import SECOND, make_image, make_info, make_points, make_tf, write_bag

    from redepth_ros.exports.exporter import Session
    from redepth_ros.exports.frames import DepthFrame, FrameRecord
    from redepth_ros.exports.tum import TumExporter, quaternion_from_matrix

    following, rendered = room_frames(seed, frames, WIDTH, HEIGHT)
    focal = float(rendered[0].camera.fx)
    rng = np.random.default_rng(following - 1)
    exporter = TumExporter(truth, Session("truth", "m", 10.0, True, True))
    messages, records = [], []
    identity = (0.0, 0.0, 0.0, 1.0)
    for number, frame in enumerate(rendered):
        depth, pose = frame.depth, frame.pose
        stamp = SECOND + number * SECOND // 10
        translation, quaternion = tuple(pose[:3, 3]), quaternion_from_matrix(pose[:3, :3])
        messages.append(("/tf", stamp, make_tf(("odom", "camera", stamp, translation, quaternion))))
        valid = np.flatnonzero(np.isfinite(depth) & (depth < 30.0))
        rows, columns = np.divmod(rng.choice(valid, min(POINTS, len(valid)), replace=False), WIDTH)
        points = frame.camera.points(torch.from_numpy(depth)).numpy()[:, rows, columns].T
        points = points * (1.0 + NOISE * rng.standard_normal((len(points), 1)))
        messages.append(("/lidar/points", stamp + 1, make_points(points, stamp, "lidar")))
        messages.append(("/camera/image", stamp + 2, make_image(frame.image, "rgb8", stamp, "camera")))
        messages.append(("/camera/camera_info", stamp + 3, make_info(HEIGHT, WIDTH, stamp, "camera", focal)))
        exporter.write(DepthFrame(number, stamp, f"{number:06d}", frame.image, depth, None, frame.camera))
        records.append(FrameRecord(number, stamp, f"{number:06d}", pose=tuple(pose.reshape(-1))))
    messages.append(("/tf_static", SECOND, make_tf(("camera", "lidar", SECOND, (0.0, 0.0, 0.0), identity))))
    exporter.finish(records, True)
    write_bag(path, sorted(messages, key=lambda one: one[1]), plugin="mcap")
    return focal


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--open3d", default=sys.executable, help="Python with Open3D (default: this one)")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--seed", type=int, default=97_000_000, help="of the first scene that is tried")
    parser.add_argument("--steps", type=int, default=160, help="of the refinement; 0 leaves it out")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--prior", default="tiny")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="write the bag to FOLDER, and end")
    parser.add_argument("--compare", nargs="+", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compare:
        focal, *folders = options.compare
        compare([Path(folder) for folder in folders], float(focal))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bag = options.record or folder / "bag"
        focal = render_bag(bag, folder / "truth", options.frames, options.seed)
        if options.record:
            print(f"wrote {bag}, {options.frames} frames")
            return
        command = [sys.executable, "-m", "redepth_ros.cli.main", "process", str(bag)]
        common = ["--format", "tum", "--model", options.model, "--max-depth", str(MAX_DEPTH)]
        common += ["--max-relative-gradient", "0.1"]
        for name, extra in (
            ("fast", ["--no-fuse-anchors"]),
            ("fused", []),
            ("refined", ["--keyframes", "all", "--prior", options.prior, "--steps", str(options.steps)]),
        ):
            if name == "refined" and not options.steps:
                continue
            subprocess.run([*command, str(folder / name), *common, *extra], check=True)
            (folder / name / "tum").rename(folder / f"{name}_tum")
            (folder / name).rename(folder / f"{name}_rest")
            (folder / f"{name}_tum").rename(folder / name)
        names = [
            str(folder / name) for name in ("truth", "fast", "fused", "refined") if (folder / name).is_dir()
        ]
        done = subprocess.run(
            [options.open3d, __file__, "--compare", str(focal), *names], capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"Open3D could not fuse: {done.stderr[-500:]}")
        for name, errors in json.loads(done.stdout.splitlines()[-1]).items():
            print(f"{name:8}", ", ".join(f"{key} {value}" for key, value in errors.items()))


if __name__ == "__main__":
    main()
