"""An ECG's page against its limit of 300 ms: work of the server (processor time) and first paint in Chromium, and the size of the drawing.

``python benchmarks/centres_ecg.py``: a synthetic ten-second recording of eight leads at 500 Hz, drawn 3×4 with rhythm.
"""

from __future__ import annotations

import gzip
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
LIMIT_MS = 300.0
SIZE = 60_000


def main() -> None:
    """Print the figures."""
    import django

    django.setup()
    from tests.ecg import synthetic

    from lianxin.regional.ecg import drawing, measure, wave

    made = synthetic.ecg(noise=10, st={"V2": 300, "V3": 300})
    packed, leads = made.packed(), len(made.leads)
    measure.measure(made)

    def page() -> str:
        again = wave.Wave(made.leads, made.hz, made.gains, wave.unpacked(packed, leads), made.filters)
        return drawing.draw(again, drawing.Look())

    server = _median(page, 20)
    svg = page()
    print(
        f"unpack and draw {server:.1f} ms · measure {_median(lambda: measure.measure(made), 10):.1f} ms (processor time, median)"
    )
    print(
        f"drawing {len(svg) / 1000:.1f} KB, {len(gzip.compress(svg.encode())) / 1000:.1f} KB as sent, limit {SIZE / 1000:.0f} KB"
    )
    paint = _first_paint(svg, drawing.STYLE)
    if paint is None:
        print("first paint: no Chromium here")
        return
    total = server + paint
    print(
        f"first paint in Chromium {paint:.0f} ms · together {total:.0f} ms = {total / LIMIT_MS:.2f} of the limit of {LIMIT_MS:.0f} ms"
    )


def _median(work: object, times: int) -> float:
    found = []
    for _ in range(times):
        began = time.process_time()
        work()  # type: ignore[operator]
        found.append((time.process_time() - began) * 1000)
    return statistics.median(found)


def _first_paint(svg: str, style: str) -> float | None:
    """Milliseconds from the start of navigation to first contentful paint, median of five, on a phone's screen."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ecg.html"
        file.write_text(f"<!doctype html><meta charset=utf-8><style>{style}</style>{svg}", "utf-8")
        try:
            with sync_playwright() as play:
                browser = play.chromium.launch(
                    executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
                )
                page = browser.new_page(viewport={"width": 390, "height": 844})
                found = []
                for _ in range(6):
                    page.goto(file.as_uri())
                    found.append(page.evaluate("new Promise(done => new PerformanceObserver(l => done(l.getEntriesByName('first-contentful-paint')[0]?.startTime)).observe({type: 'paint', buffered: true}))"))  # fmt: skip
                browser.close()
        except Error:
            return None
    return statistics.median(found[1:])


if __name__ == "__main__":
    main()
