"""The sample images of the package are those of the renderer."""

from itertools import islice

import numpy as np

from redepth_ros.data.rendered import DEPTH_UNIT, load_rendered_images, save_rendered_image
from training.render_sample_images import render_sample_images


def test_the_stored_images_are_what_the_renderer_gives():
    for stored, rendered in zip(islice(load_rendered_images(), 2), render_sample_images(), strict=False):
        assert stored.kind == rendered.kind
        # Rounding differs between processors.
        assert np.abs(stored.image.astype(int) - rendered.image).mean() < 0.1
        np.testing.assert_allclose(stored.depth, rendered.depth, atol=2 * DEPTH_UNIT)


def test_an_image_is_read_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr("redepth_ros.data.rendered.IMAGES", tmp_path)
    stored = next(load_rendered_images(), None)
    assert stored is None
    rendered = next(iter(render_sample_images()))
    save_rendered_image(3, rendered, tmp_path)
    (again,) = load_rendered_images()
    assert again.kind == "relief"
    np.testing.assert_array_equal(again.image, rendered.image)
