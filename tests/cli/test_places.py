"""Places as people write them: ~, links, blanks; and that what the program prints of them can be pasted."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
from conftest import ROOT, Command

import evofool
from evofool.base.places import as_path
from evofool.base.registry import STUDIES
from evofool.cli import app, output, study
from evofool.cli.options import file_path, run_path
from evofool.config import Config, to_yaml
from evofool.errors import ConfigError
from evofool.store.commits import lock
from evofool.studies.study import load_study

KEYS = ["search.generations=1", "search.offspring=20", "search.initial=20"]


@pytest.fixture
def config_file(config: Config, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    return path


def functions(group: typer.Typer) -> Iterator[Any]:
    yield from (command.callback for command in group.registered_commands)
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from functions(inner.typer_instance)


def annotations() -> Iterator[tuple[str, Any]]:
    """Every argument and option there is, those of the studies too, whose commands are made when they are asked for."""
    for function in functions(app):
        yield from get_type_hints(function, include_extras=True).items()
    for name in STUDIES:
        loaded, _ = load_study(name)
        yield from ((each.name, each.annotation) for each in study._common_options(name, loaded))
    yield from study.SUBJECTS.items()


def test_every_path_of_every_command_comes_through_the_same_door() -> None:
    paths = [(name, kind.__metadata__[0].parser) for name, kind in annotations() if re.search(r"\bPath\b", str(kind))]
    assert len(paths) > 20
    assert not [path for path in paths if path[1] not in (file_path, run_path)]


def test_the_home_folder_is_meant_by_a_tilde_wherever_a_path_enters(
    command: Command, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    (home / "c.yaml").write_bytes(config_file.read_bytes())
    with pytest.raises(ConfigError, match="whole path"):
        as_path("~nobody-of-this-name/x")
    assert command("run", "~/c.yaml", "storage.path=~/rr", "name=b", *KEYS)[0] == 0
    assert command("resume", "~/rr/b", "search.generations=2")[0] == 0
    assert command("verify", "~/rr/b")[0] == 0
    assert command("export", "~/rr/b", "--out=~/pictures", "--sheet-only")[0] == 0
    assert (home / "pictures" / "contact_sheet.png").is_file()
    made = evofool.run("~/c.yaml", {"search": {"generations": 1, "initial": 20}}, out="~/rr/c")
    assert made.path == home / "rr" / "c" and evofool.open_run("~/rr/c").archive_hash == made.archive_hash
    assert sorted(p.name for p in (home / "rr").iterdir()) == ["b", "c"] and not list(here.iterdir())


def test_a_link_to_a_run_is_the_run(command: Command, config: Config, tmp_path: Path) -> None:
    run, link = evofool.run(config, KEYS, out=tmp_path / "run").path, tmp_path / "latest"
    link.symlink_to(run)
    with lock(run):
        code, _, err = command("resume", link, "search.generations=2")
        assert code == 5 and str(run) in err
    assert command("resume", link, "search.generations=2")[0] == 0
    assert evofool.resume(link, "search.generations=3").path == run
    for reading in (["status"], ["elites"], ["verify"], ["compact"]):
        assert command(*reading, link)[0] == 0
    assert evofool.open_run(link).status()["generation"] == 2 and link.is_symlink()
    code, _, err = command("resume", tmp_path / "gone")
    assert code == 2 and "no such run" in err
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert command("resume", tmp_path / "gone")[0] == 2 and not (tmp_path / "nowhere").exists()


def test_what_next_can_be_pasted_whatever_the_place_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    place = 'my runs/it\'s #1; a $HOME `of` "its" own'
    output.print_next([Path(place)])
    _, second, *others = capsys.readouterr().out.strip().splitlines()
    code = shlex.split(second)[2]
    assert shlex.split(second)[:2] == ["python", "-c"]
    assert [n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Constant)] == [f"{place}/elites"]
    for line, verb in zip(others[:4], ("show", "report", "export", "resume"), strict=True):
        assert shlex.split(line)[:3] == ["evofool", verb, place]


def test_a_command_in_any_message_has_its_place_quoted() -> None:
    """Of every f-string: what follows `evofool VERB`, --out, --seed-from, --address or chmod goes through `quoted`."""
    before, found = re.compile(r"(evofool (?!targets train)[a-z]+( [a-z]+)?|--(out|seed-from|address)|chmod \d+) $"), 0
    for file in (ROOT / "evofool").rglob("*.py"):
        for text in ast.walk(ast.parse(file.read_text())):
            for head, value in zip(text.values, text.values[1:]) if isinstance(text, ast.JoinedStr) else ():
                said = head.value if isinstance(head, ast.Constant) else ""
                if isinstance(value, ast.FormattedValue) and before.search(said):
                    found += 1
                    assert "quoted(" in ast.unparse(value.value), f"{file}:{text.lineno}: {ast.unparse(text)}"
    assert found > 10
