"""Headless Chromium, where it is installed."""

import re
import shutil
import subprocess

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium")

PREPARE = """
<script>
window.addEventListener("error", event => { document.title = "ERROR " + event.message; });
function finish(report) {
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = document.title.startsWith("ERROR") ? document.title : report.join("|");
  document.body.append(result);
}
</script>
"""


def run_in_browser(page, script, folder, *, width=1280, dark=False):
    """Return the list that a script hands to `finish`; the console must stay empty.

    Args:
        page: HTML.
        script: JavaScript that runs at the end of the page.
        folder: for the page and the profile.
        width: of the window, pixels.
        dark: whether the system prefers dark colours.
    """
    tested = folder / "tested.html"
    page = page.replace("<head>", f"<head>{PREPARE}").replace("</body>", f"<script>{script}</script></body>")
    tested.write_text(page)
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    command += [f"--window-size={width},900", f"--blink-settings=preferredColorScheme={int(not dark)}"]
    command += ["--virtual-time-budget=20000", "--enable-logging=stderr", "--dump-dom", tested.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr
    return re.search(r'<pre id="result">(.*?)</pre>', done.stdout)[1].split("|")
