"""Torch's settings belong to whoever uses evofool: a pool in their process puts back all that it changes."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from handmade import Do

import evofool
from evofool.errors import TargetError
from evofool.evaluate.evaluator import Evaluator
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.pool import at_once
from evofool.evaluate.settings import Settings
from evofool.records import Cells, Numerics

NUMERICS = Numerics("cpu", 4, 4, 1, "contiguous")
IMAGES = np.zeros((8, 2, 2, 1), dtype=np.uint8)
UNUSUAL = Settings(False, False, True, True, True, "medium", "tf32", "tf32", "tf32", "bf16", "bf16", "bf16")
THREADS = 2


@pytest.fixture(autouse=True)
def unusual() -> object:
    """What the user has set: the opposite of what evaluators need, in everything."""
    before, threads = Settings.present(), torch.get_num_threads()
    UNUSUAL.apply()
    torch.set_num_threads(THREADS)
    yield
    assert (Settings.present(), torch.get_num_threads()) == (UNUSUAL, THREADS)
    before.apply()
    torch.set_num_threads(threads)


def pool_of(function: object, numerics: Numerics = NUMERICS) -> InlinePool:
    preprocessing = evofool.Preprocessing((2, 2), 1, (0.0,), (1.0,))
    target = evofool.Target(Do(function), preprocessing, ("a", "b", "c", "d"))
    return InlinePool(lambda: Evaluator(target, None, Cells(np.arange(4)), numerics), numerics)


@pytest.mark.parametrize("field", Settings.__dataclass_fields__)
def test_every_setting_differs_here_from_what_evaluators_need(field: str) -> None:
    assert field == "warn_only" or getattr(UNUSUAL, field) != getattr(Settings.of(NUMERICS), field)


def test_settings_are_an_evaluators_only_while_it_works() -> None:
    seen = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append((Settings.present(), torch.get_num_threads()))
        return x.flatten(1)

    pool = pool_of(network)
    assert Settings.present() == UNUSUAL
    opening = len(seen)
    at_once(pool, "score_images", IMAGES)
    assert len(seen) == opening + 2 > 2 and set(seen) == {(Settings.of(NUMERICS), 1)}


def test_an_evaluator_works_where_a_newer_setting_contradicts_an_older_one() -> None:
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.conv.fp32_precision = "tf32"  # after which torch refuses to say what allow_tf32 is
    before = Settings.present()
    assert before.older_cudnn_tf32 is None
    seen = []
    pool = pool_of(lambda x: seen.append(Settings.present()) or x.flatten(1))
    at_once(pool, "score_images", IMAGES)
    assert set(seen) == {Settings.of(NUMERICS)} and Settings.present() == before
    UNUSUAL.apply()


EVALUATES = """
import os, sys, torch
from evofool.evaluate.settings import Settings, applied
from evofool.records import Numerics

with applied(Numerics("cpu", 4, 4, 1, "contiguous")):
    assert Settings.present() == Settings() and os.environ["TORCHINDUCTOR_DETERMINISTIC"] == "1"
assert not Settings.present().deterministic and os.environ["TORCHINDUCTOR_DETERMINISTIC"] == "0"
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""


@pytest.mark.slow
def test_evaluating_loads_no_compiler() -> None:
    said = subprocess.run([sys.executable, "-c", EVALUATES], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n", "seconds of every process that evaluates"


def test_settings_are_put_back_after_an_error() -> None:
    luck = [True]

    def network(x: torch.Tensor) -> torch.Tensor:
        if not luck:
            raise ValueError("no luck")
        return x.flatten(1)

    pool = pool_of(network)
    luck.clear()
    with pytest.raises(TargetError, match="no luck"):
        at_once(pool, "score_images", IMAGES)


def test_pools_in_threads_have_their_own_and_leave_the_users() -> None:
    wrong, done = [], []

    def work(numerics: Numerics) -> None:
        def network(x: torch.Tensor) -> torch.Tensor:
            if Settings.present() != Settings.of(numerics):
                wrong.append(numerics)
            return x.flatten(1)

        pool = pool_of(network, numerics)
        for _ in range(40):
            at_once(pool, "score_images", IMAGES)
        done.append(numerics)

    kinds = [replace(NUMERICS, precision=precision) for precision in ("float32", "tf32", "float32", "tf32")]
    threads = [threading.Thread(target=work, args=(numerics,)) for numerics in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4 and not wrong
