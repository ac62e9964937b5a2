"""What the embedded prior is trained on."""

import numpy as np
import pytest
import torch

from redepth_ros.core.camera import PinholeCamera
from training.scenes.worlds import sample_scene
from training.train_tiny_prior import SIDE, read_scenes, sample_images, shrink_scene


def test_a_scene_is_reduced_with_the_normals_of_its_surfaces():
    """A floor 1 m below the camera, under a sky."""
    camera = PinholeCamera.centered(200.0, 240, 180)
    down = camera.rays()[1].numpy()
    disparity = np.maximum(down, 0.0)
    image = np.zeros((180, 240, 3), np.uint8)
    image[90:] = 200
    seen, normals = shrink_scene(image, disparity, camera)
    assert seen.shape == normals.shape == (3, SIDE, 75)
    unit = normals.float() / 127.0
    torch.testing.assert_close(unit[:, 40:], torch.tensor([0.0, -1.0, 0.0])[:, None, None].expand(3, 16, 75))
    torch.testing.assert_close(unit[:, :26], torch.tensor([0.0, 0.0, -1.0])[:, None, None].expand(3, 26, 75))
    assert (seen[:, :26] == 0).all()
    assert (seen[:, 40:] == 200).all()


def test_scenes_are_read_with_the_cameras_of_their_seeds(tmp_path):
    disparity = np.full((2, 60, 80), 0.5, np.float16)
    disparity *= np.linspace(1.0, 3.0, 60, dtype=np.float16)[:, None]
    images = np.zeros((2, 60, 80, 3), np.uint8)
    np.savez(tmp_path / "scenes-70-2.npz", images, disparity)
    _, normals = read_scenes(tmp_path / "scenes-70-2.npz", textures=5)
    expected = [
        shrink_scene(images[k], disparity[k], sample_scene(70 + k, 5, 80, 60).camera)[1] for k in (0, 1)
    ]
    assert torch.equal(normals, torch.stack(expected))
    assert not torch.equal(normals[0], normals[1])


def test_a_mirrored_image_has_mirrored_normals():
    torch.manual_seed(0)
    normals = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.int8)
    normals[:, 0, :, : SIDE // 2], normals[:, 2] = 90, -90
    images = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    images[..., : SIDE // 2] = 255
    found, unit = sample_images((images, normals), (images, normals), 16)
    bright_left = found[:, 0, 0, 0] > found[:, 0, 0, -1]
    assert 0 < int(bright_left.sum()) < 16
    slant = torch.where(bright_left, unit[:, 0, 0, 0], -unit[:, 0, 0, -1])
    torch.testing.assert_close(slant, torch.full((16,), 0.5**0.5))
    assert unit.square().sum(1).sub(1.0).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(180, 240), (180, 320)])
def test_the_width_follows_the_aspect_ratio(shape):
    camera = PinholeCamera.centered(200.0, shape[1], shape[0])
    seen, _ = shrink_scene(np.zeros((*shape, 3), np.uint8), np.ones(shape), camera)
    assert seen.shape == (3, SIDE, round(shape[1] * SIDE / shape[0]))
