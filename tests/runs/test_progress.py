"""What a run shows while it goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import evofool
from evofool.config import Config
from evofool.errors import Stopped
from evofool.runs.observers.observer import GenerationPlaced, Warned
from evofool.runs.observers.progress import LiveTable


class Interrupt(evofool.Observer):
    """As two Ctrl-C in the middle of a generation, after a warning with a path that looks like markup."""

    def __init__(self, progress: LiveTable) -> None:
        self.progress = progress

    def on_generation(self, event: GenerationPlaced) -> None:
        self.progress.on_warning(Warned("pip install 'evofool[fast]' for /data/[/x]"))
        raise KeyboardInterrupt


def test_the_live_table_lets_go_of_the_terminal_after_an_error(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress, stderr = LiveTable(), sys.stderr
    with pytest.raises(Stopped):
        evofool.run(config, out=tmp_path / "run", observers=[progress, Interrupt(progress)])
    assert sys.stderr is stderr and not progress._live.is_started
    assert "warning: pip install 'evofool[fast]' for /data/[/x]" in capsys.readouterr().err
