"""The page, also opened in a browser where there is one."""

import json
import re
import shutil
import subprocess

import pytest
from export_samples import make_frame, make_record, make_session

from redepth_ros.exports.frames import FrameRecord
from redepth_ros.exports.html import MAX_FRAMES, HtmlExporter, _choose, render_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


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


def test_text_cant_end_the_script():
    record = make_record(make_frame(0), message="</script><script>alert(1)</script>")
    frames = [{"message": record.message}]
    page = render_page(make_session(), [record], frames, True)
    assert "</script><script>alert" not in page


def test_a_long_recording_keeps_its_keyframes():
    records = [FrameRecord(i, i, str(i), outcome="refined" if i % 100 == 7 else "") for i in range(3000)]
    chosen = _choose(records)
    assert len(chosen) <= MAX_FRAMES
    assert sum(bool(one.outcome) for one in chosen) == 30
    assert [one.index for one in chosen] == sorted(one.index for one in chosen)


def test_failures_are_listed():
    page = render_page(make_session(), [FrameRecord(0, 0, "a", failure="truncated <x>")], [], False)
    assert "1 without depth" in page
    assert "truncated &lt;x&gt;" in page
    assert "(not complete)" in page


CHECK = """
<script>
window.addEventListener("error", event => { document.title = "ERROR " + event.message; });
</script>
"""

USE = """
<script>
const report = [];
function look(value) {
  const pictures = [...document.querySelectorAll("figure:not([hidden]) img")];
  report.push(pictures.map(one => `${one.id}:${one.complete ? one.naturalWidth : "loading"}`).join(" "));
  move(value + 1);
}
function move(value) {
  if (value > 2) { finish(); return; }
  const slider = document.getElementById("time");
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
  setTimeout(look, 500, value);
}
function finish() {
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "Home" }));
  report.push(document.getElementById("facts").textContent.includes("000000"));
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  report.push(document.getElementById("facts").textContent.includes("000001"));
  report.push(document.querySelector("svg path").getAttribute("d").length > 10);
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = document.title.startsWith("ERROR") ? document.title : report.join("|");
  document.body.append(result);
}
move(0);
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_the_page_works_in_a_browser(export, tmp_path):
    page = (export(HtmlExporter) / "index.html").read_text()
    tested = tmp_path / "tested.html"
    tested.write_text(page.replace("<head>", f"<head>{CHECK}").replace("</body>", f"{USE}</body>"))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    command += ["--virtual-time-budget=20000", "--enable-logging=stderr", "--dump-dom", tested.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    result = re.search(r'<pre id="result">(.*?)</pre>', done.stdout)[1]
    assert result.split("|") == [
        "image:32 depth:32",
        "image:32 depth:32 refined:32 stddev:32",
        "image:32 depth:32",
        "true",
        "true",
        "true",
    ]
    assert "CONSOLE" not in done.stderr
