"""Networks that are no function of one image, that are exchanged unseen, or that change themselves.

Before a run and before it goes on they are refused in a sentence, and nothing is lost: once the network is what it was,
the run goes on to the archive of one left alone.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from chaos.forks import Child, Shared
from chaos.outcome import Outcome
from chaos.toy import Toy, command, promised_commits_are_there
from evofool.errors import IncompatibleRun, TargetError
from evofool.evaluate import evaluator

__all__ = ["SABOTAGE", "trial_changing", "trial_exchanged", "trial_functions"]

TARGET = '''"""A linear network that is as the environment says: CHAOS_MODE, as strongly as CHAOS_STRENGTH says."""

import os

import torch

import evofool


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 5)
        self.norm = torch.nn.BatchNorm1d(5, track_running_stats=False)
        self.learning = torch.nn.BatchNorm1d(5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        if os.environ.get("CHAOS_MODE") == "parts in a list":
            self.parts = [torch.nn.Dropout()]
        with open("WEIGHTS", "rb") as file:
            self.unseen = torch.tensor(list(file.read()), dtype=torch.float32)

    def forward(self, x):
        mode, strength = os.environ.get("CHAOS_MODE", ""), float(os.environ.get("CHAOS_STRENGTH", "0"))
        x = x.flatten(1)
        if mode == "dropout":
            x = torch.nn.functional.dropout(x, strength)
        if mode == "one mask":
            torch.manual_seed(3)
            x = torch.nn.functional.dropout(x, strength)
        scores = self.layer(x) * self.unseen
        if mode == "batch mean":
            scores = scores - strength * scores.mean(dim=0)
        if mode == "batch norm":
            scores = self.norm(scores)
        if mode == "place":
            scores = scores * (1 + strength * torch.arange(len(scores))[:, None])
        if mode == "memory":
            self.before, before = scores, getattr(self, "before", scores)
            scores = scores + strength * before
        if mode == "counter":
            self.calls += 1
        if mode == "train()":
            self.train()
            self.learning(scores)
        if mode == "drift":
            self.layer.bias += strength * 1e-3
        return scores


def build():
    preprocessing = evofool.Preprocessing((8, 8), 1, (127.0,), (128.0,))
    return evofool.Target(Linear(), preprocessing, tuple("abcde"), files=FILES)
'''
FUNCTIONS = ("dropout", "one mask", "batch mean", "batch norm", "place", "memory", "parts in a list")
CHANGING = ("counter", "train()", "drift")


def trial_functions(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """Networks whose outputs depend on more than the image, in turn before a run and before it goes on."""
    return _refused(FUNCTIONS, trials, folder, seed)


def trial_changing(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """Networks that change their own weights or buffers, likewise."""
    return _refused(CHANGING, trials, folder, seed)


def _refused(modes: tuple[str, ...], trials: int, folder: Path, seed: int) -> Outcome:
    draw, outcome, toy = random.Random(seed), Outcome(), _toy(folder)
    whole = toy.undisturbed()
    for trial in range(trials):
        mode, late = modes[trial % len(modes)], bool(trial // len(modes) % 2)
        strength, run, shared = 10 ** draw.uniform(-2, -0.3), folder / f"run-{trial}", Shared()
        with outcome.trial(f"{mode} of {strength:.3f}, {'resumed' if late else 'new'}"):
            if late:
                assert _child(toy, run, shared, "search.generations=4")[0] == 0
            with mock.patch.dict(os.environ, CHAOS_MODE=mode, CHAOS_STRENGTH=str(strength)):
                code, said = _child(toy, run, Shared())
            assert code == TargetError.exit_code, f"ended with {code}: {said}"
            assert "Traceback" not in said, said
            outcome.counts[f"{'resumes' if late else 'runs'} refused"] += 1
            if late:
                promised_commits_are_there(run, shared)
            else:
                assert not run.exists(), "a run that never began left something behind"
            assert toy.finish(run) == whole, "another archive once the network behaves"
        shutil.rmtree(run, ignore_errors=True)
    return outcome


def trial_exchanged(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """A byte of the weights that a network's own code reads is another one when the run goes on.

    In every other trial the target names the file. Else only the canary tells, and no change of numerics is offered.
    """
    draw, outcome = random.Random(seed), Outcome()
    for named in (False, True):
        (place := folder / f"named-{named}").mkdir()
        toy, weights = _toy(place, named=named), place / "weights.bin"
        whole, sound = toy.undisturbed(), weights.read_bytes()
        for trial in range(named, trials, 2):
            run, shared, at = place / f"run-{trial}", Shared(), draw.randrange(len(sound))
            other = draw.choice([value for value in range(1, 256) if value != sound[at]])
            with outcome.trial(f"byte {at} is {other}, named: {named}"):
                assert _child(toy, run, shared, "search.generations=4")[0] == 0
                weights.write_bytes(sound[:at] + bytes([other]) + sound[at + 1 :])
                try:
                    for option in ((), ("--allow-numerics-change",)):
                        code, said = _child(toy, run, Shared(), *option)
                        assert code == IncompatibleRun.exit_code, f"ended with {code}: {said}"
                        assert "Traceback" not in said and "--allow-numerics-change" not in said, said
                        outcome.counts["resumes refused"] += 1
                finally:
                    weights.write_bytes(sound)
                promised_commits_are_there(run, shared)
                assert toy.finish(run) == whole, "another archive once the weights are back"
            shutil.rmtree(run, ignore_errors=True)
    return outcome


def _toy(folder: Path, *, named: bool = False) -> Toy:
    weights = folder / "weights.bin"
    weights.write_bytes(bytes([1, 2, 3, 4, 5]))
    code = TARGET.replace("WEIGHTS", str(weights)).replace("FILES", f"({str(weights)!r},)" if named else "()")
    return Toy(folder, generations=8, target=code)


def _child(toy: Toy, run: Path, shared: Shared, *more: str) -> tuple[int, str]:
    """The command in a child: exit code, and the end of what it said."""
    child = Child(toy.folder / "output", command, [*toy.arguments(run), *more], shared, 0.0)
    return child.wait(), child.said()


SABOTAGE: dict[str, Callable[[], Any]] = {
    "no-soundness": lambda: mock.patch.object(evaluator, "refuse_unsound", lambda *given, **named: None),
    "no-platforms": lambda: mock.patch.object(evaluator, "is_alike", lambda *given: False),
}
