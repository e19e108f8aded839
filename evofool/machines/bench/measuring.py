"""Measuring in turns: each part once in a round, in reversed order in every other, never two at the same time."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from evofool.base import provenance
from evofool.base.places import as_path, as_url
from evofool.config import Config
from evofool.errors import ConfigError
from evofool.evaluate.memory import gpus
from evofool.evaluate.resolving import resolve_numerics
from evofool.machines.bench.continued import GENERATIONS, Stretch, refuse_unfit
from evofool.machines.bench.forward import Rivals
from evofool.machines.bench.results import Bench, Stage
from evofool.machines.bench.workbench import Workbench
from evofool.machines.probe import Probe, opened_problem
from evofool.machines.sweep import FINALISTS, Choice, alternated, coarse
from evofool.records import Facts, Numerics
from evofool.store import files
from evofool.store.run import stored_config
from evofool.targets.specs import source_of

__all__ = ["bench", "in_turns"]

COARSE, MAKING = 0.25, 0.2  # shares of the time: for the sweep over shapes, and for making an archive
LEAST_OFFSPRING = 4
FORWARD, WHOLE = 2.0, 6.0  # weights of a round's time, beside 0.5 for each part


def bench(
    config: Config,
    *,
    seconds: float = 120.0,
    repeats: int = 5,
    run: Path | None = None,
    ray: bool = True,
    allow_code: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Bench:
    """Measure the network alone, the parts of a search and the whole of it, on this machine.

    Args:
        seconds: about how long; a round is at least two generations of each search long.
        repeats: rounds.
        run: whose archive the search goes on from; None: one is made, and removed at the end.
        ray: whether to measure over Ray too.
        tell: receives a sentence now and then.

    Raises:
        ConfigError: no rounds or no time, or a run of another target, encoding or classes, or a short one.
        EvofoolError: what a run itself would stop with.
    """
    if repeats < 1 or not seconds > 0:
        raise ConfigError(f"bench needs at least one round and some time, not --repeats {repeats} --seconds {seconds}.")
    source = source_of(config.target, allow_code)
    problem = opened_problem(config, source)
    numerics = resolve_numerics(config.evaluation, problem.target.family, gpus() > 0)
    if run is not None:
        refuse_unfit(run, problem, allow_code)
    with ExitStack() as stack:
        stack.enter_context(_terminable())
        place = tempfile.gettempdir() if as_url(config.storage.path) else config.storage.path
        folder = stack.enter_context(_folder(as_path(place)))
        rivals = stack.enter_context(closing(Rivals(config, source, numerics.device)))
        rivals.start()
        workbench = stack.enter_context(closing(Probe(Workbench, config, source)))
        workbench.call("memory")  # it is ready, and at rest
        present = Choice(numerics, rivals.evaluators(numerics.threads))
        tell(f"measuring the network alone, in the shapes and processes that suit it; about {COARSE * seconds:.0f} s.")
        choices, why = coarse(rivals, present, COARSE * seconds)
        if not choices:
            raise ConfigError("there is not enough memory to measure the network in any shape.")
        choices = choices[:FINALISTS]
        machine: Facts = {**provenance.facts(), "gpus": gpus(), "load_before": os.getloadavg()[0]}
        machine["versions"] = provenance.versions()
        facts: Facts = {"not_measured": why, "numerics": asdict(numerics), "machine": machine}
        if run is None:
            run, archive = _made(workbench, config.search.offspring, folder, MAKING * seconds, numerics, tell)
        else:
            archive = {"run": str(run), "made": False, "offspring": stored_config(run).search.offspring}
        archive |= workbench.call("open", run, folder)
        stretches: dict[str, list[Stretch]] = {}
        inline = _end_to_end("inline", numerics.threads, lambda s: workbench.call("stretch", s), stretches)
        stages = [*_parts(workbench, numerics.threads), inline]
        if ray:
            tell("starting Ray's evaluators.")
            from evofool.machines.bench.over_ray import over_ray

            search, trip = stack.enter_context(over_ray(problem, run, folder, numerics, present.evaluators, tell))
            stages.append(Stage("round trip", "ray", 1, lambda s: trip.measure(s).per_second))
            stages.append(_end_to_end("ray", present.evaluators * numerics.threads, search.stretch, stretches))
        forwards = [_forward(rivals, choice) for choice in choices]
        stages.insert(0, _forward(rivals, choices[0], "measure_bytes"))
        used = COARSE + MAKING * bool(archive["made"])
        tell(f"measuring everything {repeats} times in turns; about {(1 - used) * seconds:.0f} s.")
        in_turns([*forwards, *stages], repeats, (1 - used) * seconds)
    pool = config.evaluation.pool if config.evaluation.pool in stretches else "inline"
    facts |= {"archive": archive, "repeats": repeats, "seconds": seconds, "config": config.model_dump()}
    return Bench(stages, forwards, choices, stretches, pool, facts)


def in_turns(stages: list[Stage], repeats: int, seconds: float) -> None:
    """Measure every stage once in each round; in odd rounds the last comes first."""
    unit = seconds / repeats / sum(stage.weight for stage in stages)
    for number in range(repeats):
        for stage in alternated(stages, number):
            stage.rounds.append(stage.take(unit * stage.weight))


def _forward(rivals: Rivals, choice: Choice, method: str = "measure") -> Stage:
    """The network alone, in one choice of shapes and processes."""

    def take(seconds: float) -> float:
        rate = rivals.rate(choice, seconds, method)
        if rate is None:
            raise ConfigError("the network alone no longer fits into memory; end what else runs here.")
        return rate

    kind = "network alone" if method == "measure" else "with uint8 input"
    return Stage("forward", kind, choice.evaluators * choice.numerics.threads, take, FORWARD)


def _end_to_end(
    pool: str, cores: int, stretch: Callable[[float], Stretch], stretches: dict[str, list[Stretch]]
) -> Stage:
    """The whole search by a pool, whose stretches are added to `stretches`."""
    stretches[pool] = []

    def take(seconds: float) -> float:
        stretches[pool].append(stretch(seconds))
        return stretches[pool][-1].per_second

    return Stage("end_to_end", pool, cores, take, WHOLE)


def _parts(workbench: Probe, threads: int) -> list[Stage]:
    """What the workbench measures; rendering has the threads of one evaluator, the rest is one core's."""

    def part(name: str, genomes: str) -> Stage:
        cores = threads if name in ("render", "quantise") else 1
        return Stage(name, genomes, cores, lambda s: float(workbench.call("part", name, genomes, s).per_second))

    order = ("render", "quantise", "transfer", "score", "vary", "place", "commit")
    return [part(*key) for key in sorted(workbench.call("parts"), key=lambda key: order.index(key[0]))]


def _made(
    workbench: Probe, wanted: int, folder: Path, seconds: float, numerics: Numerics, tell: Callable[[str], None]
) -> tuple[Path, Facts]:
    """A run to go on from, with `wanted` offspring in a generation, or fewer where those would take too long."""
    pace = workbench.call("pace", numerics)
    offspring = max(min(wanted, LEAST_OFFSPRING), min(wanted, int(pace * seconds / GENERATIONS)))
    fewer = f" instead of {wanted}, which would take too long; --run RUN goes on from a run of yours"
    tell(f"making an archive: {GENERATIONS} generations of {offspring}{fewer * (offspring < wanted)}.")
    out = folder / "archive"
    workbench.call("make", offspring, numerics.micro_batch, out)
    return out, {"run": None, "made": True, "offspring": offspring}


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end this process by an exception, so that folders and processes do not stay behind."""
    if threading.current_thread() is not threading.main_thread():  # who may not set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _folder(place: Path) -> Iterator[Path]:
    """A temporary folder where the configuration keeps its runs, so that commits go to the disk they would go to."""
    existed = place.exists()
    with files.guard(place, "make a folder for the benchmark"):
        place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="_bench-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not existed and not any(place.iterdir()):
            place.rmdir()
