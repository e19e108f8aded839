"""`make bench-report`: how large a report of a thousand classes is, and how soon its gallery can be used; Markdown."""

from __future__ import annotations

import os
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
    begin, used = time.perf_counter(), time.process_time()
    out = browser.report(run)
    print(f"{out.stat().st_size / 1e6:.2f} MB, load of the machine {os.getloadavg()[0]:.1f}\n")
    print("| | milliseconds | of a processor |\n|---|---|---|")
    show("to write it", [((time.perf_counter() - begin) * 1e3, (time.process_time() - used) * 1e3)])
    found: dict[str, list[tuple[float, float]]] = {}
    with browser.chromium() as chromium:
        for _ in range(TIMES):
            page: Any = chromium.new_page(viewport={"width": 1280, "height": 900})
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            page.goto(out.resolve().as_uri(), wait_until="domcontentloaded", timeout=300_000)
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
            clock = [0.0, used_by(session)]
            steps = {
                "until the gallery can be used": page.evaluate(READY),
                "to order it by name": page.evaluate(SORT, "name"),
            }
            clock.append(used_by(session))
            steps["to open an elite, its picture drawn"] = page.evaluate(OPEN, "#e0-7")
            clock.append(used_by(session))
            for i, (name, wall) in enumerate(steps.items()):
                found.setdefault(name, []).append((wall, clock[i + 1] - clock[i]))
            page.close()
    for name, measured in found.items():
        show(name, measured)


def used_by(session: Any) -> float:
    """Milliseconds of a processor that the page has used so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(float(metric["value"]) for metric in metrics if metric["name"] == "ThreadTime") * 1e3


def show(name: str, measured: list[tuple[float, float]]) -> None:
    """A line of the table: medians of time that went by, and of the processor's."""
    wall, used = (statistics.median(each) for each in zip(*measured))
    print(f"| {name} | {wall:,.0f} | {used:,.0f} |")


if __name__ == "__main__":
    main()
