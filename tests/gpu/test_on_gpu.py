"""What only a GPU can show; `make gpu-check` asks the larger questions. None of it runs without one."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from handmade import Do
from torch import nn

import evofool
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.drawing import render
from evofool.encoding.drawing.reference import ACTIVATIONS
from evofool.errors import EvaluationFailed
from evofool.evaluate.evaluator import Evaluator
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.memory import gpu_described
from evofool.evaluate.pool import at_once
from evofool.evaluate.settings import Settings
from evofool.machines.bench.genomes import grown
from evofool.records import Cells, Numerics
from evofool.targets.zoo import lenet

pytestmark = pytest.mark.needs_gpu

NUMERICS = Numerics("cuda", 64, 64, 1, "contiguous")
QUICK = {"name": "quick", "encoding": {"kind": "cppn"}, "evaluation": {"pool": "inline"}}
SMALL = ["search.offspring=50", "search.initial=50", "search.generations=4"]


def images(rows: int = 64) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (rows, 28, 28, 1), dtype=np.uint8)


def pool_of(module: nn.Module, numerics: Numerics = NUMERICS) -> InlinePool:
    target = lenet.build(module, tuple("0123456789"))
    return InlinePool(lambda: Evaluator(target, None, Cells(np.arange(10)), numerics), numerics)


def network() -> nn.Module:
    torch.manual_seed(1)
    return lenet.network()


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) & set(render.ACTIVATIONS["portable"])))
def test_a_portable_activation_has_a_processors_bits(name: str) -> None:
    rng = np.random.default_rng(1)
    bits = np.concatenate([rng.integers(0, 2**32, 1 << 20, dtype=np.uint32), np.arange(1 << 16, dtype=np.uint32) << 16])
    numbers = bits.view(np.float32)
    here, there = torch.from_numpy(numbers.copy()), torch.from_numpy(numbers).cuda()
    for values in (here, there):
        render.ACTIVATIONS["portable"][name](values)
    a, b = here.numpy(), there.cpu().numpy()
    assert np.array_equal(np.isnan(a), np.isnan(b))
    assert np.array_equal(a[~np.isnan(a)].view(np.uint32), b[~np.isnan(b)].view(np.uint32))


@pytest.mark.parametrize(
    ("colour", "coordinates", "output"),
    list(itertools.product(("grey", "hsv", "rgb", "hls2015"), ("unit", "raw"), ("shifted", "absolute"))),
)
def test_a_portable_picture_has_a_processors_bytes(colour: str, coordinates: str, output: str) -> None:
    encoding = CppnEncoding(61, 94, colour, coordinates, output, arithmetic="portable")
    genomes = grown(encoding, 40, 20, 3)
    assert np.array_equal(render.render(encoding, genomes, "cuda"), render.render(encoding, genomes, "cpu"))


def test_torch_is_left_as_it_was_and_scores_come_again() -> None:
    before = Settings.present()
    pool = pool_of(network())
    first, second = (at_once(pool, "score_images", images()).log_odds for _ in range(2))
    assert Settings.present() == before and np.array_equal(first, second)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_a_precision_is_near_float32(precision: str) -> None:
    exact = at_once(pool_of(network()), "score_images", images()).log_odds
    other = at_once(pool_of(network(), replace(NUMERICS, precision=precision)), "score_images", images()).log_odds
    assert 0 <= np.abs(exact - other).max() < 0.1


def test_memory_that_does_not_suffice_is_told_of_and_given_back() -> None:
    def greedy(x: torch.Tensor) -> torch.Tensor:
        return x.new_empty((1 << 44,))[: len(x) * 10].view(len(x), 10)

    with pytest.raises(EvaluationFailed, match=r"lower evaluation\.micro_batch"):
        pool_of(Do(greedy))
    assert len(at_once(pool_of(network()), "score_images", images())) == 64


def test_an_error_of_cuda_ends_the_process_with_a_sentence(tmp_path: Path) -> None:
    """In a process of its own, since the GPU does nothing for that one any more."""
    file = tmp_path / "faulty.py"
    file.write_text(
        "import torch, evofool\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        x = x.flatten(1)[:, :4]\n"
        "        return x[:, torch.full((4,), 9, device=x.device)]\n"
        "def build():\n"
        "    p = evofool.Preprocessing((8, 8), 1, (0.0,), (255.0,))\n"
        "    return evofool.Target(Net(), p, tuple('abcd'))\n"
    )
    code = (
        "import evofool\n"
        f"keys = ['target.spec=python:{file}:build', 'storage.path={tmp_path}']\n"
        f"try: evofool.run({QUICK!r}, keys, allow_code=True)\n"
        "except evofool.EvofoolError as error: print(error.exit_code, error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.startswith("7 ") and "resume in a new one" in result.stdout, result.stderr


def test_a_run_takes_the_gpu_and_says_which_and_refuses_to_go_on_without(tmp_path: Path) -> None:
    run = evofool.run(QUICK, SMALL, target=lenet.build(network(), tuple("0123456789")), out=tmp_path / "run")
    assert run.provenance["numerics"]["device"] == "cuda"
    assert run.provenance["sessions"][-1]["cluster"] == {"gpu": gpu_described()} and gpu_described()
    target = lenet.build(network(), tuple("0123456789"))
    assert evofool.verify(run.path, target=target)["within_tolerance"] == 0
    code = (
        "import evofool, torch\nfrom evofool.targets.zoo import lenet\ntorch.manual_seed(1)\n"
        "target = lenet.build(lenet.network(), tuple('0123456789'))\n"
        f"try: evofool.resume({str(run.path)!r}, ['search.generations=6'], target=target)\n"
        "except evofool.EvofoolError as error: print(error.exit_code, error)\n"
    )
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=hidden, timeout=120)
    assert result.stdout.startswith("3 ") and "no GPU" in result.stdout, result.stderr
