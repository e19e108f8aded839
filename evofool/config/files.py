"""Configurations in and out: YAML files, mappings, overrides, and sentences for what is wrong with them."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import pydantic
import yaml

from evofool.base.places import as_path, as_url
from evofool.config.introduced import INTRODUCED
from evofool.config.keys import key_table
from evofool.config.sections import Config
from evofool.errors import ConfigError
from evofool.records import Facts

__all__ = ["MAX_FILE", "load_config", "to_yaml"]

MAX_FILE = 1 << 20  # bytes
MAX_VALUES = 10_000  # of a file; a list of classes may take nearly all
MAX_DEPTH = 32  # of nested values; a config has 4
MAX_SENTENCES = 20  # of one refusal
LONGEST = 400  # characters of pydantic's part of a sentence
_TOO_MUCH = f"over {MAX_VALUES} values, or over {MAX_DEPTH} in one another (line {{}})"
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it


class _Loader(_Safe):
    """SafeLoader that also refuses duplicate keys, and reads 1e-3 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.YAMLError(f"key {key_node.value!r} appears twice (line {key_node.start_mark.line + 1})")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes a text which _Loader would read as a number."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def _parse_yaml(text: str, where: str) -> object:
    try:
        if len(text.encode()) > MAX_FILE:
            raise ConfigError(f"{where}: larger than {MAX_FILE} bytes, so not a configuration.")
        _refuse_hostile(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # TypeError: a key that is a list
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def _refuse_hostile(text: str) -> None:
    """Refuse aliases, which can stand for any amount of text, and texts of too many or too deeply nested values."""
    values = depth = line = 0
    try:
        for event in yaml.parse(text, Loader=_Safe):
            line = event.start_mark.line + 1 if event.start_mark else 0
            if isinstance(event, yaml.AliasEvent):
                raise yaml.YAMLError(f"aliases are not accepted (line {line})")
            values += isinstance(event, yaml.NodeEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if values > MAX_VALUES or depth > MAX_DEPTH:
                raise yaml.YAMLError(_TOO_MUCH.format(line))
    except yaml.MarkedYAMLError as error:
        # PyYAML reads ahead, and where brackets nest too deeply for itself it refuses them first, in words of its own.
        if _deepest(text) > MAX_DEPTH:
            raise yaml.YAMLError(
                _TOO_MUCH.format(error.problem_mark.line + 1 if error.problem_mark else line)
            ) from None
        raise


def _deepest(text: str) -> int:
    """The largest number of brackets open at one point of a text; those in quotes and comments count too."""
    return max(accumulate((1 if sign in "[{" else -1 for sign in re.findall(r"[][{}]", text)), initial=0))


def load_config(
    source: str | Path | Mapping[str, object] | Config, overrides: list[str] | None = None, *, stored: bool = False
) -> Config:
    """Read a configuration and apply overrides.

    Args:
        source: path of a YAML file, a nested mapping, or a Config.
        overrides: strings KEY=VALUE with a dotted key and a YAML value, applied in order.
        stored: whether it is that of a run. A key that it lacks was introduced after the run was made, so the key has
            the value it was introduced with (introduced.py) in place of its default.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or its value not valid. The sentence names the key
            and, for an unknown one, the nearest key.
    """
    where = "config"
    data: object
    if isinstance(source, Config):
        data = source.model_dump()
    elif isinstance(source, Mapping):
        data = copy.deepcopy(dict(source))
    else:
        where = str(source)
        try:
            with as_path(source).open("rb") as file:
                blob = file.read(MAX_FILE + 1)
            # Cut off in the middle of a character, perhaps; _parse_yaml refuses it for its length.
            text = blob.decode(errors="strict" if len(blob) <= MAX_FILE else "replace")
        except FileNotFoundError:
            raise ConfigError(f"{where}: no such config file (examples lie in configs/).") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: cannot be read as a config: {error}.") from None
        data = _parse_yaml(text, where)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: a config is a mapping of sections; see `evofool config schema`.")
    if stored:
        _add_later_keys(data)
    for override in overrides or []:
        _apply(data, override)
    try:
        config = Config.model_validate(data)
    except pydantic.ValidationError as error:
        sentences = list(islice(dict.fromkeys(_sentences(error, where)), MAX_SENTENCES))
        more = [f"{where}: and more of the kind."] * (error.error_count() > MAX_SENTENCES)
        raise ConfigError("\n".join(sentences + more)) from None
    try:
        as_url(config.storage.path)
    except ConfigError as error:
        raise ConfigError(f"{where}: storage.path: {error.message}") from None
    return config


def _add_later_keys(data: Facts) -> None:
    """Put the keys that a stored configuration lacks into it, with the values they were introduced with."""
    for key in key_table().keys() - {"target.spec"}:
        section, _, name = key.rpartition(".")
        place = data.setdefault(section, {}) if section else data
        if isinstance(place, dict):  # else Config refuses it
            place.setdefault(name, copy.deepcopy(INTRODUCED[key]))


def _apply(data: Facts, override: str) -> None:
    key, equals, value = override.partition("=")
    if key.count(".") > MAX_DEPTH:
        raise ConfigError(f"{_shown(key, str)}: no key has so many dots.")
    if not equals or not key:
        raise ConfigError(f"{override!r}: an override is KEY=VALUE, for instance search.generations=50.")
    *sections, last = key.split(".")
    place = data
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{key}: {section} is not a section.")
    place[last] = _parse_yaml(value, f"{key}=")


def _sentences(error: pydantic.ValidationError, where: str) -> Iterator[str]:
    keys = key_table()
    sections = {key.partition(".")[0] for key in keys if "." in key}
    for problem in islice(error.errors(include_url=False), 2 * MAX_SENTENCES):
        parts = [_shown(part, str) for part in problem["loc"]]
        path = ".".join(parts)
        # pydantic's path may go on below a key, to an item of a list or to one kind of several.
        key = next((key for key in keys if f"{path}.".startswith(f"{key}.")), path)
        if problem["type"] == "extra_forbidden":
            # The key may be right and its section wrong.
            near = [key for key in keys if key.split(".")[-1] == parts[-1]] or difflib.get_close_matches(
                path, [*keys, *sections], n=1, cutoff=0.5
            )
            hint = f"; did you mean {near[0]}?" if near else "; `evofool config schema` lists all keys."
            yield f"{where}: {path}: unknown key{hint}"
        elif problem["type"] == "missing":
            yield f"{where}: {key}: missing; add it, for instance target.spec=lenet:weights/lenet.safetensors."
        else:
            message = problem["msg"].removeprefix("Value error, ").replace("Input should", "should")
            suffix = f" (got {_shown(problem['input'])})" if key in keys else ""
            yield f"{where}: {key}: {message[:LONGEST]}{suffix}"


def _shown(value: object, form: Callable[[object], str] = repr) -> str:
    """A value for people, cut at 80 characters."""
    try:
        text = form(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or lists in lists in lists
        text = f"{type(value).__name__}, too long to show"
    return text if len(text) < 80 else text[:77] + "..."


def to_yaml(config: Config) -> str:
    """The whole configuration, defaults included, as YAML that load_config reads back to an equal Config."""
    dumped: str = yaml.dump(config.model_dump(), Dumper=_Dumper, sort_keys=False, width=120)
    return dumped
