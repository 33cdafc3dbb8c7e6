"""Opens the report of a run in headless Chromium: no script fails, figures are there, and a cell answers the pointer.

browser.py STRATA SOURCE: exits with 77 (skipped) where there is no Chromium.
"""
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

# Moves the pointer over the first cell and hides the first curve, as somebody would who looks at the page.
PROBE = """<script>
const first = document.querySelector('[data-hint]'), box = first.getBoundingClientRect();
first.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left, clientY: box.top}));
document.querySelector('.legend').dispatchEvent(new MouseEvent('click'));
const shown = document.createElement('div');
shown.id = 'probe';
shown.textContent = JSON.stringify({
  hint: document.getElementById('hint').textContent,
  visible: getComputedStyle(document.getElementById('hint')).display,
  figures: [...document.querySelectorAll('figure svg')].map((svg) => svg.getBoundingClientRect().width),
  cells: document.querySelectorAll('[data-hint]').length,
  hidden: getComputedStyle(document.querySelector('.series')).display});
document.body.append(shown);
</script></body>"""


def main():
    strata, source = sys.argv[1:]
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium on this machine")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        page = os.path.join(folder, "report.html")
        subprocess.run([strata, "quantize", f"{source}/models/tiny-llama", "--effort", "quick", "--bpw", "3", "--quiet",
                        "--text", f"{source}/data/books/the-man-who-was-thursday.txt", "--tokens", "1024", "--report", page,
                        "-o", f"{folder}/m.gguf"], check=True, stdout=subprocess.DEVNULL)
        text = open(page, encoding="utf-8").read()
        open(page, "w", encoding="utf-8").write(text.replace("</body>", PROBE))
        seen = subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
                               f"--user-data-dir={folder}/profile", "--window-size=1000,900", "--dump-dom",
                               f"file://{page}"], check=True, capture_output=True, text=True, timeout=120)
    complaints = [line for line in seen.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints, complaints
    probe = re.search(r'<div id="probe">(.*?)</div>', seen.stdout, re.S)
    assert probe, "the page's scripts did not run"

    found = json.loads(html.unescape(probe.group(1)))
    assert found["visible"] == "block" and found["hint"].startswith("layer 0, self_attn.q_proj"), found
    assert found["cells"] == 16 * 7, found
    assert len(found["figures"]) == 4 and min(found["figures"]) > 500, found  # plan, budgets, places, sizes
    assert found["hidden"] == "none", found
    print(found["hint"].replace("\n", "; "))


main()
