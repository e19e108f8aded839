"""Without a GPU: what its code can be held to. Torch keeps books of devices for tensors that it does not compute
(FakeTensorMode); and pretend/ is a GPU that works on the processor, in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from handmade import Do
from torch._subclasses.fake_tensor import FakeTensorMode

import evofool
from evofool.encoding import variation
from evofool.encoding.contract import Encoding
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import render
from evofool.errors import ConfigError, EvaluationFailed
from evofool.evaluate import settings
from evofool.evaluate.evaluator import Evaluator
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.pool import at_once
from evofool.machines.bench.genomes import grown
from evofool.records import Cells, Numerics
from evofool.targets.target import Target

PRETEND = Path(__file__).parent / "pretend"
NUMERICS = Numerics("cpu", 4, 4, 1, "contiguous")
ENCODINGS: list[Encoding] = [
    *(
        CppnEncoding(21, 30, colour, arithmetic=arithmetic)
        for colour, arithmetic in (("hsv", "torch"), ("grey", "portable"), ("hsv", "portable"), ("hls2015", "portable"))
    ),
    *(DirectEncoding(21, 30, colour) for colour in ("grey", "hsv", "hls2015")),
]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: f"{e.kind}-{e.colour}-{getattr(e, 'arithmetic', '')}")
def test_everything_that_is_drawn_meets_on_the_gpu(encoding: Encoding) -> None:
    cppn = isinstance(encoding, CppnEncoding)
    genomes = grown(encoding, 8, 12) if cppn else variation.initial(encoding, 1, 0, 8)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        for _, values in render._tiles(encoding, genomes, "cuda"):
            assert render._quantised(values, encoding).device.type == "cuda"


def test_a_gpu_draws_a_chunk_in_few_tiles() -> None:
    """Its time goes into launching operations, of which a tile takes as many however large it is."""
    encoding = CppnEncoding(224, 224, "hsv")
    genomes = grown(encoding, 64, 24)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        assert len(list(render._tiles(encoding, genomes, "cuda"))) <= 4
    assert len(list(render._tiles(encoding, genomes, "cpu"))) > 20


@pytest.mark.parametrize(("geometry", "crops"), [("native", 1), ("published", 1), ("native", 10)])
def test_everything_that_is_scored_meets_on_the_gpu(geometry: str, crops: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "numpy", lambda tensor: np.zeros(tensor.shape, np.float32))
    preprocessing = evofool.Preprocessing((28, 28), 3, (9.0, 8.0, 7.0), (99.0, 98.0, 97.0), resize=32, crop=28)
    seen = []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        with torch.device("cuda"):
            net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5), torch.nn.Flatten(), torch.nn.Linear(2304, 10))
        net.append(Do(lambda x: seen.append(x.device.type) or x))
        target = Target(net, preprocessing, tuple("0123456789"), geometry=geometry, crops=crops)
        images = torch.zeros((5, *target.image_size, 3), dtype=torch.uint8, device="cuda")
        assert target.outputs(images).shape == (5, 10)
    assert seen == ["cuda"] * crops


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "lower evaluation.micro_batch"),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), "resume in a new one"),
    ],
)
def test_a_device_that_fails_is_no_fault_of_the_networks(error: Exception, way_out: str) -> None:
    fails: list[bool] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        if fails:
            raise error
        return x.flatten(1)

    target = Target(Do(network), evofool.Preprocessing((2, 2), 1, (0.0,), (1.0,)), tuple("abcd"))
    pool = InlinePool(lambda: Evaluator(target, None, Cells(np.arange(4)), NUMERICS), NUMERICS)
    fails.append(True)  # after the canary
    with pytest.raises(EvaluationFailed, match=way_out):
        at_once(pool, "score_images", np.zeros((4, 2, 2, 1), np.uint8))


@pytest.mark.parametrize(("value", "late"), [(":0:0", False), (":4096:8", True)])
def test_a_cublas_that_is_not_deterministic_is_refused(value: str, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", value)
    monkeypatch.setattr(settings, "_came_too_late", late)
    on_gpu = Numerics("cuda", 4, 4, 1, "contiguous")
    with pytest.raises(ConfigError, match="CUBLAS_WORKSPACE_CONFIG"), settings.applied(on_gpu):
        pass
    with settings.applied(NUMERICS):  # which a processor does not need
        pass


# ----------------------------------------------------------------------------------------------- a pretended GPU


def pretended(folder: Path, *arguments: object, gpu: bool = True) -> subprocess.CompletedProcess[str]:
    """The command line, where torch says that it has a GPU."""
    environment = {**os.environ, "RAY_ADDRESS": "local"} | ({"PYTHONPATH": str(PRETEND)} if gpu else {})
    command = [sys.executable, "-m", "evofool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=200)


def facts_of(folder: Path, name: str) -> dict[str, Any]:
    run = evofool.open_run(folder / "runs" / name)
    return {**run.provenance, "hash": run.archive_hash}


@pytest.fixture
def keys(lenet_file: Path) -> list[object]:
    """The arguments of a small run."""
    sizes = ["search.offspring=20", "search.initial=20", "search.generations=4"]
    shapes = ["evaluation.chunk=10", "evaluation.micro_batch=10"]
    return [ROOT / "configs" / "quickstart.yaml", f"target.spec=lenet:{lenet_file}", *sizes, *shapes]


@pytest.mark.proof
@pytest.mark.slow
def test_a_run_takes_the_gpu_that_there_is_and_does_not_go_on_without(tmp_path: Path, keys: list[object]) -> None:
    for name, device in (("gpu", "auto"), ("cpu", "cpu")):
        result = pretended(
            tmp_path, "run", *keys, f"name={name}", f"evaluation.device={device}", "evaluation.pool=inline"
        )
        assert result.returncode == 0, result.stderr
    gpu, cpu = facts_of(tmp_path, "gpu"), facts_of(tmp_path, "cpu")
    assert gpu["hash"] == cpu["hash"] and gpu["numerics"]["device"] == "cuda"
    described = "a pretended GPU, 1 multiprocessors, CUDA "
    assert gpu["sessions"][0]["cluster"]["gpu"].startswith(described) and "gpu" not in cpu["sessions"][0]["cluster"]
    assert pretended(tmp_path, "verify", "runs/gpu").returncode == 0
    for command in (["verify", "runs/gpu"], ["resume", "runs/gpu", "search.generations=6"]):
        refused = pretended(tmp_path, *command, gpu=False)
        assert refused.returncode == 3 and "GPU" in refused.stderr
    planned = pretended(
        tmp_path, "cluster", "plan", *keys, "evaluation.pool=inline", "evaluation.evaluators_per_gpu=99", "--json"
    )
    plan = json.loads(planned.stdout)
    assert {"name": "GPU memory of one evaluator", "value": 64.0}.items() <= {
        key: value for figure in plan["figures"] if "GPU" in figure["name"] for key, value in figure.items()
    }.items()
    assert any("evaluators_per_gpu" in warning for warning in plan["warnings"])


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.ray
def test_evaluators_share_a_gpu(tmp_path: Path, keys: list[object]) -> None:
    shared = ["evaluation.evaluators=auto", "evaluation.evaluators_per_gpu=2"]
    result = pretended(tmp_path, "run", *keys, *shared, "name=shared")
    assert result.returncode == 0, result.stderr
    result = pretended(tmp_path, "run", *keys, "name=alone", "evaluation.pool=inline")
    assert result.returncode == 0, result.stderr
    facts, session = facts_of(tmp_path, "shared"), facts_of(tmp_path, "shared")["sessions"][0]
    assert facts["numerics"]["device"] == "cuda" and session["evaluators"] == 2
    assert [node["gpu"][:15] for node in session["nodes"]] == ["a pretended GPU"]
    assert facts["hash"] == facts_of(tmp_path, "alone")["hash"]
