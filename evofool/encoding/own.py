"""Operators of the user's own, in place of the toolbox's `select`, `mate` and `mutate`; and DEAP's operators as such.

An own operator works on a whole batch and gets the run's seed and the generation, so that its numbers can have
addresses (rng.uniforms) and a resumed run breeds the same children:

    mutate(seed, generation, genomes) -> (genomes, changed)             changed: (n,) bool
    mate(seed, generation, first, second) -> (children, crossed)        crossed: (n,) bool, which have two parents
    select(seed, generation, archive, count) -> ids                     (count, 2) int64, ids of elites

`genomes` is (n, height, width, channels) float32 in [0, 1] for direct encodings, `cppn.graphs.Graphs` for CPPNs.
Configurations name own operators in `variation.operators`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evofool.archive.cells import Archive
from evofool.base import rng
from evofool.base.source import Source
from evofool.base.usercode import load_callable
from evofool.config import Config
from evofool.encoding.arrays import Numbers
from evofool.encoding.names import operator_bit
from evofool.errors import ConfigError
from evofool.records import Genomes

__all__ = ["Operator", "Operators", "deap_crossover", "deap_mutation", "load_operators"]

Operator: TypeAlias = Callable[..., Any]  # of a toolbox, or one of the user's: see above for its signature
Operators: TypeAlias = Mapping[str, Operator]  # the user's own, by the name they take in the toolbox


def load_operators(
    config: Config, allow_code: bool, code: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[str, Operator], dict[str, str]]:
    """The operators that `variation.operators` names, ready for a toolbox, and {spec: sha256 (hex) of its file}.

    Args:
        code: the sha256 (hex) that the file of each spec must have; that of a spec without one may have any.

    Raises:
        ConfigError: code is not allowed, or no such file, module or callable exists.
        IncompatibleRun: a file is not the one it has to be.
    """
    adapters: dict[str, Operator] = {"select": _select, "mate": _mate, "mutate": _mutate}
    operators: dict[str, Operator] = {}
    hashes: dict[str, str] = {}
    for name, spec in config.variation.operators.items():
        source = Source(spec, allow_code, key="variation.operators", sha256=code.get(spec, ""))
        function, hashes[spec] = load_callable(source)
        operators[name] = partial(adapters[name], function, spec, config.seed)
    return operators, hashes


def _mutate(
    function: Operator, spec: str, seed: int, generation: int, genomes: Genomes
) -> tuple[Genomes, NDArray[np.uint32]]:
    children, changed = _call(function, spec, len(genomes), 2, seed, generation, genomes)
    return children, np.asarray(changed, dtype=bool) * operator_bit("own")


def _mate(
    function: Operator, spec: str, seed: int, generation: int, first: Genomes, second: Genomes
) -> tuple[Genomes, NDArray[np.bool_]]:
    children, crossed = _call(function, spec, len(first), 2, seed, generation, first, second)
    return children, np.asarray(crossed, dtype=bool)


def _select(
    function: Operator, spec: str, seed: int, archive: Archive, generation: int, count: int
) -> NDArray[np.int64]:
    ids = np.asarray(_call(function, spec, count, 1, seed, generation, archive, count), dtype=np.int64)
    if ids.shape != (count, 2) or not np.isin(ids, archive.elites[archive.filled]).all():
        raise ConfigError(f"variation.operators: {spec} must return ({count}, 2) ids of current elites.")
    return ids


def _call(function: Operator, spec: str, rows: int, parts: int, *arguments: Any) -> Any:
    """What the user's function returns, checked: a sequence of `rows` rows, or two of them where `parts` is 2."""
    try:
        result = function(*arguments)
        sizes = [len(part) for part in result] if parts == 2 else [len(result)]
    except Exception as error:
        raise ConfigError(f"variation.operators: {spec} raised {type(error).__name__}: {error}") from error
    if sizes != [rows] * parts:
        raise ConfigError(f"variation.operators: {spec} returned {sizes} rows where {[rows] * parts} are wanted.")
    return result


# ------------------------------------------------------------------------------------------------- DEAP's operators


def deap_mutation(operator: Operator, **arguments: Any) -> Operator:
    """A DEAP mutation such as `tools.mutGaussian` as an own operator for direct genomes.

    Args:
        operator: takes a list of floats and returns a tuple that holds it, as DEAP's do.
        arguments: of the operator, e.g. mu=0.0, sigma=0.1, indpb=0.05. Children are clipped to [0, 1].
    """

    def mutate(seed: int, generation: int, genomes: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
        with _seeded(seed, "own.mutate", generation):
            rows = [operator(genome.ravel().tolist(), **arguments)[0] for genome in genomes]
        children = _pixels(rows, genomes.shape)
        return children, (children != genomes).reshape(len(genomes), -1).any(axis=1)

    return mutate


def deap_crossover(operator: Operator, rate: float = 0.5, **arguments: Any) -> Operator:
    """A DEAP crossover such as `tools.cxBlend` as an own operator for direct genomes.

    Args:
        operator: takes two lists of floats and returns both; the first is the child.
        rate: chance that a pair is crossed; else the child is a copy of the first parent.
        arguments: of the operator. Children are clipped to [0, 1].
    """

    def mate(seed: int, generation: int, first: Numbers, second: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
        crossed = rng.uniforms(seed, "own.mate.apply", generation, (len(first),)) < rate
        with _seeded(seed, "own.mate", generation):
            rows = [
                operator(a.ravel().tolist(), b.ravel().tolist(), **arguments)[0] if is_crossed else a.ravel()
                for a, b, is_crossed in zip(first, second, crossed)
            ]
        return _pixels(rows, first.shape), crossed

    return mate


def _pixels(rows: list[Sequence[float]], shape: tuple[int, ...]) -> Numbers:
    values = np.array(rows, dtype=np.float64)
    return np.clip(np.nan_to_num(values), 0.0, 1.0).astype(np.float32).reshape(shape)


@contextmanager
def _seeded(seed: int, domain: str, generation: int) -> Iterator[None]:
    """The global generators that DEAP's operators draw from, seeded by address and put back afterwards."""
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002 - DEAP users draw from it too
    word = int(rng.words(seed, domain, generation, 1)[0])
    random.seed(word)
    np.random.seed(word & 0xFFFFFFFF)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002
