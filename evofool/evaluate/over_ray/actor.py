"""What runs in a Ray worker: an evaluator, and how long its answers took."""

from __future__ import annotations

import os
import socket
import threading
import time

import ray

from evofool.errors import first_line
from evofool.evaluate.evaluator import Evaluator, device_failed
from evofool.evaluate.memory import gpu_described, keep_freed_memory, peak_rss_mib, platform
from evofool.evaluate.pool import Batch, Result
from evofool.evaluate.problem import Recipe
from evofool.evaluate.settings import settle
from evofool.records import Facts
from evofool.targets.target import DEVICE_FAILURES

__all__ = ["Actor"]

WATCH_SECONDS = 1.0


def _end_with_parent() -> None:
    """End this process once its raylet is gone. Ray leaves such workers alive for long, and they hold the GPU."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="evofool-watchdog").start()


class Actor:
    """An evaluator in a Ray worker; `hello` comes first, and again after a restart."""

    _recipe: Recipe
    _evaluator: Evaluator

    def __init__(self) -> None:
        _end_with_parent()

    def hello(self, recipe: Recipe) -> Facts:
        """Build the evaluator (in the constructor, an error would be the actor's death), and give `Worker.facts`."""
        keep_freed_memory()
        settle(recipe.numerics)
        try:
            self._recipe, self._evaluator = recipe, recipe.build()
            canary = self._evaluator.canary()
        except DEVICE_FAILURES as error:
            raise device_failed(recipe.numerics, error) from error
        return {
            "canary": canary,
            "platform": platform(recipe.numerics.device),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "node": ray.get_runtime_context().get_node_id(),
            "gpu": gpu_described() if recipe.numerics.device == "cuda" else "",
        }

    def perform(self, verb: str, batch: Batch) -> tuple[Result, float, float]:
        """Do what a verb says; its result, the seconds that took, and the peak RSS of this process in MiB."""
        started = time.perf_counter()
        try:
            result = self._recipe.verbs[verb].perform(self._evaluator, batch)
        except DEVICE_FAILURES as error:
            # The device's memory may stay in disorder, so a new process goes on; the driver treats it as a loss.
            print(f"evofool: the device failed, ending this evaluator: {first_line(error)}", flush=True)
            os._exit(1)
        return result, time.perf_counter() - started, peak_rss_mib()
