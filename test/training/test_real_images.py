"""Real images of the training: pairs, views of panoramas, frames."""

import csv

import cv2
import numpy as np
import pytest

from training.real_images import read_frames, read_pairs, sample_views

COLUMNS = ("name", "place", "split", "kind", "disparity_offset16", "teacher_max")


def _write_pair(folder, name, depth, teacher, split="train"):
    cv2.imwrite(str(folder / f"{name}.jpg"), np.full((*depth.shape, 3), (0, 0, 200), np.uint8))
    cv2.imwrite(str(folder / f"{name}.depth.png"), depth)
    cv2.imwrite(str(folder / f"{name}.teacher.png"), (teacher * 65535).astype(np.uint16))
    return dict(zip(COLUMNS, (name, "place", split, "depth_mm", "", "1.0"), strict=True))


def _write_table(folder, rows):
    with (folder / "pairs.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def depth():
    """Return a slope from 1 to 3 metres, in millimetres, with a hole."""
    depth = np.tile(np.linspace(1000, 3000, 180).astype(np.uint16)[:, None], (1, 240))
    depth[60:90, 100:140] = 0
    return depth


def test_the_teacher_fills_holes_of_a_training_pair(tmp_path, depth):
    inverse = 1000.0 / np.linspace(1000, 3000, 180)[:, None] * np.ones((1, 240))
    teacher = 0.5 * inverse + 0.1  # right up to scale and shift
    rows = [
        _write_pair(tmp_path, "a", depth, teacher),
        _write_pair(tmp_path, "b", depth, teacher, "validation"),
    ]
    _write_table(tmp_path, rows)
    (train,) = read_pairs(tmp_path, "train")
    (validation,) = read_pairs(tmp_path, "validation")
    np.testing.assert_allclose(train.disparity, inverse, rtol=2e-3)
    assert np.isnan(validation.disparity[60:90, 100:140]).all()
    assert tuple(train.image[0, 0]) == pytest.approx((200, 0, 0), abs=8)  # RGB


def test_a_wrong_teacher_fills_nothing(tmp_path, depth):
    teacher = np.tile(np.linspace(0.1, 0.9, 180)[:, None], (1, 240))  # far is near
    _write_table(tmp_path, [_write_pair(tmp_path, "a", depth, teacher)])
    (sample,) = read_pairs(tmp_path, "train")
    assert np.isnan(sample.disparity[60:90, 100:140]).all()


def test_views_of_a_panorama_show_it_without_distorting_brightness(tmp_path):
    panorama = np.ones((128, 256, 3), np.float32)
    panorama[:, :, 2] *= 2.0  # twice as much red
    cv2.imwrite(str(tmp_path / "hall.hdr"), panorama)
    views = list(sample_views(tmp_path, 3, seed=0))
    assert [place for place, _ in views] == ["hall"] * 3
    for _, view in views:
        assert view.shape == (180, 240, 3)
        assert view.std(axis=(0, 1)).max() < 2.0
        assert view[..., 0].mean() > view[..., 1].mean()


def test_the_sky_of_a_panorama_is_above(tmp_path):
    panorama = np.full((128, 256, 3), 0.1, np.float32)
    panorama[:64] = 2.0
    cv2.imwrite(str(tmp_path / "plain.hdr"), panorama)
    for _, view in sample_views(tmp_path, 4, seed=0):
        assert view[:20].mean() >= view[-20:].mean()


def test_frames_come_from_images_and_videos(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((360, 640, 3), 90, np.uint8))
    writer = cv2.VideoWriter(str(tmp_path / "b.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (320, 180))
    for _ in range(8):
        writer.write(np.full((180, 320, 3), 90, np.uint8))
    writer.release()
    frames = list(read_frames(tmp_path, every=4))
    assert [(place, image.shape) for place, image in frames] == [("a", (180, 320, 3))] + [
        ("b", (180, 320, 3))
    ] * 2
