"""`make figures-screens`: the pictures of docs/report.md, from runs that are made where they are missing."""

from __future__ import annotations

from pathlib import Path

import browser

import evofool

DOCS = Path(__file__).parent.parent.parent / "docs"
SIZE = {"width": 1180, "height": 820}


def main() -> None:
    """Write docs/report_*.jpg."""
    quickstart = Path("runs/quickstart")
    if not quickstart.exists():
        evofool.run("quickstart")
    if not (quickstart / "_studies" / "transfer.json").exists():
        evofool.transfer(quickstart, "lenet:weights/second.safetensors")
    with browser.chromium() as chromium:
        page = chromium.new_page(viewport=SIZE)

        def shoot(name: str, address: str, place: str = "", *, dark: bool = False, whole: bool = False) -> None:
            page.emulate_media(color_scheme="dark" if dark else "light")
            page.goto("about:blank")
            page.goto(f"{address}{place}", timeout=300_000)
            if not place:
                page.select_option("#sort", "confidence")
            page.wait_for_timeout(1500)
            page.screenshot(path=DOCS / f"{name}.jpg", type="jpeg", quality=82, full_page=whole)

        small = browser.report(quickstart).resolve().as_uri()
        run = evofool.open_run(browser.thousand())
        large = browser.report(run.path).resolve().as_uri()
        surest = int(run.elites(pictures=False)["log_odds"].argmax())
        shoot("report_mnist", small)
        shoot("report_imagenet", large)
        shoot("report_elite", large, f"#e0-{surest}", dark=True, whole=True)


if __name__ == "__main__":
    main()
