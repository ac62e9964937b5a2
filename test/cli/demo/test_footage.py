"""The demo's default footage."""

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from redepth_ros.cli.demo.footage import load_known_images, write_footage
from redepth_ros.data.motorcycle import CAMERA
from redepth_ros.data.rendered import image_digest


def test_rendered_images_come_first_and_alternate_with_photographs(tmp_path):
    (tmp_path / "old.png").write_bytes(b"")
    write_footage(tmp_path)
    kinds = [path.stem.split("_")[1] for path in sorted(tmp_path.iterdir())]
    rendered = ["relief", "table", "relief", "room", "relief"]
    assert kinds[:10:2] == rendered
    assert kinds[1::2] + kinds[10:] == 6 * ["photograph"]
    images = [cv2.imread(str(path))[:, :, ::-1] for path in sorted(tmp_path.iterdir())]
    known = load_known_images()
    found = [known[key].kind for image in images if (key := image_digest(image)) in known]
    assert found == [rendered[0], "motorcycle", *rendered[1:]]


def test_known_images_have_a_depth_of_their_size():
    known = load_known_images().values()
    assert [one.kind for one in known] == ["relief", "table", "relief", "room", "relief", "motorcycle"]
    for one in known:
        assert one.depth.shape == one.image.shape[:2]
        valid = np.isfinite(one.depth)
        assert valid.mean() > 0.8
        assert (one.depth[valid] > 0).all()
    assert one.depth.shape == (CAMERA.height, CAMERA.width)
    assert 2.0 < np.nanmin(one.depth) < np.nanmax(one.depth) < 6.0  # metres, of Motorcycle
