"""Runs that an earlier version made (fixtures/make.py): they verify, resume and extend to the hashes it gave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from fixtures import make

import evofool
from evofool.errors import IncompatibleRun

FIXTURES = Path(make.__file__).parent
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())


@pytest.fixture(params=make.RUNS)
def stored(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a stored run, with its network beside it."""
    for name in ("network.py", "network.safetensors"):
        shutil.copy(FIXTURES / name, tmp_path)
    make.make_lenet(tmp_path / "lenet.safetensors")
    shutil.copytree(FIXTURES / request.param, tmp_path / request.param)
    monkeypatch.chdir(tmp_path)
    return Path(request.param)


def test_a_stored_run_is_read_verified_resumed_and_extended(stored: Path) -> None:
    expected = EXPECTED[stored.name]
    run = evofool.open_run(stored)
    assert run.archive_hash == expected["archive_hash"]
    assert len(pd.read_parquet(stored)) == len(run.elites()) == run.status()["filled"] > 0
    try:
        proof = evofool.verify(stored, replay=make.GENERATIONS, allow_code=True)
    except IncompatibleRun:
        assert stored.name == "lenet", "the other network's sums are exact on every processor"
        pytest.skip("the sums of this processor for the stored LeNet have other bits than those of the fixture's")
    assert proof["archive_hash"] == expected["archive_hash"] and proof["bit_for_bit"] == proof["elites"]
    extended = evofool.resume(stored, [f"search.generations={make.MORE}"], allow_code=True)
    assert extended.archive_hash == expected["extended"]
    assert "top5" not in extended.elites()  # a run keeps the columns that it began with
    evofool.verify(stored, replay=make.MORE, allow_code=True)


def test_the_fixtures_are_small() -> None:
    for name in make.RUNS:
        assert sum(path.stat().st_size for path in (FIXTURES / name).rglob("*") if path.is_file()) < 100_000
