"""docs/commands.md: its tables of commands, written from the commands themselves by `make house`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from evofool.cli import app

PAGE = Path(__file__).parent.parent.parent / "docs" / "commands.md"
BEGIN, END = "<!-- written by make house -->\n", "<!-- until here -->"
APP: Any = typer.main.get_command(app)


def find(words: list[str]) -> tuple[Any, list[str]]:
    """(the command that words begin with, the words after it); None if there is none of that name."""
    command, rest = APP, list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        command = inside(command).get(rest.pop(0))
    return command, rest


def inside(group: Any) -> dict[str, Any]:
    """{name: command} of a group; those of studies are made when they are asked for."""
    return group.commands or {name: group.resolve_command(None, [name])[1] for name in group.list_commands(None)}


def purpose(command: Any) -> str:
    """The first paragraph of a command's help."""
    return " ".join((command.help or "").split("\n\n")[0].split())


def _row(name: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter.opts[0] for parameter in command.params if parameter not in arguments]
    call = " ".join(["evofool", name, *(argument.metavar or argument.name.upper() for argument in arguments)])
    return f"| `{call}` | {purpose(command)} | {', '.join(f'`{option}`' for option in options)} |"


def _lines() -> Iterator[str]:
    groups = {name: group for name, group in APP.commands.items() if hasattr(group, "commands")}
    yield from _table("Runs.", "", {name: APP.commands[name] for name in APP.commands if name not in groups})
    for name, group in groups.items():
        yield from _table(f"`evofool {name}`. {purpose(group)}", f"{name} ", inside(group))


def _table(title: str, prefix: str, commands: dict[str, Any]) -> Iterator[str]:
    yield f"\n{title}\n"
    yield "| | what it does | options |"
    yield "|---|---|---|"
    for name, command in commands.items():
        yield _row(prefix + name, command)


def page() -> str:
    """docs/commands.md, with the tables of the commands that there are now."""
    text = PAGE.read_text()
    return re.sub(rf"(?<={BEGIN}).*?(?={END})", lambda _: "\n".join(_lines()) + "\n\n", text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE.name}: the commands")
