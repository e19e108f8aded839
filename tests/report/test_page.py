"""Reports in a browser: Debian's chromium, one browser and one page for all tests. See found.py for the runs."""

from __future__ import annotations

import base64
import io
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import found
import numpy as np
import pytest
from PIL import Image

import evofool
from evofool.base.png import decode_png
from evofool.report.data import cut
from evofool.report.page import write

pytestmark = [pytest.mark.needs_chromium, pytest.mark.slow]

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
DRAWN = """n => {
  const run = facts.runs[n], {width, height} = run.encoding;
  return run.elites.map(elite => {
    const drawn = pixels(genomeAt(n, run.people[elite.person].genome), run.encoding, width, height);
    return btoa(Array.from(drawn, byte => String.fromCharCode(byte)).join(""));
  });
}"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[evofool.Run]:
    """Elites of both arithmetics and of the colours of 2015; the first has hostile names and a hostile study."""
    folder = tmp_path_factory.mktemp("runs")
    old = ["colour=hls2015", "coordinates=raw", "output=absolute", "quantisation=truncate"]
    made = [
        found.make(folder / "portable", "encoding.arithmetic=portable", "variation.crossover_rate=0.3"),
        found.make(folder / "torch", classes=30),
        found.make(folder / "old", *(f"encoding.{key}" for key in old), classes=20),
    ]
    found.with_study(made[0], found.HOSTILE[1])
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(runs: list[evofool.Run], browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The report of all runs, opened; at the end nothing may have asked a network or complained."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    write([run.path for run in runs], out, "evofool report <runs>")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    requests, complaints = list[str](), list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(out.as_uri())
    yield page
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [out.as_uri()]
    assert complaints == []


@pytest.fixture
def page(report: Any) -> Any:
    """The report as it is when it was just opened, light, on a screen."""
    report.emulate_media(media="screen", color_scheme="light")
    report.evaluate("location.hash = ''")
    report.evaluate("byId('controls').reset(); arrange()")
    return report


def shown(page: Any) -> list[str]:
    """The names of the cards that are visible, in order."""
    names: list[str] = page.locator("#cards li:not([hidden]) .name").all_text_contents()
    return names


def test_search_filters_and_orders(page: Any, runs: list[evofool.Run]) -> None:
    everyone = [run.elites() for run in runs]
    assert page.inner_text("#shown") == f"{sum(map(len, everyone))} of {sum(map(len, everyone))} elites"
    page.select_option("#run", "0")
    page.fill("#search", "CLASS 1")
    assert shown(page) == [name for name in everyone[0]["class_name"] if name.startswith("class 1")]
    page.fill("#search", "قطة")
    assert shown(page) == ["قطة"]
    page.fill("#search", "")
    for order, column, ascending in (
        ("confidence", "log_odds", False),
        ("confidence-up", "log_odds", True),
        ("generation", "generation", False),
        ("generation-up", "generation", True),
    ):
        page.select_option("#sort", order)
        expected = everyone[0].sort_values(column, ascending=ascending, kind="stable")
        assert shown(page) == list(expected["class_name"]), order
    page.select_option("#sort", "size")
    sizes = everyone[0].set_index("class_name")[["nodes", "connections"]].sum(axis=1)
    assert [sizes[name] for name in shown(page)] == sorted(sizes, reverse=True)
    page.select_option("#sort", "class")
    page.select_option("#threshold", "0.9")
    sure = everyone[0][everyone[0]["confidence"] >= np.float32(0.9)]
    assert 0 < len(sure) < len(everyone[0])
    assert shown(page) == list(sure["class_name"])


def test_what_the_page_says_is_what_the_archive_holds(page: Any, runs: list[evofool.Run]) -> None:
    """Names, confidences and pictures of five random elites, read back from their pages, and all pictures drawn."""
    frame = runs[0].elites()
    for i in random.Random(18).sample(range(len(frame)), 5):
        row = frame.iloc[i]
        page.evaluate(f"location.hash = 'e0-{i}'")
        page.wait_for_selector("#picture[data-drawn]")
        assert page.locator("#elite h1").evaluate("heading => heading.textContent") == row["class_name"][:399] + (
            "…" if len(row["class_name"]) > 400 else row["class_name"][399:]
        )
        assert np.float32(page.get_attribute("#confidence", "data-value")) == row["confidence"]
        answers = page.locator(".answers bdi").evaluate_all("names => names.map(name => name.textContent)")
        assert answers == [cut(runs[0].output_names[answer["class_index"]]) for answer in row["top5"]]
        png = page.evaluate("byId('picture').toDataURL()").partition(",")[2]
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))
        assert np.array_equal(picture, decode_png(row["image"]["bytes"], "")), row["class_name"]
    for number, run in enumerate(runs):
        elites, drawn = run.elites(), page.evaluate(DRAWN, number)
        assert len(drawn) == len(elites)
        pictures = np.stack([decode_png(image["bytes"], "") for image in elites["image"]])
        bytes_ = np.stack([np.frombuffer(base64.b64decode(each), np.uint8) for each in drawn])
        rgb = bytes_.reshape(*pictures.shape[:3], 4)[..., :3]
        further = np.abs(rgb.astype(int) - pictures).max(axis=-1) > 1
        assert further.mean() <= 0.001, run.path.name


def test_an_elite_and_its_line(page: Any, runs: list[evofool.Run]) -> None:
    parents = {p["individual_id"]: p["parent_ids"] for p in runs[0].store.table("individuals").to_pylist()}
    lines = [[int(identity)] for identity in runs[0].elites()["individual_id"]]
    for each in lines:
        while parents[each[-1]]:
            each.append(parents[each[-1]][0])
    i = max(range(len(lines)), key=lambda i: len(lines[i]))
    line = lines[i]
    page.click(f"#cards a[href='#e0-{i}']")
    assert page.locator("#strip li").count() == len(line) > 3
    for ancestor in line[1:]:  # from each to its parent, which is the last but one of its own strip
        page.locator("#strip li a").nth(-2).click()
        page.wait_for_function(f"() => document.querySelector('#elite h1').textContent.endsWith(' {ancestor:x}')")
        assert page.locator("#strip li").count() == len(line) - line.index(ancestor)
        assert page.locator("svg[aria-label^='Network of']").count() == 1
    assert "back to generation 0" in page.inner_text("#elite")
    for _ in line:
        page.go_back()
    assert page.is_visible("#cards")
    page.evaluate(f"location.hash = 'e0-{i}'")
    page.wait_for_selector("#picture[data-drawn]")
    page.click("button:text-is('1024')")
    page.wait_for_selector("#picture[data-drawn='1024x1024']")
    assert "sine(" in page.inner_text("#formula") or "gaussian(" in page.inner_text("#formula")
    assert page.locator("#elite table tbody tr").count() == 2  # of the study


def test_keyboard_only(page: Any) -> None:
    page.keyboard.press("/")
    page.keyboard.type("class 4")
    assert shown(page)[0] == "class 40"
    while page.evaluate("!document.activeElement.closest('#cards')"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_function("() => byId('elite').textContent.includes('class 41')")
    page.keyboard.press("j")
    page.wait_for_function("() => document.title.startsWith('class 42')")
    page.keyboard.press("k")
    page.wait_for_function("() => document.title.startsWith('class 41')")
    page.keyboard.press("Escape")
    page.wait_for_selector("#cards")
    assert page.evaluate("document.activeElement.textContent").startswith("class 41")
    page.keyboard.press("Tab")
    assert not page.evaluate("!!document.activeElement.closest('#cards')"), "one stop of the Tab key for all cards"


def test_hostile_text_is_only_text(page: Any) -> None:
    assert page.evaluate("window.hurt") is None
    page.select_option("#run", "0")
    assert shown(page)[: len(found.HOSTILE)] == list(found.HOSTILE)
    for i, name in enumerate(found.HOSTILE):
        page.evaluate(f"location.hash = 'e0-{i}'")
        page.wait_for_function("name => document.querySelector('#elite h1 bdi')?.textContent === name", arg=name)
    assert page.evaluate("window.hurt") is None
    assert page.locator("img[src='x']").count() == 0
    study = page.locator("#studies article")
    assert found.HOSTILE[1] in study.evaluate("article => article.textContent")
    assert study.locator("script").count() == 0
    assert study.locator("img").evaluate("image => image.naturalWidth") == 90


def test_dark_light_and_print(page: Any) -> None:
    def wait_for_paper(is_light: bool) -> None:
        colour = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, c) => sum + Number(c), 0)"
        page.wait_for_function(f"isLight => isLight ? {colour} === 3 * 255 : {colour} < 100", arg=is_light)

    wait_for_paper(True)
    page.click("#theme")
    wait_for_paper(False)
    page.emulate_media(media="print")
    wait_for_paper(True)
    assert not page.is_visible("#controls")
    assert not page.is_visible("header")
    assert page.locator("#cards li:not([hidden])").count() == 150
    assert page.is_visible("#descent svg")
    page.emulate_media(media="screen", color_scheme="dark")
    wait_for_paper(False)
    page.emulate_media(media="screen", color_scheme="light")
    wait_for_paper(True)


def test_no_barriers(browser: Any, runs: list[evofool.Run], tmp_path: Path) -> None:
    """axe-core finds nothing serious, in the gallery and in an elite's page, light and dark."""
    from axe_playwright_python.sync_playwright import Axe

    small = runs[-1]
    found.with_study(small, "planted")
    write([small.path], tmp_path / "report.html", "evofool report")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto((tmp_path / "report.html").as_uri())
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for part, waited in (("gallery", "#cards"), ("e0-4", "#elite h1")):
            page.evaluate(f"location.hash = '{part}'")
            page.wait_for_selector(waited)
            page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=scheme)
            # Dark, only colours can be another matter.
            rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
            violations = Axe().run(page, options={"resultTypes": ["violations"], **rules}).response["violations"]
            serious = [v for v in violations if v["impact"] in ("serious", "critical")]
            assert [(v["id"], v["nodes"][0]["html"][:200]) for v in serious] == [], (scheme, part)
    page.close()


def test_without_a_formula_the_stored_pictures_are_shown(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def ripple(p, xp):\n    return xp.sin(p * p)\n")
    spec = f"python:{tmp_path}/mine.py:ripple"
    own = found.make(tmp_path / "own", f"encoding.activations=[sine, '{spec}']", classes=4, allow_code=True)
    direct = found.make(tmp_path / "direct", "encoding.kind=direct", classes=4, generations=5)
    write([own.path, direct.path], tmp_path / "report.html", "evofool report")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    for number, run in enumerate((own, direct)):
        page.evaluate(f"location.hash = 'e{number}-1'")
        page.wait_for_selector("#elite img#picture")
        assert ("activations of its own" if number == 0 else "has no formula") in page.inner_text("figcaption")
        stored = base64.b64decode(page.get_attribute("#picture", "src").partition(",")[2])
        assert np.array_equal(decode_png(stored, ""), run.image(1))
    assert page.locator("#strip img, #strip .blank").count() == page.locator("#strip li").count()
    page.close()
