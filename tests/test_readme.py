"""What the README and docs/ show works: Python blocks run, configs exist, commands have the options they use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import evofool
from evofool.cli import app

ROOT = Path(__file__).parent.parent
# Not docs/extend.md: what its commands name is there only once its files are.
PAGES = [path for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "extend.md"]
TEXT = "\n".join(path.read_text() for path in [ROOT / "README.md", *PAGES])
SMALL = ["evaluation.pool=inline", "search.offspring=20", "search.initial=20", "search.generations=2"]


def block(name: str) -> str:
    """The Python block whose first line is a comment with this name."""
    found = [b for b in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if b.startswith(f"# {name}\n")]
    assert len(found) == 1
    return str(found[0])


@pytest.mark.slow
def test_own_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    code = block("signs.py")
    Path("signs.py").write_text(code)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 5), torch.nn.Linear(256, 43)).state_dict()
    save_file({n.replace("1.", "4."): t for n, t in layers.items()}, "signs.safetensors")
    overrides = ["name=signs", "target.spec=python:signs.py:build", *SMALL]
    run = evofool.run(ROOT / "configs/quickstart.yaml", overrides, allow_code=True)
    assert len(run.elites()) == 43
    assert run.image("sign 7").shape == (48, 48, 3)


@pytest.mark.slow
def test_live_module_and_ask_and_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    names: dict[str, Any] = {
        "evofool": evofool,
        "net": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 4)),
        "preprocessing": evofool.Preprocessing((32, 32), 3, (127.5,) * 3, (127.5,) * 3),
        "classify": lambda images: np.full((len(images), 2), 0.5),
    }
    exec(block("live").replace('"name=live"', '"name=live", "search.generations=2"'), names)
    assert len(names["run"].elites()) == 4
    exec(block("asktell").replace("range(50)", "range(3)"), names)
    assert names["search"].statistics.evaluations == 600


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    [
        "encoding.activations=[sine, 'python:mine.py:swirl']",
        "search.objective=python:mine.py:modest",
        "{encoding: direct}",
    ],
)
def test_own_search(override: str, tmp_path: Path, lenet_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(block("mine.py"))
    preset = "quickstart"
    if override.startswith("{"):
        preset, override = "mnist_direct", "variation.operators={mutate: 'python:mine.py:gaussian'}"
    assert override in TEXT
    overrides = [override, f"target.spec=lenet:{lenet_file}", *SMALL, "search.lag=1"]
    run = evofool.run(ROOT / f"configs/{preset}.yaml", overrides, allow_code=True)
    assert len(run.elites()) == 10


def test_every_config_is_there_and_in_the_docs() -> None:
    for name in re.findall(r"configs/(\w+)\.yaml", TEXT):
        assert (ROOT / "configs" / f"{name}.yaml").is_file()
    table = TEXT.partition("| `configs/` | |")[2].partition("\n\n")[0]
    shown = set(re.findall(r"`(\w+)`", table)) | {
        f"nguyen2015_{data}_{kind}{text}"
        for data in ("mnist", "imagenet")
        for kind in ("cppn", "direct")
        for text in ("", "_text")
    }
    assert shown - {"_text"} == {path.stem for path in (ROOT / "configs").glob("*.yaml")}


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    lines = [line.partition(" #")[0].strip() for text in blocks for line in text.splitlines()]
    return sorted({line for line in lines if line.startswith("evofool ")})


@pytest.mark.parametrize("line", commands())
def test_commands_exist_with_their_options(line: str) -> None:
    words = line.split()[1:]
    names = [word for word in words[:2] if re.fullmatch(r"[a-z]+", word)]
    names = names if names[0] in ("config", "targets", "study", "cluster") else names[:1]
    result = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, line
    for option in re.findall(r"--[a-z-]+", line):
        assert option in result.output, f"{line}: no {option}"
