"""`evofool watch`: how soon it shows a long run, and what it takes from a run that it watches."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import evofool
from benchmarks.measure import Settings, alone
from evofool.config import fingerprint, load_config
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.errors import Stopped
from evofool.machines.bench.genomes import grown
from evofool.records import NO_PARENT, GenerationResult, Offspring, Placements, Scores, Statistics
from evofool.runs.observers.observer import GenerationPlaced
from evofool.store import folders
from evofool.store.run import RunStore

__all__ = ["in_short", "long_run", "markdown", "measure", "on_a_terminal"]

CLASSES = 1000
WATCHED = 1.0  # per cent that watching may cost


def long_run(path: Path, generations: int, seed: int = 1) -> Path:
    """A run of 1000 classes with made-up scores: an elite of every class at once, later about five a generation.

    A commit has ten generations, as by default.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    config = load_config(
        {
            "name": "long",
            "target": {"spec": "torchvision:resnet50"},
            "search": {"generations": generations},
            "evaluation": {"pool": "inline"},
        }
    )
    facts: dict[str, Any] = {
        "evofool": "0",
        "run_id": "0" * 16,
        "config_fingerprint": fingerprint(config),
        "config_spec": config.target.spec,
        "target": config.target.spec,
        "image_size": [224, 224],
        "channels": 3,
        "cells": CLASSES,
        "class_indices": list(range(CLASSES)),
        "class_names": [f"class {i}" for i in range(CLASSES)],
        "encoding": "cppn",
        "sessions": [],
    }
    folders.make_folders(path)
    store = RunStore.create(path, config, facts, None)
    encoding = CppnEncoding(224, 224, "hsv")
    batch = grown(encoding, 64, 12)
    blobs = [encoding.to_bytes(batch, row) for row in range(64)]
    odds, elites = np.full(CLASSES, -np.inf, dtype=np.float32), np.full(CLASSES, NO_PARENT, dtype=np.int64)
    total, size = 0, 200
    nothing = Scores.not_finite(size, 1)
    for generation in range(generations):
        few = CLASSES if generation == 0 else 1 + rng.poisson(4)
        cells = np.sort(rng.choice(CLASSES, few, replace=False)).astype(np.int32)
        slots = rng.integers(0, size, few).astype(np.int32)
        before, displaced = odds[cells], elites[cells]
        odds[cells] = np.where(np.isfinite(before), before, -7.0) + rng.exponential(1.0, few).astype(np.float32)
        elites[cells] = (generation << 24) + slots.astype(np.int64)
        total += few
        confidence = 1 / (1 + np.exp(-odds.astype(np.float64)))
        placed = Placements(generation, cells, slots, odds[cells], displaced, before, odds[cells])
        told = Statistics(
            generation=generation,
            offspring=size,
            evaluations=size * (generation + 1),
            placements=few,
            placements_total=total,
            non_finite=0,
            filled=CLASSES,
            unique_elites=len(np.unique(elites)),
            median=float(np.median(confidence)),
            minimum=float(confidence.min()),
            classes_99=int((confidence >= 0.99).sum()),
            classes_9999=int((confidence >= 0.9999).sum()),
            top1_share=1.0,
            stale=0,
            seconds=4.0 * (generation + 1),
        )
        offspring = Offspring(generation, None, np.full((size, 2), NO_PARENT), np.ones(size, dtype=np.uint32))
        genomes = {int(slot): blobs[(generation + int(slot)) % 64] for slot in slots}
        store.append(
            GenerationResult(offspring, nothing, placed, told, bytes(32), genomes, dict.fromkeys(genomes, (19, 40)))
        )
        if generation % 10 == 9:
            store.commit(elites, numerics={}, counters={"evaluations": told.evaluations})
    return path


@contextlib.contextmanager
def on_a_terminal(*arguments: object, columns: int = 120, lines: int = 44) -> Iterator[Any]:
    """`evofool ARGUMENTS` on a terminal of its own: (process, file to type into, what it has written so far)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    command = [sys.executable, "-m", "evofool", *map(str, arguments)]
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    for name in ("COLUMNS", "LINES"):  # they would be believed rather than the terminal
        environment.pop(name, None)
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = bytearray()

    def drain() -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            while data := os.read(ours, 1 << 16):
                written.extend(data)

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    try:
        yield process, ours, written
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join(5)
        os.close(ours)


def _starts(repeats: int, generations: int) -> list[dict[str, float]]:
    """Seconds, by the clock and of a processor, until `evofool watch` shows a long run; beside `evofool status`."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = long_run(Path(folder) / "run", generations)
        for _ in range(repeats):
            row = {}
            for name in ("status", "watch"):
                command = [sys.executable, "-m", "evofool", name, str(path)]
                started, before = time.perf_counter(), os.times()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                after = os.times()
                row[name] = time.perf_counter() - started
                row[f"{name}_cpu"] = (
                    after.children_user - before.children_user + after.children_system - before.children_system
                )
            found.append(row)
    return found


class _Clock(evofool.Observer):
    """When each generation ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_generation(self, event: GenerationPlaced) -> None:
        self.times.append(time.perf_counter())

    def rate(self, start: float, stop: float) -> float:
        """Generations a second."""
        done = np.interp([start, stop], self.times, np.arange(len(self.times)))
        return float(done[1] - done[0]) / (stop - start)


def _watched(spec: str, pairs: int, seconds: float) -> dict[str, Any]:
    """Generations a second of a run on one core that is watched from the same core, and not, in turns.

    One process watches all the time; it is stopped by a signal while the run is to be alone.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    clock, spans, spent = _Clock(), list[tuple[bool, float, float]](), list[float]()
    ended = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"

        def look() -> None:
            while not (path / "_evofool" / "commits" / "00000000.json").exists():
                time.sleep(0.1)
            with on_a_terminal("watch", path) as (process, _, written):
                while b"newest elites" not in written:
                    time.sleep(0.1)
                watcher = psutil.Process(process.pid)
                for turn in range(2 * pairs):
                    is_on = turn % 4 in (0, 3)
                    watcher.resume() if is_on else watcher.suspend()
                    used = watcher.cpu_times()
                    start = time.perf_counter()
                    time.sleep(seconds)
                    spans.append((is_on, start, time.perf_counter()))
                    if is_on:
                        now = watcher.cpu_times()
                        spent.append((now.user + now.system - used.user - used.system) / seconds)
                watcher.resume()
            ended.set()

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        # It goes on until the other thread has seen enough, which ends it as Ctrl-C does.
        threading.Thread(target=lambda: (ended.wait(), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
        keys = [f"target.spec={spec}", "evaluation.pool=inline", "search.generations=null", "search.stop_when=[]"]
        with contextlib.suppress(Stopped):
            evofool.run("configs/mnist_cppn.yaml", keys, out=path, observers=[clock])
        assert ended.is_set()
    os.sched_setaffinity(0, before)
    rates = {is_on: [clock.rate(start, stop) for on, start, stop in spans if on == is_on] for is_on in (True, False)}
    return {"watched": rates[True], "alone": rates[False], "share": spent, "generations": len(clock.times)}


def measure(settings: Settings) -> dict[str, Any]:
    """See bench.py."""
    generations, pairs, seconds = (200, 1, 4.0) if settings.quick else (5000, 8, 40.0)
    return {
        "generations": generations,
        "starts": _starts(settings.repeats, generations),
        "watched": alone(_watched, settings.spec, pairs, seconds),
    }


def _slower(watched: dict[str, list[float]]) -> tuple[float, float, float]:
    """Per cent by which a run is slower while it is watched: of the medians; and the quartiles of the pairs."""
    pairs = [100 * (1 - one / other) for one, other in zip(watched["watched"], watched["alone"])]
    whole = 100 * (1 - statistics.median(watched["watched"]) / statistics.median(watched["alone"]))
    return (whole, *(float(q) for q in np.quantile(pairs, (0.25, 0.75))))


def markdown(results: dict[str, Any]) -> str:
    """See bench.py."""
    of = {name: statistics.median(row[name] for row in results["starts"]) for name in results["starts"][0]}
    watched = results["watched"]
    whole, low, high = _slower(watched)
    share = 100 * statistics.median(watched["share"])
    return "\n".join(
        [
            "| what | found |",
            "|---|---|",
            f"| a run of {results['generations']} generations and {CLASSES} classes, until `evofool watch` shows it | "
            f"{of['watch']:.1f} s, of a processor {of['watch_cpu']:.1f} s |",
            f"| `evofool status` of it | {of['status']:.1f} s, of a processor {of['status_cpu']:.1f} s |",
            f"| of the one core on which a run and its watcher are: what watching takes | {share:.2f} % |",
            f"| the run's generations a second, watched beside alone, {len(watched['alone'])} pairs in turns | "
            f"{whole:.1f} % fewer (half of the pairs: {low:.1f} to {high:.1f} %) |",
        ]
    )


def in_short(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """See bench.py."""
    whole, _, _ = _slower(results["watched"])
    share = 100 * statistics.median(results["watched"]["share"])
    return [
        ("a watched run is slower by", f"{whole:.1f} % (its watcher takes {share:.2f} %)", f"{WATCHED:g} % at most")
    ]
