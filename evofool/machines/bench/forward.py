"""The rival: the target's network in a plain torch loop that shares nothing with evofool's evaluator.

It gets every advantage: float input that is normalised and laid out beforehand, always whole batches, freed memory that
is kept, no determinism, and of all shapes, layouts, threads and processes those that are fastest alone on the machine.
"""

from __future__ import annotations

import numpy as np
import torch

from evofool.base.source import Source
from evofool.config import Config
from evofool.evaluate.memory import gpus
from evofool.machines.probe import Reading, Subject, repeated
from evofool.machines.sweep import Choice, Machine
from evofool.records import Numerics
from evofool.targets.opening import open_target

__all__ = ["Rival", "Rivals"]


class Rival(Subject):
    """The network alone, in this process."""

    def __init__(self, config: Config, source: Source, index: int) -> None:
        super().__init__(config, source, index)
        self.target = open_target(config.target, source=source).target

    def build(self, numerics: Numerics) -> None:
        """Lay the network out, make its input and warm it with one pass."""
        torch.set_num_threads(numerics.threads)
        self.rows, self.device = numerics.micro_batch, numerics.device
        layout = torch.channels_last if numerics.memory_format == "channels_last" else torch.contiguous_format
        random = np.random.default_rng(0)
        self.target = self.target.to(numerics.device, numerics.memory_format)
        shape = (self.rows, *self.target.image_size, self.target.channels)
        self.images = torch.from_numpy(random.integers(0, 256, shape, dtype=np.uint8)).to(numerics.device)
        self.inputs = []  # of each network
        for part in self.target.parts:
            p = part.preprocessing
            pixels = torch.from_numpy(random.random((self.rows, p.channels, *p.image_size), dtype=np.float32)) * 255
            mean, std = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (p.mean, p.std))
            self.inputs.append(((pixels - mean) / std).to(device=numerics.device, memory_format=layout))
        self.measure(0.0)

    def measure(self, seconds: float) -> Reading:
        """Pass the prepared input through the network again and again; a row counts as often as it has crops."""

        def work() -> None:
            for _ in range(self.target.crops):
                for part, given in zip(self.target.parts, self.inputs):
                    part.module(given)
            if self.device == "cuda":  # which works on after the call has returned
                torch.cuda.synchronize()

        with torch.inference_mode():
            return repeated(work, self.rows, seconds)

    def measure_bytes(self, seconds: float) -> Reading:
        """The same from uint8 images: conversion, normalisation and layout are the target's."""
        with torch.inference_mode():
            return repeated(lambda: self.target.outputs(self.images), self.rows, seconds)


class Rivals(Machine):
    """As many rivals as fit on the machine, measured at the same time, in any number of processes and threads."""

    kind = Rival

    def evaluators(self, threads: int) -> int:
        """All that fit, whatever the configuration says."""
        return max(1, gpus() if self.device == "cuda" else self.cores // threads)

    def arrangements(self) -> list[tuple[int, int]]:
        """1, 2, 4, ... processes of 1, 2, 4, ... threads, as far as there are cores for them."""
        counts = sorted({1, *(self.evaluators(threads) for threads in self.threads())})
        return [(t, count) for t in self.threads() for count in counts if count <= self.evaluators(t)]

    def share(self, choice: Choice) -> float:
        """A plain loop has neither padding nor generations to wait for."""
        return 1.0
