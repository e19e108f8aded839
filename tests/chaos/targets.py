"""Networks that give NaN or infinity, raise, or answer in another shape: always, for some images, or from some call on.

Either the run is refused with 6, or the bad rows are counted and the archive holds finite numbers only.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import numpy as np

import evofool
from chaos.forks import Shared
from chaos.outcome import Outcome
from chaos.toy import Toy, promised_commits_are_there
from evofool.errors import TargetError

__all__ = ["trial_targets"]

TARGET = '''"""A linear network that misbehaves as the environment says: CHAOS_MODE, and CHAOS_FROM or CHAOS_ROWS."""

import os

import torch

import evofool

VALUES = {"nan": float("nan"), "+inf": float("inf"), "-inf": -float("inf")}


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 5)
        self.calls = 0
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x):
        mode = os.environ.get("CHAOS_MODE", "")
        self.calls += 1
        scores = self.layer(x.flatten(1))
        if not mode or self.calls < int(os.environ.get("CHAOS_FROM", "0")):
            return scores
        if mode == "raises":
            raise ValueError("chaos")
        if mode == "shape":
            return [scores[:, :4], scores[:-1], scores[:, :, None], scores.tolist(), None][self.calls % 5]
        bad = torch.ones(len(x), dtype=torch.bool)
        if os.environ.get("CHAOS_ROWS") == "some":
            bad = (x.flatten(1) * 128 + 127).sum(dim=1).long() % 3 == 0
        scores[bad, int(os.environ["CHAOS_COLUMN"])] = VALUES[mode]
        return scores


def build():
    return evofool.Target(Linear(), evofool.Preprocessing((8, 8), 1, (127.0,), (128.0,)), tuple("abcde"))
'''
MODES = ("nan", "+inf", "-inf", "raises", "shape")
REFUSED = TargetError.exit_code


def trial_targets(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """Every way to misbehave in turn."""
    draw, outcome, toy = random.Random(seed), Outcome(), Toy(folder, generations=8, target=TARGET)
    whole = toy.undisturbed()
    for trial in range(trials):
        mode, late = MODES[trial % len(MODES)], bool(trial // len(MODES) % 2)
        first = draw.randint(3, 12) if late else 0
        rows = "all" if mode in ("raises", "shape") or not late else "some"
        said = {"CHAOS_MODE": mode, "CHAOS_ROWS": rows, "CHAOS_COLUMN": str(draw.randrange(5))}
        # A value that is bad in some rows is so from the first call on; what is refused later has something to lose.
        said["CHAOS_FROM"] = str(first) if rows == "all" else "0"
        run, shared = folder / f"run-{trial}", Shared()
        with outcome.trial(f"{mode} in {rows} rows from call {said['CHAOS_FROM']}"):
            os.environ.update(said)
            try:
                child = toy.start(run, shared)
                code = child.wait()
            finally:
                for name in said:
                    del os.environ[name]
            assert "Traceback" not in child.said(), child.said()
            outcome.counts[f"ended with {code}"] += 1
            if rows == "some":
                assert code == 0, f"ended with {code}: {child.said()}"
                result = evofool.open_run(run)
                assert np.isfinite(result.placements()["log_odds"]).all(), "not finite in the archive"
                assert np.isfinite(result.elites()["log_odds"]).all(), "not finite in the view"
                counted = int(result.history()["non_finite"].sum())
                assert counted > 0, "bad rows were not counted"
                outcome.counts["rows counted as not finite"] += counted
            elif not late:
                assert code == REFUSED, f"ended with {code}: {child.said()}"
                assert not run.exists(), "a run that never began left something behind"
            else:
                assert code == REFUSED, f"ended with {code}: {child.said()}"
                promised_commits_are_there(run, shared)
                assert toy.finish(run) == whole, "another archive once the network behaves"
                outcome.counts["resumed to the same archive"] += 1
        shutil.rmtree(run, ignore_errors=True)
    return outcome
