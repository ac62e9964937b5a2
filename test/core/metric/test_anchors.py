"""Anchors of depth images and of point clouds."""

import numpy as np
import pytest
import torch

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.anchors import (
    Anchors,
    anchors_from_depth,
    anchors_from_points,
    anchors_from_same_view,
)

CAMERA = PinholeCamera(80.0, 80.0, 31.5, 23.5, 64, 48)


def pixels_of(anchors):
    """Return the depth of each pixel (row, column)."""
    return dict(zip(zip(anchors.rows, anchors.columns, strict=True), anchors.depth, strict=True))


def test_valid_pixels_of_a_depth_image_become_anchors():
    depth = np.full((48, 64), np.nan)
    depth[10, 20], depth[30, 5], depth[1, 1], depth[2, 2], depth[3, 3] = 2.5, 4.0, 0.0, -1.0, np.inf
    anchors = anchors_from_depth(depth)
    assert pixels_of(anchors) == {(10, 20): 2.5, (30, 5): 4.0}
    assert (len(anchors), anchors.height, anchors.width) == (2, 48, 64)
    sparse = anchors.to_depth()
    assert np.isfinite(sparse).sum() == 2
    assert sparse[30, 5] == 4.0


def test_a_dense_depth_image_is_sampled_evenly_and_always_alike():
    depth = np.linspace(2.0, 3.0, 48 * 64).reshape(48, 64)
    first, again = (anchors_from_depth(depth, max_anchors=100) for _ in range(2))
    assert len(first) == 100
    assert np.array_equal(first.rows, again.rows)
    assert first.depth.mean() == pytest.approx(2.5, abs=0.1)
    assert len(anchors_from_depth(depth)) == 2000


def test_sample_returns_the_values_at_the_anchors():
    anchors = Anchors(np.array([0, 1]), np.array([2, 1]), np.array([1.0, 2.0]), 2, 3)
    maps = torch.arange(12.0).reshape(2, 2, 3)
    assert anchors.sample(maps).tolist() == [[2.0, 4.0], [8.0, 10.0]]
    assert anchors.sample(maps[0]).tolist() == [2.0, 4.0]


def test_resized_anchors_keep_their_place_in_the_image():
    anchors = Anchors(np.array([0, 47]), np.array([0, 63]), np.array([1.0, 2.0]), 48, 64)
    smaller = anchors.resized(12, 16)
    assert smaller.rows.tolist() == [0, 11]
    assert smaller.columns.tolist() == [0, 15]
    assert (smaller.height, smaller.width) == (12, 16)
    larger = anchors.resized(96, 128)
    assert larger.rows.tolist() == [1, 95]
    assert larger.depth.tolist() == [1.0, 2.0]
    assert anchors.resized(48, 128).columns.tolist() == [1, 127]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "none of the 3072 pixels of the anchors' depth image is valid"),
        (0.0, "none of"),
        (-2.0, "none of"),
        (2500.0, "is 2500 m: these look like millimetres taken for metres"),
        (0.0025, "metres taken for millimetres"),
    ],
)
def test_a_depth_image_without_valid_metres_is_rejected(value, words):
    with pytest.raises(AnchorError, match=words):
        anchors_from_depth(np.full((48, 64), value))


def test_a_depth_image_of_the_same_view_gives_anchors_of_the_images_size():
    anchors = anchors_from_same_view(np.full((24, 32), 2.0), "camera", "camera", 48, 64)
    assert (anchors.height, anchors.width) == (48, 64)
    assert (anchors.depth == 2.0).all()


@pytest.mark.parametrize(
    ("shape", "frame", "words"),
    [
        ((48, 64), "lidar", "in the frame 'lidar', the image in 'camera': register"),
        ((48, 48), "camera", "has 48x48 pixels, the image 64x48: their aspect ratios differ"),
    ],
)
def test_a_depth_image_of_another_view_is_rejected(shape, frame, words):
    with pytest.raises(AnchorError, match=words):
        anchors_from_same_view(np.full(shape, 2.0), frame, "camera", 48, 64)


def test_anchors_of_a_cloud_are_the_nearest_points_of_their_pixels():
    points = np.array(
        [
            [0.0, 0.0, 2.0],
            [0.0, 0.0, 5.0],
            [0.4, 0.0, 2.0],
            [0.0, 0.0, -3.0],
            [50.0, 0.0, 2.0],
            [np.nan, 0.0, 1.0],
        ]
    )
    anchors = anchors_from_points(points, CAMERA)
    assert pixels_of(anchors) == {(24, 32): 2.0, (24, 48): 2.0}
    with pytest.raises(AnchorError, match=r"none of the 1 points .* check the transform"):
        anchors_from_points(np.array([[9.0, 0.0, 1.0]]), CAMERA)
    with pytest.raises(AnchorError, match="none of the 0 points"):
        anchors_from_points(np.array([[0.0, 0.0, -1.0]]), CAMERA)


def test_points_of_a_cloud_return_to_the_pixels_they_were_made_of():
    camera = PinholeCamera(90.0, 60.0, 20.3, 30.8, 64, 48)
    depth = np.random.default_rng(0).uniform(1.0, 8.0, (48, 64)).astype(np.float32)
    cloud = camera.points(torch.from_numpy(depth)).flatten(1).T.double().numpy()
    found = anchors_from_points(cloud, camera, max_anchors=48 * 64).to_depth()
    np.testing.assert_allclose(found, depth, rtol=1e-6)


def test_a_cloud_in_millimetres_is_rejected():
    with pytest.raises(AnchorError, match="is 2000 m: these look like millimetres"):
        anchors_from_points(np.array([[0.0, 0.0, 2000.0]]), CAMERA)


def test_points_of_any_size_do_not_warn(recwarn):
    points = np.array([(1e308, 0.0, 1e-3), (0.0, 0.0, 2.0), (0.0, 0.0, 2.5), (np.nan, 0.0, 1.0)])
    assert sorted(anchors_from_points(points, CAMERA).depth) == [2.0]
    with pytest.raises(AnchorError, match="depth is inf m"):
        anchors_from_points(np.array([(0.0, 0.0, 1e308), (0.0, 0.0, 1.5e308)]), CAMERA)
    assert not recwarn.list
