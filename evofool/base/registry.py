"""What can be added to evofool without touching anything else: a file with the new thing, and its row in a table here.

A row is a name and the place, "module:attribute", of what has it; it is imported when somebody asks for it, so that a
table can be read without torch or pandas. What each kind of thing has to offer, with an example that works, is in
docs/extend.md; a suite for each kind in tests/contract/ is run over every row.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["ENCODINGS", "FAMILIES", "OBJECTIVES", "POOLS", "STUDIES", "TRACKERS", "VIEWS", "known", "load"]

ENCODINGS = {  # encoding.kind: an encoding.contract.Kind
    "direct": "evofool.encoding.direct.kind:KIND",
    "cppn": "evofool.encoding.cppn.kind:KIND",
}
OBJECTIVES = {  # search.objective: an archive.objectives.Objective
    "log_odds": "evofool.archive.objectives:LOG_ODDS",
    "margin": "evofool.archive.objectives:MARGIN",
    "top1_required": "evofool.archive.objectives:TOP1_REQUIRED",
}
FAMILIES = {  # the scheme of target.spec: a targets.family.Family
    "lenet": "evofool.targets.zoo.lenet:FAMILY",
    "mlp": "evofool.targets.zoo.mlp:FAMILY",
    "resnet": "evofool.targets.zoo.resnet:FAMILY",
    "bagnet": "evofool.targets.zoo.bagnet:FAMILY",
    "head": "evofool.targets.zoo.head:FAMILY",
    "efficientnet-lite": "evofool.targets.zoo.efficientnet_lite:FAMILY",
    "torchvision": "evofool.targets.zoo.torchvision_networks:FAMILY",
    "timm": "evofool.targets.zoo.timm_networks:FAMILY",
    "python": "evofool.targets.zoo.python:FAMILY",
}
POOLS = {  # evaluation.pool: opens an evaluate.pool.Pool
    "inline": "evofool.evaluate.inline:open_inline",
    "ray": "evofool.evaluate.over_ray.opening:open_over_ray",
}
TRACKERS = {  # observers.trackers: makes a runs.observers.observer.Observer
    "tensorboard": "evofool.runs.observers.tensorboard:TensorBoard",
}
STUDIES = {  # `evofool study NAME`, its question: a studies.study.Study
    "transfer": ("Are other networks as sure of the elites?", "evofool.studies.transfer:STUDY"),
    "compare": ("Which of several configurations fools the network sooner or better?", "evofool.studies.compare:STUDY"),
    "siblings": ("Are classes that have many like them harder to fool for?", "evofool.studies.siblings:STUDY"),
    "score": ("What does a network say of any pictures?", "evofool.studies.score:STUDY"),
    "lineage": ("From whom do elites descend, and are elites of related classes kin?", "evofool.studies.lineage:STUDY"),
}
VIEWS = {  # what a store.reader.Run shows of itself; its methods say what each is
    "accessor": "evofool.report.accessor:Elites",
    "genome": "evofool.report.html:Genome",
    "page": "evofool.report.html:run_page",
    "curves": "evofool.report.figures:curves",
    "classes": "evofool.report.figures:classes",
    "elites": "evofool.report.figures:elites",
    "lineage": "evofool.report.figures:lineage",
    "goal_switches": "evofool.report.figures:switches",
}


def load(place: str) -> Any:
    """What is at a place, "module:attribute"."""
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def known(name: str, table: Mapping[str, object] | Iterable[str]) -> str:
    """The end of a sentence about a name that is not in a table: the one that was meant, or all there are."""
    names = list(table)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}."
