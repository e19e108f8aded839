"""What a run shows while it goes on."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import evofool
from evofool.base import streams
from evofool.config import Config, load_config
from evofool.errors import Stopped
from evofool.runs.observers.observer import GenerationPlaced, Warned
from evofool.runs.observers.progress import LiveTable, Notebook, make_progress


class Interrupt(evofool.Observer):
    """As two Ctrl-C in the middle of a generation, after a warning with a path that looks like markup."""

    def __init__(self, progress: LiveTable) -> None:
        self.progress = progress

    def on_generation(self, event: GenerationPlaced) -> None:
        self.progress.on_warning(Warned("pip install 'evofool[timm]' for /data/[/x]"))
        raise KeyboardInterrupt


def test_the_live_table_lets_go_of_the_terminal_after_an_error(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress, stderr = LiveTable(), sys.stderr
    with pytest.raises(Stopped):
        evofool.run(config, out=tmp_path / "run", observers=[progress, Interrupt(progress)])
    assert sys.stderr is stderr and not progress._live.is_started
    assert "warning: pip install 'evofool[timm]' for /data/[/x]" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------- whom a run is shown to


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """This process is a notebook's; what the outputs of its cell hold."""
    outputs: list[str] = []

    class Handle:
        def __init__(self, data: dict[str, str]) -> None:
            self.place = len(outputs)
            outputs.append(data["text/plain"])

        def update(self, data: dict[str, str], raw: bool) -> None:
            assert raw
            outputs[self.place] = data["text/plain"]

    ipython: Any = ModuleType("IPython")
    ipython.display = ModuleType("IPython.display")
    ipython.display.display = lambda data, raw, display_id: Handle(data)
    ipython.get_ipython = lambda: SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return outputs


def test_a_notebook_shows_one_output_that_is_renewed(
    config: Config, small_run: evofool.Run, tmp_path: Path, cells: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = evofool.run(config, out=tmp_path / "shown")
    assert run.archive_hash == small_run.archive_hash
    assert len(cells) == 1 and capsys.readouterr() == ("", "")
    for words in ("test: new run", "generation 6 of 6", "filled cells", "10 of 10", "6 generations done"):
        assert words in cells[0]
    evofool.run(config, out=tmp_path / "silent", progress=False)
    assert len(cells) == 1
    observer = make_progress()
    assert isinstance(observer, Notebook)
    observer.on_warning(Warned("before the start"))
    assert cells[1] == "warning: before the start"


@pytest.mark.parametrize(
    ("progress", "kind", "is_terminal", "shown"),
    [
        (None, "auto", False, False),
        (None, "auto", True, True),
        (None, "none", True, False),
        (True, "auto", False, True),
        (True, "none", True, False),
        (False, "live", True, False),
    ],
)
def test_a_run_is_shown_where_somebody_watches_or_as_it_is_told(
    progress: bool | None,
    kind: str,
    is_terminal: bool,
    shown: bool,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(streams.Messages, "isatty", lambda self: is_terminal)
    config = load_config(config, [f"observers.progress={kind}", "search.generations=1"])
    evofool.run(config, out=tmp_path / "run", progress=progress)
    out, said = capsys.readouterr()
    assert ("1 generation done" in said) == shown and (bool(said), out) == (shown, "")
