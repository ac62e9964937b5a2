"""The rendered sample images; test/training compares them with the renderer."""

import cv2
import numpy as np
import pytest

from redepth_ros.data import rendered
from redepth_ros.data.rendered import (
    DEPTH_UNIT,
    SampleImage,
    image_digest,
    load_rendered_images,
    save_rendered_image,
)

IMAGE = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
DEPTH = np.linspace(1.0, 6.0, 12, dtype=np.float32).reshape(3, 4)


def test_five_images_with_true_depth():
    images = list(load_rendered_images())
    assert [one.kind for one in images] == ["relief", "table", "relief", "room", "relief"]
    for one in images:
        assert one.image.shape == (*one.depth.shape, 3)
        assert (one.depth > 0.5).all()
        assert (one.depth < 6.5).all()


def test_an_image_is_read_as_it_was_written(tmp_path, monkeypatch):
    save_rendered_image(1, SampleImage("room", IMAGE, DEPTH), tmp_path)
    monkeypatch.setattr(rendered, "IMAGES", tmp_path)
    (again,) = load_rendered_images()
    assert again.kind == "room"
    np.testing.assert_array_equal(again.image, IMAGE)
    np.testing.assert_allclose(again.depth, DEPTH, atol=DEPTH_UNIT)
    stored = cv2.imread(str(tmp_path / "1_room_depth.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16


@pytest.mark.parametrize("depth", [7.0, 0.0, np.inf])
def test_depth_that_does_not_fit_into_the_file_is_refused(depth, tmp_path):
    image = SampleImage("room", IMAGE, np.full((3, 4), depth, np.float32))
    with pytest.raises(ValueError, match="1_room: its depth does not fit into 16 bits"):
        save_rendered_image(1, image, tmp_path)


def test_the_digest_identifies_the_pixels():
    assert image_digest(IMAGE) == image_digest(IMAGE.copy())
    assert image_digest(IMAGE) != image_digest(IMAGE + 1)
    assert image_digest(IMAGE[:, ::-1]) == image_digest(np.ascontiguousarray(IMAGE[:, ::-1]))
