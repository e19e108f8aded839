"""What stands in the way of evaluators over Ray is said at once, with the way out: no Ray is started here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from conftest import Command
from ray.exceptions import RaySystemError

import evofool
from evofool.config import Config, load_config
from evofool.errors import ConfigError
from evofool.evaluate.over_ray.failures import error_of

NET = """
import torch, evofool
import {sibling}

class Net(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10] * {sibling}.SCALE

def build():
    return evofool.Target(Net(), evofool.Preprocessing((8, 8), 1, (0.0,), (255.0,)), tuple("abcdefghij"))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder "own code" that only this process imports from, and no Ray: whoever starts one fails."""

    def init(**options: Any) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    place = tmp_path / "own code"
    place.mkdir()
    (place / "own_sibling.py").write_text("SCALE = 2.0\n")
    (place / "own_net.py").write_text(NET.format(sibling="own_sibling"))
    monkeypatch.syspath_prepend(place)
    yield place
    for name in ("own_net", "own_sibling"):
        sys.modules.pop(name, None)


def test_a_module_that_workers_would_not_find_is_named_before_ray_starts(
    folder: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import own_net

    over_ray = load_config(config, "evaluation.pool=ray")
    live = {"target": own_net.build(), "address": "local", "out": tmp_path / "run"}
    spec = {"target.spec": f"python:{folder / 'own_net.py'}:build"}
    with pytest.raises(ConfigError, match=r"module own_net.*PYTHONPATH.*spec"):
        evofool.run(over_ray, **live)
    with pytest.raises(ConfigError, match=r"imports own_sibling.*PYTHONPATH"):
        evofool.run(over_ray, spec, address="local", out=tmp_path / "run", allow_code=True)
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    for given in ({"config": over_ray, **live}, {"config": load_config(over_ray, spec), "address": "local"}):
        with pytest.raises(AssertionError, match="Ray was started"):
            evofool.run(allow_code=True, **{"out": tmp_path / "run", **given})


def test_a_sibling_that_is_not_found_is_told_of_with_its_folder(command: Command, folder: Path, tmp_path: Path) -> None:
    (folder / "other.py").write_text(NET.format(sibling="own_missing"))
    spec = f"python:{folder / 'other.py'}:build"
    code, _, err = command("targets", "check", spec, "--allow-code")
    assert code == 6 and f"'own_missing'; if that lies beside the file, set PYTHONPATH='{folder}'" in err
    # On another machine of a cluster it comes back from the evaluator.
    said = error_of(RaySystemError("No module named 'own_net'")).message
    assert "PYTHONPATH" in said and "spec" in said


TOKENS = """
import os, pytest
from evofool.errors import StorageError
from evofool.evaluate.over_ray.cluster import connect

for name in ("HOME", "RAY_AUTH_TOKEN_PATH"):
    os.environ[name] = "/dev/null/x"
    with pytest.raises(StorageError) as caught:
        connect("local", 1)
    print(caught.value.message)
"""


@pytest.mark.slow
def test_a_token_that_has_no_place_is_told_of_with_the_way_out() -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", TOKENS], env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    home, path = done.stdout.splitlines()
    assert home.startswith("/dev/null/x/.ray: ") and "set HOME" in home and "set RAY_AUTH_TOKEN_PATH" in home
    assert path.startswith("RAY_AUTH_TOKEN_PATH: /dev/null/x holds no token; unset it")
