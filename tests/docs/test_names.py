"""What README and docs/ name is there: commands and their options, keys, files, make's targets, links and headings."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import command_page
import pages
import pytest
import yaml
from keys import KEYS, SECTIONS

import evofool
from evofool import errors

PROJECT = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^\.PHONY: (.*)$", (pages.ROOT / "Makefile").read_text(), re.MULTILINE)[0].split())
REPOSITORY = ("cluster", "configs", "docs", "evofool", "tests")  # folders whose files the pages may name
WRITTEN = [page for page in pages.ALL if page.stem != "house"]  # which names modules as its table does
ADDED = ("extend", "bash")  # the commands of what docs/extend.md adds: contract/test_extend.py runs them
BLOCKS = [block for page in pages.ALL for block in pages.blocks(page) if (page.stem, block.language) != ADDED]


def wrong(words: list[str]) -> list[str]:
    """What a command line names and is not there."""
    known: Any = {"evofool": wrong_of_evofool, "make": wrong_of_make}.get(words[0], lambda words: [])
    return known(words) + [word for word in words if is_missing_file(word)] + wrong_extras(words)


def wrong_of_evofool(words: list[str]) -> list[str]:
    command, rest = command_page.find(words[1:])
    if command is None:
        return [f"no command {' '.join(words[:3])}"]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    takes_keys = any(parameter.name == "overrides" for parameter in command.params)
    found = [word for word in rest if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in options]
    for word in rest:
        key = re.match(r"([a-z_.]+)=", word)
        if key and not word.startswith("-") and not (takes_keys and key[1] in KEYS):
            found.append(word)
    return found


def wrong_of_make(words: list[str]) -> list[str]:
    return [word for word in words[1:] if re.fullmatch(r"[a-z-]+", word) and word not in TARGETS]


def is_missing_file(word: str) -> bool:
    path = word.removeprefix("./")
    named = re.fullmatch(rf"({'|'.join(REPOSITORY)})/[\w./-]+\.(py|yaml|sh|md|json|jpg|png)", path)
    return bool(named) and not (pages.ROOT / path).is_file()


def wrong_extras(words: list[str]) -> list[str]:
    lists = [found for word in words for found in re.findall(r"(?:^\.|evofool)\[([\w,]+)\]", word)]
    return [extra for extra in ",".join(lists).split(",") if extra and extra not in PROJECT["optional-dependencies"]]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_names_of_blocks(block: pages.Block) -> None:
    if block.language == "bash":
        for line in pages.lines(block):
            assert wrong(pages.words(line)) == [], line
    elif block.language == "python" and not block.text.startswith("# in "):  # a row of a table, which is no statement
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "evofool":
                assert hasattr(evofool, node.attr), f"evofool.{node.attr}"
    elif block.language == "yaml" and block.file != "cluster.yaml":
        data = yaml.safe_load(block.text)
        if "factors" in data:  # a design, which test_pages.py runs
            data = data["overrides"]
        for key in keys_of(data):
            assert key in KEYS, key


def keys_of(data: dict[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys of a configuration, or of a part of one."""
    found = []
    for name, value in data.items():
        inside = isinstance(value, dict) and prefix + name not in KEYS
        found += keys_of(value, f"{prefix}{name}.") if inside else [prefix + name]
    return found


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_names_of_spans(page: Path) -> None:
    for span in pages.spans(page):
        words = span.replace("'", "").replace("[KEY=VALUE]...", "").split()
        assert wrong([word.strip("[]()") for word in words]) == [], f"`{span}`"
        key = re.fullmatch(rf"((?:{'|'.join(SECTIONS)})\.[a-z_]+)(?:[=:].*)?", span)
        assert not key or key[1] in KEYS, f"`{span}`"
        name = re.match(r"evofool\.([a-z]\w*)\(", span)
        assert not name or hasattr(evofool, name[1]), f"`{span}`"


@pytest.mark.parametrize("page", pages.ALL, ids=lambda page: page.stem)
def test_links_and_their_headings(page: Path) -> None:
    for link in pages.links(page):
        if not re.match(r"[a-z]+:", link):
            file, _, heading = link.partition("#")
            there = (page.parent / file).resolve() if file else page
            assert there.exists(), link
            assert not heading or heading in pages.anchors(there), link


def test_a_page_is_read_in_minutes_and_leads_to_all_others() -> None:
    readme = pages.OURS[0]
    assert len(readme.read_text().splitlines()) <= 150
    linked = {(readme.parent / link.partition("#")[0]).resolve() for link in pages.links(readme)}
    assert {page for page in pages.ALL if page != readme} <= linked


def test_the_commands_are_those_there_are() -> None:
    assert command_page.PAGE.read_text() == command_page.page(), "make house"


def test_every_exit_code_has_a_row() -> None:
    codes = {getattr(error, "exit_code", 0) for error in vars(errors).values()}
    rows = re.findall(r"^\| (\d+)(?:, (\d+))? \|", command_page.PAGE.read_text(), re.MULTILINE)
    assert codes | {130, 143} == {int(code) for row in rows for code in row if code}


def test_every_config_has_a_row() -> None:
    """And no row is of a config that is not there."""
    table = (pages.ROOT / "docs/configuration.md").read_text().partition("| `configs/` | |")[2].partition("\n\n")[0]
    shown = {name for name in re.findall(r"`(\w+)`", table) if name != "_text"}
    papers = {
        f"nguyen2015_{data}_{kind}{text}"
        for data in ("mnist", "imagenet")
        for kind in ("cppn", "direct")
        for text in ("", "_text")
    }
    assert shown | papers == {path.stem for path in (pages.ROOT / "configs").glob("*.yaml")}


def test_what_is_not_there_is_found() -> None:
    assert wrong(["evofool", "table", "runs/quickstart"])
    assert wrong(["evofool", "cluster", "doktor"])
    assert wrong(["evofool", "run", "configs/quickstart.yaml", "--outt", "x"]) == ["--outt"]
    assert wrong(["evofool", "run", "configs/quickstart.yaml", "search.lagg=1"]) == ["search.lagg=1"]
    assert wrong(["evofool", "run", "configs/quickstarts.yaml"]) == ["configs/quickstarts.yaml"]
    assert wrong(["pip", "install", "evofool[clouds]"]) == ["clouds"]
    assert wrong(["make", "demos"]) == ["demos"]
    assert wrong(["evofool", "resume", "runs/mine", "search.generations=1", "--grace", "5"]) == []
