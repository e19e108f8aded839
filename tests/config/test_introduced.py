"""Defaults may change, and keys may be added: stored runs stay what they are, and new runs are others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from keys import BASE, KINDS, OTHER, nested

import evofool
from evofool.config import Config, fingerprint, flatten, key_table, load_config
from evofool.config.introduced import INTRODUCED
from evofool.store import files
from evofool.store.run import RunStore

GOLDEN = ROOT / "tests" / "golden" / "introduced.json"
FIXTURES = ROOT / "tests" / "fixtures"
EXTENDED = json.loads((FIXTURES / "expected.json").read_text())["direct"]["extended"]
SEMANTIC = [key for key in OTHER if key not in KINDS and key != "target.spec" and OTHER[key] != INTRODUCED[key]]


def test_the_table_has_every_key_and_only_grows(request: pytest.FixtureRequest) -> None:
    assert set(key_table()) <= set(INTRODUCED), "append the new key to introduced.py"
    golden = list(json.loads(GOLDEN.read_text()).items()) if GOLDEN.exists() else []
    assert list(INTRODUCED.items())[: len(golden)] == golden
    if request.config.getoption("--bless"):
        GOLDEN.write_text(json.dumps(INTRODUCED, indent=1) + "\n")
    assert json.loads(GOLDEN.read_text()) == INTRODUCED, "pytest --bless adds the new keys to the golden file"


@pytest.fixture(params=SEMANTIC)
def changed(request: pytest.FixtureRequest) -> Iterator[str]:
    """A key whose default is another meanwhile."""
    section, _, name = request.param.rpartition(".")
    model: Any = Config.model_fields[section].annotation if section else Config
    default = model.model_fields[name].default

    def put(value: Any) -> None:
        model.model_fields[name].default = value
        model.model_rebuild(force=True)
        if section:
            Config.model_fields[section].default = ... if section == "target" else model()
        Config.model_rebuild(force=True)

    other = load_config(nested(request.param, OTHER[request.param]))
    put(getattr(getattr(other, section) if section else other, name))
    yield request.param
    put(default)


def fixture(tmp_path: Path) -> Path:
    for name in ("network.py", "network.safetensors"):
        shutil.copy(FIXTURES / name, tmp_path)
    return Path(shutil.copytree(FIXTURES / "direct", tmp_path / "direct"))


@pytest.mark.slow
def test_under_another_default_a_stored_run_is_the_same_and_a_new_one_another(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert flatten(load_config(BASE))[changed] == OTHER[changed]
    as_it_was = load_config(BASE, [f"{changed}={json.dumps(INTRODUCED[changed])}"])
    assert fingerprint(load_config(BASE)) != fingerprint(as_it_was)
    run = fixture(tmp_path)
    monkeypatch.chdir(tmp_path)
    store = RunStore(run)
    assert fingerprint(store.config) == store.provenance["config_fingerprint"]
    extended = evofool.resume(run, ["search.generations=14"], allow_code=True)
    assert extended.archive_hash == EXTENDED

    path = run / "_evofool" / "config.yaml"  # as if it were from before there was the key
    data = yaml.safe_load(path.read_text())
    section, dot, name = changed.rpartition(".")
    value = (data[section] if dot else data).pop(name)
    files.put(path, files.seal(yaml.safe_dump(data).encode()))
    assert flatten(load_config(path, stored=True))[changed] == INTRODUCED[changed]
    if value == INTRODUCED[changed]:
        assert fingerprint(RunStore(run).config) == store.provenance["config_fingerprint"]
