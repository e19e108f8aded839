"""docs/extend.md, followed to the letter in a copy of the repository: each thing is one new file and one row."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from evofool.base import registry

PAGE = ROOT / "docs" / "extend.md"
FILE = re.compile(r"# (\S+\.py)\n")
FIXTURE = re.compile(r"# at the end of (\S+\.py)\n")
ROW = re.compile(r"# in (\w+) of evofool/base/registry\.py\n")
TABLES = {"An encoding", "An objective", "A family of networks", "A study", "An observer"}

# Each step is a process that loads torch: `make test` stays as long as it was.
pytestmark = [pytest.mark.slow, pytest.mark.proof]


def sections() -> dict[str, list[tuple[str, str]]]:
    """{heading: [(language, block)]} of the page."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.M)
    return {
        heading: re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.M | re.S)
        for heading, text in zip(parts[1::2], parts[2::2])
    }


SECTIONS = sections()
EXAMPLES = [heading for heading, blocks in SECTIONS.items() if blocks]
WITH_ROWS = [heading for heading in EXAMPLES if any(ROW.match(block) for _, block in SECTIONS[heading])]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, lenet_file: Path) -> Path:
    """The repository with everything of the page added, and a run of the quickstart in it."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("evofool", "configs", "cluster", "docs"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "fixtures"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    table = folder / "evofool" / "base" / "registry.py"
    for blocks in SECTIONS.values():
        for language, block in blocks:
            if language == "python" and (match := FILE.match(block)):
                path = folder / match[1]
                assert not path.exists()
                path.write_text(block.removeprefix(match[0]))
            elif language == "python" and (match := FIXTURE.match(block)):
                with (folder / match[1]).open("a") as file:
                    file.write("\n\n" + block.removeprefix(match[0]))
            elif language == "python" and (match := ROW.match(block)):
                text, begin = table.read_text(), re.compile(rf"^{match[1]} = {{.*\n", re.M)
                assert len(begin.findall(text)) == 1
                head = begin.search(text)
                assert head is not None
                table.write_text(text[: head.end()] + block.removeprefix(match[0]) + text[head.end() :])
    (folder / "weights").mkdir()
    shutil.copy(lenet_file, folder / "weights" / "lenet.safetensors")
    (folder / "bin").mkdir()
    script = folder / "bin" / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return folder


def shell(folder: Path, commands: str, said: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    arguments = ["bash", "-euo", "pipefail", "-c", commands]
    return subprocess.run(
        arguments, cwd=folder, env=environment, input=said, capture_output=True, text=True, timeout=280
    )


def test_each_kind_of_thing_has_one_file_one_row_and_a_command() -> None:
    assert set(WITH_ROWS) == TABLES
    for heading in WITH_ROWS:
        python = [block for language, block in SECTIONS[heading] if language == "python"]
        assert sum(bool(FILE.match(block)) for block in python) == 1, heading
        rows = [(match[1], block) for block in python if (match := ROW.match(block))]
        assert len(rows) == 1 and rows[0][1].count("\n") == 2, f"{heading}: one row"
        assert hasattr(registry, rows[0][0])
        assert any(language == "bash" for language, _ in SECTIONS[heading]), heading


# Runs commands one after another, those of evofool in one process, which loads torch once.
DRIVER = """
import os, re, shlex, subprocess, sys
import evofool.cli

for block in sys.stdin.read().split("\\0"):
    for line in [block] if "<<" in block else block.splitlines():
        variable = re.fullmatch(r'(\\w+)="(.*)"', line)
        print(f"$ {line}", flush=True)
        if variable:
            os.environ[variable[1]] = variable[2]
        elif not line.startswith("evofool"):
            subprocess.run(["bash", "-euc", line], check=True)
        else:
            sys.argv = [word for part in shlex.split(line, comments=True)
                        for word in (shlex.split(os.path.expandvars(part)) if part.startswith("$") else [part])]
            try:
                evofool.cli.main()
            except SystemExit as end:
                if end.code:
                    raise
"""


def test_the_examples_work_as_they_stand(copy: Path) -> None:
    small = "search.generations=3 search.offspring=20 search.initial=20 evaluation.pool=inline"
    blocks = [f"evofool run quickstart {small}"]
    for heading in EXAMPLES:
        for language, block in SECTIONS[heading]:
            if language == "bash":  # a document in it goes to bash, as one; the lines behind it are commands again
                blocks += re.split(r"(?<=\nEOF\n)", block)
    (copy / "driver.py").write_text(DRIVER)
    done = shell(copy, "python driver.py", "\0".join(blocks))
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (copy / "runs").iterdir()} >= {"waves", "quiet", "linear", "tracked", "swirls"}
    assert (copy / "runs/tracked/_history.csv").read_text().count("\n") == 4
    assert (copy / "runs/quickstart/_studies/brightness.svg").is_file()


def names() -> Iterator[str]:
    """The names of the new rows."""
    for blocks in SECTIONS.values():
        for language, block in blocks:
            if language == "python" and ROW.match(block):
                yield block.split('"')[1]


def test_the_suites_and_the_house_take_what_is_new(copy: Path) -> None:
    new = " or ".join(names())
    suites = [f"tests/contract/{path.name}" for path in sorted((ROOT / "tests/contract").glob("test_*.py"))]
    suites.remove("tests/contract/test_extend.py")
    assert shell(copy, "python tests/house.py").returncode == 0
    commands = [f"python -m pytest -q -p no:cacheprovider {' '.join(suites)} -m 'not ray' -k '{new}'"]
    commands.append("python -m pytest -q -p no:cacheprovider tests/test_architecture.py")
    for command in commands:
        done = shell(copy, command)
        assert done.returncode == 0, done.stdout + done.stderr
    for name in names():
        assert name in registry_of(copy)


def registry_of(folder: Path) -> str:
    done = shell(folder, "python -c 'import evofool.base.registry as r; print(r.__file__, vars(r))'")
    assert done.stdout.startswith(str(folder))
    return done.stdout
