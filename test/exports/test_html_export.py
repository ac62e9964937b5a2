"""The page, also opened in a browser where there is one."""

import json
import re

import cv2
import numpy as np
import pytest
from browser import needs_browser, run_in_browser
from export_samples import make_frame, make_record, make_session

from redepth_ros.exports.frames import FrameRecord
from redepth_ros.exports.html import MAX_FRAMES, HtmlExporter, _choose, render_frames


def test_the_page_holds_everything(export):
    page = (export(HtmlExporter) / "index.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [frame["name"] for frame in data["frames"]] == ["000000", "000001", "000002"]
    assert set(data["frames"][1]["images"]) == {"image", "depth", "refined", "stddev"}
    assert set(data["frames"][0]["images"]) == {"image", "depth"}
    assert data["scales"][1] == pytest.approx([0.1, 1.1])
    # Self-contained: nothing is loaded from elsewhere, and text of the input is escaped.
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "test &lt;b&gt;" in page


def test_refined_depth_has_the_colours_of_the_fast_one(export):
    previews = export(HtmlExporter) / "previews"
    fast, refined = (cv2.imread(str(previews / f"000001.{kind}.jpg")).mean() for kind in ("depth", "refined"))
    assert refined < 0.7 * fast  # twice as far


def test_text_cant_end_the_script():
    record = make_record(make_frame(0), message="</script><script>alert(1)</script>")
    frames = [{"message": record.message}]
    page = render_frames(make_session(), [record], frames, True)
    assert "</script><script>alert" not in page


def test_a_long_recording_keeps_its_keyframes():
    records = [FrameRecord(i, i, str(i), outcome="refined" if i % 100 == 7 else "") for i in range(3000)]
    chosen = _choose(records)
    assert len(chosen) <= MAX_FRAMES
    assert sum(bool(one.outcome) for one in chosen) == 30
    assert [one.index for one in chosen] == sorted(one.index for one in chosen)


def test_failures_are_listed():
    records = [make_record(make_frame(0)), FrameRecord(1, 0, "a", failure="truncated <x>")]
    page = render_frames(make_session(), records, [], False)
    assert "1 without depth" in page
    assert "truncated &lt;x&gt;" in page
    assert "(not complete)" in page


def test_a_frame_without_a_stamp_does_not_move_the_start_of_the_scales(tmp_path):
    exporter, frames = HtmlExporter(tmp_path, make_session()), [make_frame(0), make_frame(1)]
    for frame in frames:
        exporter.write(frame)
    failed = FrameRecord(2, 0, "b", failure="truncated")
    exporter.finish([*map(make_record, frames), failed], True)
    page = (tmp_path / "index.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["start"] == 1.0
    assert np.allclose(data["scales"], [[0.0, 1.0], [0.1, 1.1]])


def test_depth_in_an_unknown_unit_has_no_unit(export):
    page = (export(HtmlExporter, session=make_session(unit="an unknown unit")) / "index.html").read_text()
    assert "depth in\nan unknown unit" in page
    assert '"unit": ""' in page


USE = """
const report = [];
function look(value) {
  const pictures = [...document.querySelectorAll("figure:not([hidden]) img")];
  report.push(pictures.map(one => `${one.id}:${one.complete ? one.naturalWidth : "loading"}`).join(" "));
  move(value + 1);
}
function move(value) {
  if (value > 2) { use(); return; }
  const slider = document.getElementById("time");
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
  setTimeout(look, 500, value);
}
function use() {
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "Home" }));
  report.push(document.getElementById("facts").textContent.includes("000000"));
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  report.push(document.getElementById("facts").textContent.includes("000001"));
  report.push(document.querySelector("svg path").getAttribute("d").length > 10);
  report.push(Math.round(document.querySelector("svg line").getAttribute("x1")));
  report.push(document.getElementById("depth").closest("figure").innerText.replace(/\\s+/g, " ").trim());
  report.push(document.documentElement.scrollWidth <= innerWidth);
  finish(report);
}
move(0);
"""


@needs_browser
def test_the_page_works_in_a_browser(export, tmp_path):
    page = (export(HtmlExporter) / "index.html").read_text()
    assert run_in_browser(page, USE, tmp_path, width=600) == [
        "image:32 depth:32",
        "image:32 depth:32 refined:32 stddev:32",
        "image:32 depth:32",
        "true",
        "true",
        "true",
        "500",  # the middle of three frames
        "depth (black: invalid) 2.00 m 4.71 m",
        "true",
    ]
