"""The README's figure is of the present networks."""

from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("tools/draw_readme.py")


def test_the_figure_is_of_the_present_networks(script):
    with Image.open(DOCS / "fusion.png") as image:
        text = getattr(image, "text", {})
    assert text.get(script.DIGEST_KEY) == script.networks_digest(), "run tools/draw_readme.py again"


def test_the_digest_depends_on_the_networks_files(script, monkeypatch, tmp_path):
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth" / "config.json").write_text("{}")
    monkeypatch.setattr(script, "NETWORKS", tmp_path)
    first = script.networks_digest()
    (tmp_path / "depth" / "config.json").write_text("{ }")
    assert script.networks_digest() != first


def test_the_digest_is_written_to_the_figure(script, tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    script.write_digest(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == {script.DIGEST_KEY: script.networks_digest()}
        assert image.size == (40, 30)
