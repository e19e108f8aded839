"""`evofool cluster plan`: what a run would be and take, before it is made: evaluations, time, memory, disk.

Three kinds of figures, and every one says which it is: exact (they follow from the configuration), measured (here, in a
few seconds, in processes of their own), estimated (measured, then extended by a rule that is written beside it).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field

from evofool.base.source import Source
from evofool.config import Config, fingerprint
from evofool.evaluate.memory import available_mib, gpu_mib, gpus
from evofool.evaluate.problem import Problem
from evofool.evaluate.resolving import resolve_numerics
from evofool.evaluate.room import demand, room
from evofool.machines.disk import disk_bytes
from evofool.machines.probe import Probe, Reading, opened_problem
from evofool.machines.rehearsal import MIB, BreedingMemory, FirstGenerations, Rehearsal
from evofool.machines.sweep import passes, share_used
from evofool.records import Facts, Numerics
from evofool.targets.specs import source_of

__all__ = ["Figure", "Plan", "generations_of", "plan"]

HERE = "this machine"
PROBE_SECONDS = 3.0
OPEN_END = 1000  # generations that the figures are for where the configuration names no limit


@dataclass(frozen=True)
class Figure:
    """One figure of a plan."""

    name: str
    value: float
    unit: str
    how: str  # "exact", "measured" or "estimated"
    low: float | None = None
    high: float | None = None
    rule: str = ""


@dataclass
class Plan:
    """What a run would be (`facts`) and take (`figures`), and what stands in its way (`warnings`)."""

    facts: Facts
    figures: list[Figure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Figure:
        return next(figure for figure in self.figures if figure.name == name)

    def add(self, name: str, value: float, unit: str, how: str, *, rule: str = "", **limits: float) -> None:
        """Add a figure."""
        self.figures.append(Figure(name, value, unit, how, rule=rule, **limits))


def generations_of(config: Config) -> int | None:
    """Generations until `search.generations` or `search.max_evaluations` stops a run; None without either."""
    search = config.search
    limits = [search.generations] if search.generations is not None else []
    if search.max_evaluations is not None:
        bred = search.max_evaluations - search.lag * search.initial  # the others are random
        random_alone = math.ceil(search.max_evaluations / search.initial)
        limits.append(search.lag + math.ceil(bred / search.offspring) if bred > 0 else random_alone)
    return min(limits, default=None)


def evaluations_in(config: Config, generations: int) -> int:
    """Individuals scored in the first generations of a run."""
    return sum(individuals * count for individuals, count in _sizes(config, generations))


def _sizes(config: Config, generations: int) -> list[tuple[int, int]]:
    """[(individuals of a generation, generations of that size)] of the first generations of a run."""
    random = min(generations, config.search.lag)
    return [(config.search.initial, random), (config.search.offspring, generations - random)]


def plan(
    config: Config,
    *,
    address: str | None = None,
    allow_code: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Plan a run. Writes nothing and makes no run directory.

    Args:
        address: of the Ray cluster it would run on; this machine by default.
        tell: receives a sentence now and then.

    Raises:
        EvofoolError: what the run itself would stop with: no such target or class, code that may not run.
        ResourcesMissing: no cluster answers at the address.
    """
    source = source_of(config.target, allow_code)
    problem = opened_problem(config, source)
    family, settings, search = problem.target.family, config.evaluation, config.search
    warnings: list[str] = []
    supply, where = _supply(config, address)
    numerics = resolve_numerics(settings, family, supply["GPU"] > 0)
    evaluators = _evaluators(config, numerics, supply, where, warnings)
    generations = generations_of(config)
    result = Plan(_facts(problem, numerics, evaluators, where), warnings=warnings)
    if generations is None:
        generations = OPEN_END
        limit = "search.max_time" if search.max_time is not None else "search.stop_when or an interrupt"
        warnings.append(f"only {limit} ends this run; the figures are for {generations} generations.")
    elif search.stop_when or search.max_time is not None:
        warnings.append("search.stop_when or search.max_time may end this run earlier; the figures are upper limits.")
    if where != HERE:
        warnings.append("speed and memory were measured on this machine; the cluster's nodes may differ.")
    measured = numerics
    if numerics.device == "cuda" and not gpus():
        measured = resolve_numerics(settings.model_copy(update={"device": "cpu"}), family, False)
        warnings.append("there is no GPU here, so speed was measured on a processor; a GPU is many times faster.")
    tell("measuring, for about a quarter of a minute ...")
    measurement = _measure(config, source, measured, evaluators > 1)
    _work(result, config, numerics, generations)
    _time(result, config, numerics, evaluators, generations, measurement)
    _memory(result, problem, evaluators, measurement, local=where == HERE)
    _disk(result, config, generations, measurement.first)
    return result


@dataclass(frozen=True)
class _Measurement:
    alone: Reading  # one evaluator
    beside: Reading  # one beside another
    memory: tuple[float, float]  # of one, resident and peak, in MiB
    breeding: BreedingMemory
    first: FirstGenerations


def _facts(problem: Problem, numerics: Numerics, evaluators: int, where: str) -> Facts:
    target, config = problem.target, problem.config
    height, width = target.image_size
    return {
        "target": target.spec,
        "target_fingerprint": problem.opened.fingerprint,
        "cells": len(problem.cells),
        "outputs": len(target.class_names),
        "image": f"{height} x {width} x {target.channels}",
        "geometry": target.geometry,
        "crops": target.crops,
        "encoding": f"{problem.genomes.kind}, {problem.genomes.colour}",
        "config_fingerprint": fingerprint(config),
        "seed": config.seed,
        "run": f"{config.storage.path}/{config.run_name}",
        "pool": config.evaluation.pool,
        **asdict(numerics),
        "evaluators": evaluators,
        "on": where,
    }


def _supply(config: Config, address: str | None) -> tuple[dict[str, float], str]:
    """Processors and GPUs of the cluster, or of this machine, and which of the two it is."""
    named = address or os.environ.get("RAY_ADDRESS")
    if config.evaluation.pool == "ray" and named and named != "local":
        from evofool.evaluate.over_ray.cluster import connected

        with connected(config.evaluation, address) as cluster:
            return {name: cluster.supply(name) for name in ("CPU", "GPU")}, f"the cluster at {named}"
    return {"CPU": float(len(os.sched_getaffinity(0))), "GPU": float(gpus())}, HERE


def _evaluators(config: Config, numerics: Numerics, supply: dict[str, float], where: str, warnings: list[str]) -> int:
    """How many evaluators would be scheduled at once (as RayPool has it)."""
    settings, threads = config.evaluation, numerics.threads
    if settings.pool == "inline":
        return 1
    count, cores = settings.evaluators, supply["CPU"]
    if where == HERE and count != "auto" and count * threads > cores:
        warnings.append(f"{count} evaluators of {threads} threads share {cores:g} cores; fewer are as fast.")
        cores = count * threads  # which a cluster that the run starts here offers
    possible = room({**supply, "CPU": cores}, demand(threads, numerics.device, settings.evaluators_per_gpu))
    if possible < 1:
        warnings.append(f"no evaluator can be scheduled on {where}: each needs {threads} cores; lower threads.")
        return 1
    if count == "auto":
        return possible
    if count > possible:
        warnings.append(f"{count} evaluators are asked for, {possible} can be scheduled; {count - possible} will wait.")
    return min(count, possible)


def _measure(config: Config, source: Source, numerics: Numerics, several: bool) -> _Measurement:
    """One evaluator alone and beside another, the memory of one, and a rehearsal."""
    with closing(Probe(Rehearsal, config, source, 0)) as one, closing(Probe(Rehearsal, config, source, 1)) as two:
        breeding = two.call("breeding")
        one.call("begin", numerics)
        alone = beside = one.call("measure", PROBE_SECONDS)
        memory = one.call("memory")
        if several:
            two.call("begin", numerics)
            for probe in (one, two):
                probe.ask("measure", PROBE_SECONDS / 2)
            beside = one.answer()
            two.answer()
        return _Measurement(alone, beside, memory, breeding, two.call("evolve", numerics, 2 * PROBE_SECONDS))


def _work(result: Plan, config: Config, numerics: Numerics, generations: int) -> None:
    result.add("generations", generations, "", "exact")
    result.add("evaluations", evaluations_in(config, generations), "", "exact")
    sizes, each = _sizes(config, generations), config.target.crops * len(config.target.specs)
    count = sum(passes(individuals, numerics) * number for individuals, number in sizes) * each
    result.add("forward passes", count, "", "exact")
    images = count * numerics.micro_batch
    result.add(
        "images through the network", images, "", "exact", rule="with padding, crops, and every network of an ensemble"
    )


def _time(
    result: Plan, config: Config, numerics: Numerics, evaluators: int, generations: int, measurement: _Measurement
) -> None:
    search, driver = config.search, measurement.first.driver_seconds
    alone, beside = measurement.alone.per_second, measurement.beside.per_second
    slow, fast = sorted((alone, beside))
    share = share_used(numerics, evaluators, search.offspring, search.lag)
    rule = "low and high: beside another, and alone"
    result.add("evaluations a second of one evaluator", beside, "/s", "measured", low=slow, high=fast, rule=rule)
    rule = f"{evaluators} times that, times {share:.2f} for padding and waiting"
    result.add("evaluations a second of all", beside * evaluators * share, "/s", "estimated", rule=rule)
    result.add("driver's seconds a generation", driver, "s", "measured")

    def seconds(rate: float) -> float:
        scoring = search.offspring / (rate * evaluators * share)
        waits = config.evaluation.pool == "inline" or search.lag == 1  # driver and evaluators take turns
        return generations * (scoring + driver if waits else max(scoring, driver))

    expected = seconds(beside)
    low, high = seconds(fast), 1.5 * expected
    rule = "range: evaluators as fast as one alone; half as slow again, as genomes grow"
    if search.max_time is not None:
        expected, low, high = (min(search.max_time, value) for value in (expected, low, high))
    result.add("time", expected, "s", "estimated", low=low, high=high, rule=rule)


def _memory(result: Plan, problem: Problem, evaluators: int, measurement: _Measurement, *, local: bool) -> None:
    search, breeding, (_, peak) = problem.config.search, measurement.breeding, measurement.memory
    bred = breeding.bytes_a_row * max(search.offspring, search.initial) / MIB
    in_flight = search.lag * search.offspring * breeding.genome_bytes / MIB
    elites = len(problem.cells) * (breeding.genome_bytes + measurement.first.sizes.png * 2) / MIB
    driver = breeding.base_mib + bred + in_flight + elites
    parts = f"measured; a generation bred {bred:.0f}, in flight {in_flight:.0f}, elites {elites:.0f}"
    if problem.config.evaluation.pool == "inline":
        total = peak + bred + in_flight + elites
        result.add("memory of the process", total, "MiB", "estimated", rule=f"evaluator {peak:.0f} {parts}")
    else:
        result.add("memory of one evaluator", peak, "MiB", "measured", rule="its peak; may grow with the genomes")
        result.add("memory of the driver", driver, "MiB", "estimated", rule=f"{breeding.base_mib:.0f} {parts}")
        total = driver + evaluators * peak
        result.add("memory of all", total, "MiB", "estimated")
    if measurement.first.gpu_mib:
        per_gpu, each, total = problem.config.evaluation.evaluators_per_gpu, measurement.first.gpu_mib, gpu_mib()
        rule = "torch's peak; CUDA itself takes some hundred MiB more for each process"
        result.add("GPU memory of one evaluator", each, "MiB", "measured", rule=rule)
        if per_gpu * each > total:
            result.warnings.append(
                f"evaluation.evaluators_per_gpu: {per_gpu} evaluators of {each:.0f} MiB do not fit on a GPU of "
                f"{total:.0f} MiB; lower it, or evaluation.micro_batch."
            )
    free = available_mib()
    if local and total > free:
        result.warnings.append(
            f"this machine has {free:.0f} MiB free, the run would take about {total:.0f}; lower search.offspring, "
            "evaluation.micro_batch or evaluation.evaluators."
        )
    elif not local and driver > free:
        result.warnings.append(f"the driver would take about {driver:.0f} MiB; this machine has {free:.0f} free.")


def _disk(result: Plan, config: Config, generations: int, first: FirstGenerations) -> None:
    evaluations, curve = evaluations_in(config, generations), first.placements
    expected, low, high = (curve.at(evaluations, how) for how in ("expected", "low", "high"))
    rule = f"{curve.total} measured in {curve.evaluations} evaluations, then a power law"
    result.add("placements", round(expected), "", "estimated", low=round(low), high=round(high), rule=rule)

    def disk(placements: float, history: str) -> dict[str, float]:
        # The first individuals take many cells each; later nearly every placement has an individual of its own
        # (measured: 0.93 to 0.96 individuals a placement over 25,000 evaluations against 50 ImageNet classes).
        people = min(placements, first.individuals + max(0.0, placements - curve.total))
        return disk_bytes(first.sizes, config.storage, generations, placements, people, history)

    history, rule = config.storage.history, "bytes of a row measured"
    # With "lineage", something between nothing and everything is dropped.
    likely, least, most = ("full", "elites", "full") if history == "lineage" else (history,) * 3
    if history != "full":
        rule += f"; storage.history: {history}, "
        rule += "before a compaction" if history == "elites" else "if all were ancestors"
    parts = disk(expected, likely)
    for name, value in parts.items():
        result.add(f"disk: {name}", value / MIB, "MiB", "estimated")
    # A run with fewer placements may never be compacted, and take more.
    whole, *others = (sum(p.values()) / MIB for p in (parts, disk(low, least), disk(high, most)))
    result.add("disk", whole, "MiB", "estimated", low=min(whole, *others), high=max(whole, *others), rule=rule)
