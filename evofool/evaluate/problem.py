"""Problems: what a run, a study or a measurement scores, and the recipes that evaluators elsewhere are built from."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from evofool.archive.objectives import load_objective
from evofool.base.source import Source
from evofool.config.sections import Config, TargetConfig
from evofool.encoding.contract import Encoding
from evofool.encoding.cppn.activations import activation_sources, load_activations
from evofool.encoding.kinds import make_encoding
from evofool.encoding.own import Operators, load_operators
from evofool.errors import ConfigError, IncompatibleRun
from evofool.evaluate.evaluator import VERBS, Evaluator, Verb
from evofool.records import Cells, Numerics, Unit
from evofool.targets.opening import OpenTarget, built
from evofool.targets.readout import readouts_of, refuse_layer
from evofool.targets.target import Target

__all__ = ["Problem", "Recipe", "cells_of", "picture_problem", "problem_of", "unit_problem"]


@dataclass(frozen=True)
class Recipe:
    """All that an evaluator is built from, in any process."""

    section: TargetConfig
    source: Source | Target  # a live target is sent as it is, any other as its source
    fingerprint: str  # of the target
    encoding: Encoding | None
    cells: Cells
    objective: Source
    activations: tuple[Source, ...]
    numerics: Numerics
    verbs: Mapping[str, Verb] = field(default_factory=lambda: dict(VERBS))

    def build(self) -> Evaluator:
        """An evaluator in this process.

        Raises:
            IncompatibleRun: this machine's copy of the target is another one.
        """
        target = self.source if isinstance(self.source, Target) else built(self.source, self.section)
        if target.fingerprint() != self.fingerprint:
            raise IncompatibleRun(
                f"{target.spec}: its weights or preprocessing on {socket.gethostname()} are not the run's."
            )
        load_activations(self.activations)
        objective, _ = load_objective(self.objective)
        return Evaluator(target, self.encoding, self.cells, self.numerics, objective)


@dataclass(frozen=True)
class Problem:
    """What evaluators score, and what a search needs to breed for them.

    Attributes:
        opened: the target in this process, and what builds it elsewhere.
        encoding: of the genomes; None where pictures are scored that no genome drew.
        objective: what cells rank by.
        activations: the user's own, that genomes use.
        operators: the user's own, in place of the toolbox's `select`, `mate` or `mutate`.
        code: sha256 (hex) of the user's files with activations, objective and operators, by spec.
    """

    config: Config
    opened: OpenTarget
    encoding: Encoding | None
    cells: Cells
    objective: Source
    activations: tuple[Source, ...] = ()
    operators: Operators = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        return self.opened.target

    @property
    def genomes(self) -> Encoding:
        """The encoding, of a problem that has one."""
        assert self.encoding is not None
        return self.encoding

    def evaluator(self, numerics: Numerics) -> Evaluator:
        """An evaluator in this process."""
        objective, _ = load_objective(self.objective)
        return Evaluator(self.target, self.encoding, self.cells, numerics, objective)

    def recipe(self, numerics: Numerics) -> Recipe:
        """What evaluators elsewhere are built from."""
        opened = self.opened
        return Recipe(
            opened.section,
            opened.source,
            opened.fingerprint,
            self.encoding,
            self.cells,
            self.objective,
            self.activations,
            numerics,
        )


def problem_of(
    config: Config,
    opened: OpenTarget,
    *,
    allow_code: bool,
    code: Mapping[str, str] = MappingProxyType({}),
    searches: bool = True,
) -> Problem:
    """The problem that a configuration poses.

    Args:
        allow_code: whether the user's own activations, objective and operators may run.
        code: the sha256 (hex) that their files must have, by spec, where a run was made with them.
        searches: whether individuals will be bred and ranked; else neither operators nor the objective are loaded.

    Raises:
        ConfigError: no such class, activation, objective or operator, or code that may not run.
        IncompatibleRun: code is not what it was.
    """
    target = opened.target
    activations = activation_sources(config, allow_code, code)
    hashes = load_activations(activations)
    encoding = make_encoding(config.encoding, target.image_size, target.channels, hashes)
    objective = Source("log_odds")
    operators: Operators = {}
    if searches:
        spec = config.search.objective
        objective = Source(spec, allow_code, key="search.objective", sha256=code.get(spec, ""))
        ranks, sha256 = load_objective(objective)
        if ranks.layer:
            refuse_layer(target, ranks.layer)
            _refuse_compiled(config, ranks.layer, "the objective")
        if sha256:
            hashes[spec] = sha256
        operators, more = load_operators(config, allow_code, code)
        hashes |= more
    return Problem(config, opened, encoding, cells_of(config, target), objective, activations, operators, hashes)


def _refuse_compiled(config: Config, layer: str, reader: str) -> None:
    """Raise ConfigError where evaluators cannot read a layer."""
    if config.evaluation.compile != "none":
        raise ConfigError(
            f"evaluation.compile: {config.evaluation.compile} compiles the layer {layer} away, which {reader} "
            "reads; say evaluation.compile=none."
        )


def cells_of(config: Config, target: Target) -> Cells:
    """The cells of an archive: one for each class, or one for each unit that target.readouts names."""
    if config.target.readouts:
        return _units(config, target, config.target.readouts, "target.readouts")
    return Cells(target.class_indices(config.target.classes))


def _units(config: Config, target: Target, texts: Sequence[str], key: str) -> Cells:
    """A cell for each of some readouts; `key` is for messages."""
    readouts = readouts_of(target, texts, key)
    _refuse_compiled(config, readouts[0].layer, key)
    units = tuple(Unit(readout.layer, readout.channel, str(readout)) for readout in readouts)
    return Cells(np.arange(len(units)), units=units)


def picture_problem(config: Config, opened: OpenTarget, objective: str = "log_odds") -> Problem:
    """Pictures that no genome drew, scored for every output of a target; `objective` by name."""
    cells = Cells(np.arange(len(opened.target.class_names)))
    return Problem(config, opened, None, cells, Source(objective, key="search.objective"))


def unit_problem(config: Config, opened: OpenTarget, readouts: Sequence[str], key: str) -> Problem:
    """Pictures that no genome drew, by what they excite: readouts by their texts; `key` is for messages.

    Raises:
        ConfigError, TargetError: as `readouts_of`.
    """
    return Problem(config, opened, None, _units(config, opened.target, readouts, key), Source("log_odds"))
