"""`observers.trackers: [tensorboard]`: the history of a run as curves.

`tensorboard --logdir runs` shows those of a folder of runs. The logs are in RUN/_tensorboard, a name which readers of
the run skip; of a run in an object store, in its working copy on this machine.
"""

from __future__ import annotations

import math
from dataclasses import asdict

from evofool.config import to_yaml
from evofool.config.sections import OF_CLASSES
from evofool.errors import ConfigError
from evofool.runs.observers.observer import Committed, GenerationPlaced, Observer, RunEnded, RunStarted

__all__ = ["TensorBoard"]


class TensorBoard(Observer):
    """Every number of the history against the generation, evaluators and their pace, and the configuration as text.

    A resume appends; of generations that a killed driver logged and did not commit, TensorBoard shows the later values.

    Raises:
        ConfigError: its package is not there.
    """

    extra = "tensorboard"

    def __init__(self) -> None:
        try:
            from torch.utils import tensorboard
        except ImportError:
            raise ConfigError(
                "observers.trackers: tensorboard needs the package tensorboard: pip install 'evofool[tensorboard]', or "
                "say observers.trackers=[]."
            ) from None
        self._open = tensorboard.SummaryWriter
        self._writer: tensorboard.SummaryWriter | None = None

    def on_start(self, event: RunStarted) -> None:
        # Steps from `purge_step` on that are there already are a killed driver's.
        first = 0 if event.resumed_at is None else event.resumed_at + 1
        self._units = "units" in event.provenance
        self._writer = self._open(str(event.path / "_tensorboard"), purge_step=first)
        self._writer.add_text("config", "```yaml\n" + to_yaml(event.config) + "```", first)

    def on_generation(self, event: GenerationPlaced) -> None:
        if self._writer is None:
            return
        pace = {"evaluators": event.evaluators, "evaluations_per_second": event.evaluations_per_second}
        numbers = asdict(event.statistics) | {"requeued": event.requeued} | pace
        step = numbers.pop("generation")
        for name, value in numbers.items():
            if not (self._units and (name in OF_CLASSES or math.isnan(value))):
                self._writer.add_scalar(name, value, step)

    def on_commit(self, event: Committed) -> None:
        if self._writer is not None:
            self._writer.flush()

    def on_end(self, event: RunEnded) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
