"""Debian's chromium, driven by Playwright: for screenshots, and for measurements of reports."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evofool
from evofool.report.page import write

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
THOUSAND = Path("runs/thousand")  # made where it is missing: five minutes on two cores
KEYS = ["name=thousand", "encoding.arithmetic=portable", "search.offspring=200", "search.generations=70"]


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser of Playwright's."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        sys.exit("there is no chromium on this machine; on Debian, apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


def thousand() -> Path:
    """A run with an elite for each of the thousand classes of ImageNet."""
    if not (THOUSAND / "_evofool" / "run.json").exists():
        evofool.run("imagenet_cppn", [*KEYS, "search.initial=400", "search.lag=1"])
    return THOUSAND


def report(run: Path) -> Path:
    """The report of a run, written anew."""
    out = run / "_report" / "report.html"
    write([run], out, f"evofool report {run}")
    return out
