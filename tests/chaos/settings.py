"""Every key of the configuration is changed on resume, one by one, and handled as its kind says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from keys import OTHER

import evofool
from chaos.outcome import Outcome
from chaos.toy import Toy
from evofool.config import flatten, key_table
from evofool.errors import IncompatibleRun
from evofool.store.run import RunStore

__all__ = ["trial_settings"]

# In colour, resized and cropped, so that every key has another value that is valid.
TARGET = """import torch

import evofool


def build():
    generator = torch.Generator().manual_seed(3)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 10))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    preprocessing = evofool.Preprocessing((12, 12), 3, (127.0,) * 3, (128.0,) * 3, resize=10, crop=8)
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return evofool.Target(net, preprocessing, names)
"""
GENERATIONS = 3
# What OTHER has is the value of the run here, or needs what this machine may not have.
HERE = {
    "evaluation.pool": "ray",
    "evaluation.chunk": 20,
    "evaluation.micro_batch": 5,
    "evaluation.memory_format": "contiguous",
    "search.generations": 5,
}
NEEDS_MORE = ("evaluation.device", "evaluation.compile")  # a GPU, a compiler: only that they are refused is looked at


def trial_settings(trials: int | None, folder: Path, seed: int = 0) -> Outcome:
    """One trial for each key of the schema; `trials` is how many of them, None for all."""
    outcome = Outcome()
    toy = Toy(folder, generations=GENERATIONS, target=TARGET)
    toy.undisturbed()
    run = folder / "undisturbed"
    whole = evofool.resume(
        shutil.copytree(run, folder / "whole"), ["search.generations=5"], allow_code=True
    ).archive_hash
    keys = [key for key in key_table() if key != "schema_version"]
    step = 1 if trials is None else max(1, len(keys) // trials)
    for key in keys[::step]:
        copy = Path(shutil.copytree(run, folder / "copy"))
        with outcome.trial(key):
            kind = key_table()[key][0]
            assert key in OTHER, "a key without another value in tests/test_config.py"
            value = {**OTHER, **HERE}[key]
            if key == "target.spec":
                (folder / "other.py").write_text(TARGET + "\n# other code\n")
                value = f"python:{folder / 'other.py'}:build"
            override = [f"{key}={json.dumps(value)}"]
            if kind == "semantic":
                _refused(copy, override)
                _refused(copy, override, allow_numerics_change=True)
            elif kind == "numerics":
                _refused(copy, override)
                if key not in NEEDS_MORE:
                    _numerics_epoch(copy, override)
            else:
                _accepted(copy, key, value, whole)
            outcome.counts[f"{kind} keys"] += 1
        shutil.rmtree(copy)
    return outcome


def _refused(run: Path, override: list[str], **options: Any) -> None:
    before = _tree(run)
    try:
        evofool.resume(run, [*_longer(override), *override], allow_code=True, **options)
    except IncompatibleRun as error:
        assert error.exit_code == 3
    else:
        raise AssertionError("resume went on")
    assert _tree(run) == before, "refused, but something changed"


def _numerics_epoch(run: Path, override: list[str]) -> None:
    evofool.resume(run, [*_longer(override), *override], allow_code=True, allow_numerics_change=True)
    last = RunStore(run).log.last
    assert last is not None and last.numerics["epoch"] == 1, "the change is not marked"


def _accepted(run: Path, key: str, value: Any, whole: str | None) -> None:
    # The pool over Ray is only told to find that there is nothing to do.
    more = [] if key in ("evaluation.pool", "search.generations") else ["search.generations=5"]
    after = evofool.resume(run, [*more, f"{key}={json.dumps(value)}"], allow_code=True)
    assert flatten(RunStore(run).config)[key] == value, "the new value was not kept"
    if key != "evaluation.pool":
        assert after.archive_hash == whole, "another archive"


def _longer(override: list[str]) -> list[str]:
    return ["search.generations=5"] if not override[0].startswith("search.generations") else []


def _tree(run: Path) -> dict[str, bytes]:
    """Every file but the lock, which says who held it last."""
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "lock"}
