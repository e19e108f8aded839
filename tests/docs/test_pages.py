"""Every block of README and docs/ is run, a page at a time, in one folder, README first: what it made the others use.

Searches are of a few generations of 20 in this process, and networks are trained for one epoch on a twentieth of the
images. What is not run, and how a page says so: pages.py; what it names is checked all the same (test_names.py).
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import io
import os
import re
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest

import evofool.config
from evofool import cli
from evofool.config.files import listed
from evofool.runs import runner
from evofool.search import asking
from evofool.targets.training import datasets, train

SMALL = ["evaluation.pool=inline", "search.offspring=20", "search.initial=20", "search.generations=3"]
FIRST, *REST = pages.OURS
# docs/extend.md changes evofool itself: contract/test_extend.py follows it.
WITH_BLOCKS = [page for page in REST if pages.blocks(page) and page.stem != "extend"]
LONGEST = 9  # generations of a command
pytestmark = [pytest.mark.slow, pytest.mark.needs_mnist5k, pytest.mark.timeout(900)]


def smaller(load: Callable[..., Any]) -> Callable[..., Any]:
    """`load_config` as if every file or preset were a small search; what is said on a command line counts more."""

    def load_config(source: Any, overrides: Any = None, **options: Any) -> Any:
        of_a_run = not isinstance(source, str | Path) or "_evofool" in str(source)
        if of_a_run or sys.argv[1:2] == ["cluster"]:
            return load(source, overrides, **options)
        return load(source, [*SMALL, *listed(overrides or [])], **options)

    return load_config


def fewer(load: Callable[..., Any]) -> Callable[..., Any]:
    """`load_dataset` as if there were a twentieth of the images, split one way: reading them takes seconds."""

    @functools.cache
    def some(name: str) -> Any:
        data = load(name, 1)
        arrays = {field: value[::20] for field, value in vars(data).items() if isinstance(value, np.ndarray)}
        return dataclasses.replace(data, **arrays)

    def load_dataset(name: str, *_: object) -> Any:
        return some(name)

    return load_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the pages are walked: a checkout without code, in which what README says has been done."""
    place = tmp_path_factory.mktemp("docs")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(pages.ROOT / name, place)
    for name in ("configs", "cluster"):
        shutil.copytree(pages.ROOT / name, place / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(place)
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("HF_DATASETS_CACHE", str(place / "cache"))
        patch.setenv("MPLBACKEND", "agg")
        patch.setattr(train, "EPOCHS", 1)
        patch.setattr(train, "THREADS", 1)
        for module in (evofool.config, runner, asking):
            patch.setattr(module, "load_config", smaller(module.load_config))
        patch.setattr(datasets, "load_dataset", fewer(datasets.load_dataset))
        try:
            walk(FIRST)
        except AssertionError as error:
            pytest.fail(str(error), pytrace=False)
        yield place


def walk(page: Path) -> None:
    """Run what a page shows, from top to bottom; its python blocks share their names."""
    names: dict[str, Any] = {"__name__": page.stem}
    printed = ""
    for block in pages.blocks(page):
        assert block.language in pages.LANGUAGES, f"{block.name}: nobody runs {block.language!r}"
        assert block.mark in ("", *pages.MARKS), f"{block.name}: no mark is called {block.mark!r}"
        if block.mark == "not run":
            printed = ""
        elif block.file:
            Path(block.file).write_text(block.text)
        elif block.language == "bash":
            printed = run_commands(block)
        elif block.language == "python":
            printed = run_python(block, names)
        elif block.language == "text" and printed:
            missing = {word for word in re.findall(r"[A-Za-z_]{3,}", block.text) if word not in printed}
            assert not missing, f"{block.name}: {missing} is not in what was printed:\n{printed}"


def run_commands(block: pages.Block) -> str:
    """What the commands of a block print; all but the last must end with 0, and that as its mark says."""
    printed, lines = "", pages.lines(block)
    for line in lines:
        code, said = run_line(line)
        expected = int(block.value) if block.mark == "exit code" and line is lines[-1] else 0
        assert code == expected, f"{block.name}: exit code {code} of {line}\n{said}"
        printed += said
    return printed


def run_line(line: str) -> tuple[int, str]:
    """(exit code, what it prints): evofool's commands in this process, which has loaded torch; others in a shell."""
    if not re.match(r"(evofool|make) ", line) or " > " in line:
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr
    words = pages.words(re.sub(r"(?<=search\.generations=)\d+", lambda n: str(min(int(n[0]), LONGEST)), line))
    if words[0] == "make":  # its recipes, as far as they are commands of evofool: the rest installs
        recipes = subprocess.run(["make", "-n", *words[1:]], capture_output=True, text=True, check=True).stdout
        commands = [found for found in recipes.splitlines() if found.startswith(".venv/bin/evofool ")]
        done_each = [run_line(command.removeprefix(".venv/bin/")) for command in commands]
        assert done_each, line
        return max(code for code, _ in done_each), "".join(said for _, said in done_each)
    arguments = [found for word in words[1:] for found in matches(word) or [word]]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evofool", *arguments])
        try:
            cli.main()
            code: Any = 0
        except SystemExit as end:
            code = end.code
    return int(code or 0), said.getvalue()


def matches(word: str) -> list[str]:
    """What a shell makes of a word with a pattern; nothing of others."""
    return sorted(map(str, Path().glob(word))) if "*" in word else []


def run_python(block: pages.Block, names: dict[str, Any]) -> str:
    """What a block prints, its last value too as in a notebook; a value in a comment must be that of its line."""
    said, last = io.StringIO(), None
    comments = comments_of(block.text)
    for statement in ast.parse(block.text).body:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if isinstance(statement, ast.Expr):
                last = eval(compile(ast.Expression(statement.value), block.name, "eval"), names)  # noqa: S307 - our own pages
            else:
                last = None
                exec(compile(ast.Module([statement], []), block.name, "exec"), names)
        with contextlib.suppress(SyntaxError, ValueError):
            expected = ast.literal_eval(comments.get(statement.end_lineno or 0, "of no value"))
            assert last == expected, f"{block.name}: {ast.unparse(statement)} is {last}"
    return said.getvalue() + ("" if last is None else str(last))


def comments_of(code: str) -> dict[int, str]:
    """{line from 1: its comment without the #}."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def test_readme(folder: Path) -> None:
    assert (folder / "runs/quickstart/elites/elites.parquet").is_file()


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.stem)
def test_page(page: Path, folder: Path) -> None:
    walk(page)
