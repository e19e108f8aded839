"""`make bench-report`: how large a report of a thousand classes is, and how soon its gallery can be used; Markdown."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "figures"))
import browser

TIMES = 5  # each is measured so often; the median counts
READY = """() => {
  const loaded = performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd;
  const painted = performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Infinity;
  return Math.max(loaded, painted);
}"""
SORT = """order => {
  const begin = performance.now();
  byId("sort").value = order;
  arrange();
  document.body.offsetHeight; // laid out
  return performance.now() - begin;
}"""
OPEN = """async name => {
  const begin = performance.now();
  location.hash = name;
  while (!document.querySelector("#picture")) await new Promise(done => setTimeout(done));
  await byId("picture").done;
  return performance.now() - begin;
}"""


def main() -> None:
    """Measure the report of a run with a thousand classes."""
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else browser.thousand()
    begin = time.perf_counter()
    out = browser.report(run)
    written = time.perf_counter() - begin
    rows: list[tuple[str, str]] = [
        ("size", f"{out.stat().st_size / 1e6:.2f} MB"),
        ("to write it", f"{written:.1f} s"),
    ]
    with browser.chromium() as chromium:
        ready, sorting, opening = [], [], []
        for _ in range(TIMES):
            page: Any = chromium.new_page(viewport={"width": 1280, "height": 900})
            page.goto(out.resolve().as_uri())
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
            ready.append(page.evaluate(READY))
            sorting.append(page.evaluate(SORT, "name"))
            opening.append(page.evaluate(OPEN, "#e0-7"))
            page.close()
    for name, values in (
        ("until the gallery can be used", ready),
        ("to sort it by name", sorting),
        ("to open an elite, its picture drawn", opening),
    ):
        rows.append((name, f"{statistics.median(values):.0f} ms"))
    print("| of the report | |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
