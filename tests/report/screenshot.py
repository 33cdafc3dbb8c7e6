"""Opens a page with charts in headless Chromium and finds the curves in the picture.

screenshot.py TEST_REPORT: exits with 77 (skipped) where there is no Chromium.
"""
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

COLOURS = {"uniform": (0x00, 0x72, 0xB2), "nsds": (0xD5, 0x5E, 0x00)}


def read_png(path):
    """Rows of (r, g, b) bytes of an 8-bit RGB or RGBA picture without interlacing."""
    data = open(path, "rb").read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
            assert depth == 8 and colour in (2, 6) and interlace == 0
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    size = 3 if colour == 2 else 4
    raw, stride = zlib.decompress(packed), width * size
    above, rows = bytearray(stride), []
    for y in range(height):
        method = raw[y * (stride + 1)]
        line = bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        for i in range(stride):
            left = line[i - size] if i >= size else 0
            corner = above[i - size] if i >= size else 0
            if method == 1:
                line[i] = (line[i] + left) & 255
            elif method == 2:
                line[i] = (line[i] + above[i]) & 255
            elif method == 3:
                line[i] = (line[i] + (left + above[i]) // 2) & 255
            elif method == 4:
                p = left + above[i] - corner
                near = min((abs(p - left), 0, left), (abs(p - above[i]), 1, above[i]), (abs(p - corner), 2, corner))
                line[i] = (line[i] + near[2]) & 255
        rows.append(line)
        above = line
    return rows, width, size


def main():
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium on this machine")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        page, picture = os.path.join(folder, "page.html"), os.path.join(folder, "page.png")
        subprocess.run([sys.argv[1], "--gtest_filter=HtmlPage.HoldsChartsAndTablesAndLoadsNothing"], check=True,
                       env={**os.environ, "STRATA_TEST_PAGE": page}, stdout=subprocess.DEVNULL)
        subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                        "--force-device-scale-factor=1", "--window-size=1000,800", f"--user-data-dir={folder}/profile",
                        f"--screenshot={picture}", f"file://{page}"], check=True, timeout=120,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows, width, size = read_png(picture)
    for name, colour in COLOURS.items():
        places = [(x, y) for y, row in enumerate(rows) for x in range(width)
                  if all(abs(row[x * size + c] - colour[c]) < 24 for c in range(3))]
        curve = [(x, y) for x, y in places if x < 690]  # the legend is to the right
        legend = len(places) - len(curve)
        assert legend > 20, f"no legend entry for {name}: {legend} pixels"
        xs = [x for x, _ in curve]
        assert xs and max(xs) - min(xs) > 400, f"the curve of {name} does not cross the plot"
        first = [y for x, y in curve if x < min(xs) + 10]
        last = [y for x, y in curve if x > max(xs) - 10]
        fall = sum(last) / len(last) - sum(first) / len(first)
        assert fall > 200, f"the curve of {name} should fall across the plot and does by {fall:.0f} pixels"
        print(f"{name}: {len(curve)} pixels, falls by {fall:.0f}")


main()
