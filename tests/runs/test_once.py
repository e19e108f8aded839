"""What is done once: a resume hashes each table, commit and seeds file once, a study opens its run once."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import evofool
from evofool.config import Config
from evofool.store.run import RunStore


def test_a_resume_hashes_each_file_once(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evofool.run(config, out=tmp_path / "first")
    run = evofool.run(config, ["seed=2"], out=tmp_path / "run", seed_from=[first.path])
    files = {p.read_bytes(): p.name for p in run.path.rglob("*") if p.suffix in (".parquet", ".json")}
    names = {blob: name for blob, name in files.items() if name not in ("run.json", "elites.parquet")}
    counts: Counter[str] = Counter()
    sha256 = hashlib.sha256

    def counted(data: bytes = b"") -> Any:
        if data in names:
            counts[names[data] + sha256(data).hexdigest()] += 1
        return sha256(data)

    monkeypatch.setattr(hashlib, "sha256", counted)
    evofool.resume(run.path, ["search.generations=8"])
    assert len(counts) == len(names) > 10 and set(counts.values()) == {1}, counts


@pytest.mark.slow
@pytest.mark.parametrize("study", ["transfer", "matrix", "table"])
def test_a_study_opens_a_run_once(study: str, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evofool.studies.compare import compare

    runs = [evofool.run(config, [f"seed={seed}"], out=tmp_path / str(seed)) for seed in (1, 2)]
    opened: Counter[str] = Counter()
    make = RunStore.__init__

    def counted(store: RunStore, path: Path) -> None:
        opened[path.name] += 1
        make(store, path)

    monkeypatch.setattr(RunStore, "__init__", counted)
    if study == "transfer":
        evofool.transfer(runs[0].path, config.target.spec)
    elif study == "matrix":
        with pytest.raises(evofool.errors.ConfigError, match="two targets"):
            evofool.matrix([run.path for run in runs])
    else:
        compare([run.path for run in runs])
    assert opened and set(opened.values()) == {1}, opened
