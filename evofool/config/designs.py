"""Designs of experiments: a YAML file that names a configuration, factors with their levels, and seeds.

    name: controls
    config: quickstart                     # a preset or a file
    overrides: {search.generations: 50}    # of the configuration, in every run
    factors:
      search.mode: [map_elites, single_class]     # a key with its values, of which the first is the reference
      sine:                                       # or levels by name, each with the keys that it sets
        with: {}
        without: {encoding.activations: [sigmoid, gaussian, linear]}
    seeds: 1-3
    layout: full_factorial                 # or one_at_a_time: factors away from their first level one by one

Every combination is a configuration like any other, and is checked before the first run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

from evofool.base.places import as_path, as_url
from evofool.base.registry import known
from evofool.config.files import Overrides, listed, load_config, parse_yaml, read_text
from evofool.config.keys import fingerprint, flatten, key_table
from evofool.config.sections import Config
from evofool.errors import ConfigError
from evofool.records import Facts

__all__ = ["MAX_RUNS", "Design", "Trial", "load_design", "parse_seeds"]

MAX_RUNS = 10_000
LAYOUTS = ("full_factorial", "one_at_a_time")
_NEEDED, _MORE = ("name", "config", "factors", "seeds"), ("overrides", "layout")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_LONGEST = 80  # characters of the name of a factor or level
_GIVEN = ("name", "seed", "schema_version")  # keys that the design itself decides


@dataclass(frozen=True)
class Trial:
    """One run of a design: a level of each factor, and a seed.

    Attributes:
        levels: by factor, in the order of the design.
        overrides: of the design's configuration, all that is this run's.
        run_name: of its folder; another for each configuration, so that a run never has to be another one.
    """

    levels: Mapping[str, str]
    seed: int
    overrides: tuple[str | Mapping[str, object], ...]
    config: Config

    @property
    def run_name(self) -> str:
        return self.config.run_name


@dataclass(frozen=True)
class Design:
    """Which runs are to be made, and what of.

    Attributes:
        config: path of a YAML file, or the name of a preset.
        overrides: of the configuration, in every run.
        factors: {factor: {level: {key: value}}}; the first level of each is what the others are compared with.
        folder: where runs and table are kept.
    """

    name: str
    config: str
    overrides: tuple[str | Mapping[str, object], ...]
    factors: Mapping[str, Mapping[str, Facts]]
    seeds: tuple[int, ...]
    layout: str
    folder: Path

    def combinations(self) -> list[dict[str, str]]:
        """The levels of the factors, {factor: level} each, seed aside; the first has all at their first level."""
        names = [list(levels) for levels in self.factors.values()]
        if self.layout == "full_factorial":
            return [dict(zip(self.factors, levels)) for levels in product(*names)]
        first = {factor: next(iter(levels)) for factor, levels in self.factors.items()}
        return [first] + [
            {**first, factor: level} for factor, levels in self.factors.items() for level in list(levels)[1:]
        ]

    def trials(self) -> list[Trial]:
        """All runs, seed after seed for each combination.

        Raises:
            ConfigError: a combination is no configuration.
        """
        return [self._trial(levels, seed) for levels in self.combinations() for seed in self.seeds]

    def _trial(self, levels: Mapping[str, str], seed: int) -> Trial:
        changes = tuple(self.factors[factor][level] for factor, level in levels.items())
        said = ", ".join(f"{factor} {level}" for factor, level in levels.items())
        try:
            config = load_config(self.config, [*self.overrides, *changes])
        except ConfigError as error:
            raise ConfigError(f"{self.name}: at {said}: {error.message}") from None
        _refuse_endless(self.name, config)
        more = {"name": f"{_identity(config, changes)}-{{seed}}", "seed": seed, "storage.path": str(self.folder)}
        return Trial(levels, seed, (*self.overrides, *changes, more), load_config(config, [more]))


def parse_seeds(text: str) -> list[int]:
    """The seeds that a text means: [1, 2, 3, 8] of "1-3,8"; ValueError if it is none."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        numbers += range(int(first), int(last) + 1) if dash else [int(first)]
    if not numbers:
        raise ValueError(text)
    return numbers


def load_design(path: str | Path, overrides: Overrides = (), *, out: str | Path | None = None) -> Design:
    """Read a design, and check that each of its runs has a configuration.

    Args:
        overrides: of the configuration, in every run, after those of the file.
        out: the folder of runs and table; `storage.path`/NAME by default.

    Raises:
        ConfigError: the file is no design; the sentence names what of it is wrong.
    """
    where = str(path)
    if not as_path(path).is_file():
        raise ConfigError(f"{where}: no such design; it is a YAML file with {', '.join(_NEEDED)}.")
    data = parse_yaml(read_text(as_path(path), where), where, object)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: a design is a mapping with {', '.join(_NEEDED)}.")
    for key in data:
        if key not in (*_NEEDED, *_MORE):
            raise ConfigError(f"{where}: {key}: unknown key of a design; {known(str(key), (*_NEEDED, *_MORE))}")
    for key in _NEEDED:
        if data.get(key) in (None, "", [], {}):
            raise ConfigError(f"{where}: {key}: missing, or empty; a design has {', '.join(_NEEDED)}.")
    name, config, layout = data["name"], data["config"], data.get("layout", LAYOUTS[0])
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: name: {name!r} is not 1 to 40 letters, digits, '.', '_' or '-'.")
    if not isinstance(config, str):
        raise ConfigError(f"{where}: config: name a preset or a YAML file, and say what differs in `overrides`.")
    if layout not in LAYOUTS:
        raise ConfigError(f"{where}: layout: {layout!r} is not {' or '.join(LAYOUTS)}.")
    base = _keys_set(f"{where}: overrides", data.get("overrides") or {}, _GIVEN)
    factors = _factors(where, data["factors"])
    keys = {key for levels in factors.values() for changes in levels.values() for key in changes}
    for override in listed(overrides):
        for key in [override.partition("=")[0]] if isinstance(override, str) else override:
            if any(_overlap(str(key), other) for other in (*keys, *_GIVEN)):
                raise ConfigError(f"{key}: {where} itself says this of each of its runs; change it there.")
    changes = ([base] if base else []) + listed(overrides)
    place = str(out) if out is not None else f"{load_config(config, changes).storage.path}/{name}"
    if as_url(place):
        raise ConfigError(f"{place}: a design is kept in a folder of this machine; give one with --out.")
    folder = as_path(place)
    design = Design(name, config, tuple(changes), factors, _seeds(where, data["seeds"]), layout, folder)
    runs = prod(map(len, factors.values())) if layout == LAYOUTS[0] else sum(map(len, factors.values()))
    if runs * len(design.seeds) > MAX_RUNS:
        raise ConfigError(f"{where}: asks for over {MAX_RUNS} runs; leave levels out, or say layout: one_at_a_time.")
    _refuse_equal_levels(where, design)
    return design


def _factors(where: str, given: object) -> dict[str, dict[str, Facts]]:
    """{factor: {level: {key: value}}} of what a file says."""
    if not isinstance(given, dict):
        raise ConfigError(f"{where}: factors: a mapping, from each factor to its levels.")
    factors: dict[str, dict[str, Facts]] = {}
    for factor, levels in given.items():
        place = f"{where}: factors: {_named(where, factor)}"
        if isinstance(levels, list):
            if factor not in key_table():
                raise ConfigError(
                    f"{place}: a list is of values of a key, and this is none: {known(factor, key_table())} A factor "
                    "of several keys has levels by name, each with the keys that it sets."
                )
            names = [value if isinstance(value, str) else json.dumps(value) for value in levels]
            if twice := _twice(names):
                raise ConfigError(f"{place}: the level {twice[0]} is there twice.")
            levels = {name: {factor: value} for name, value in zip(names, levels)}
        if not isinstance(levels, dict) or len(levels) < 2:
            raise ConfigError(f"{place}: a factor has two levels or more.")
        given_keys = (*_GIVEN, "storage.path")
        factors[str(factor)] = {
            _named(where, level): _keys_set(f"{place}: {level}", changes, given_keys)
            for level, changes in levels.items()
        }
    places: dict[str, str] = {}  # key -> the factor that sets it
    for factor, levels in factors.items():
        for key in dict.fromkeys(key for changes in levels.values() for key in changes):
            for other, rival in places.items():
                if rival != factor and _overlap(key, other):
                    raise ConfigError(f"{where}: factors: {rival} and {factor} both set {key}; one of them has to.")
            places[key] = factor
    return factors


def _named(where: str, name: object) -> str:
    """A name of a factor or level: whole numbers may be one, but not what YAML takes for true or nothing."""
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST or not name.isprintable():
        raise ConfigError(f"{where}: factors: {name!r} is no name; put one of up to {_LONGEST} letters in quotes.")
    return name


def _keys_set(where: str, changes: object, given: tuple[str, ...]) -> Facts:
    """{dotted key: value} of a mapping, in which sections may be mappings too; none may be of what is `given`."""

    def walk(values: Mapping[object, object], prefix: str) -> Iterator[tuple[str, object]]:
        for name, value in values.items():
            key = f"{prefix}{name}"
            if isinstance(value, dict) and key in Config.model_fields:
                yield from walk(value, f"{key}.")
            else:
                yield key, value

    if not isinstance(changes, dict):
        raise ConfigError(f"{where}: a mapping from keys to values is wanted, {{}} for none.")
    keys = dict(walk(changes, ""))
    for key in keys:
        if key in given:
            raise ConfigError(f"{where}: {key}: the design says this itself, by its own `name` and `seeds`.")
    return keys


def _seeds(where: str, given: object) -> tuple[int, ...]:
    if isinstance(given, int) and not isinstance(given, bool):
        given = [given]
    try:
        seeds = parse_seeds(given) if isinstance(given, str) else given
        if not isinstance(seeds, list) or not all(isinstance(s, int) and s >= 0 and s is not True for s in seeds):
            raise ValueError
    except ValueError:
        raise ConfigError(f"{where}: seeds: {given!r} is not a list of seeds such as [1, 2, 3] or 1-3.") from None
    if twice := _twice(seeds):
        raise ConfigError(f"{where}: seeds: {twice[0]} is there twice, and would be the same run.")
    return tuple(seeds)


def _twice(things: Sequence[object]) -> list[object]:
    return [thing for thing, count in Counter(things).items() if count > 1]


def _overlap(key: str, other: str) -> bool:
    """Whether one key is the other, or a part of it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _refuse_endless(name: str, config: Config) -> None:
    search = config.search
    if search.max_time is not None:
        raise ConfigError(f"{name}: search.max_time: runs that stop by the clock cannot be compared; leave it out.")
    if search.generations is None and search.max_evaluations is None:
        raise ConfigError(f"{name}: a run would never end; say search.generations or search.max_evaluations.")


def _refuse_equal_levels(where: str, design: Design) -> None:
    """Raise unless every level of a factor is another configuration."""
    first = design.combinations()[0]
    for factor, levels in design.factors.items():
        seen: dict[str, str] = {}
        for level in levels:
            trial = design._trial({**first, factor: level}, design.seeds[0])
            values = flatten(trial.config)
            what = json.dumps({key: value for key, value in values.items() if key != "name"}, sort_keys=True)
            if what in seen:
                raise ConfigError(
                    f"{where}: factors: {factor}: {seen[what]} and {level} are the same configuration; leave one out."
                )
            seen[what] = level


def _identity(config: Config, changes: tuple[Mapping[str, object], ...]) -> str:
    """Twelve hexadecimal digits for a configuration without its seed.

    They are of the semantic keys, and of others that levels set: a design may ask whether these matter. So a design
    that gets another factor or level, or a later end, finds the runs that it has in common with what it was.
    """
    kinds, values = key_table(), flatten(config)
    others = {
        key: values[key]
        for key, (kind, _, _) in kinds.items()
        if kind != "semantic" and any(_overlap(key, changed) for change in changes for changed in change)
    }
    what = json.dumps([fingerprint(config, without_seed=True), others], sort_keys=True)
    return hashlib.sha256(what.encode()).hexdigest()[:12]
