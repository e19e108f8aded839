"""Configurations in and out: YAML files, mappings, overrides, and sentences for what is wrong with them."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import pydantic
import yaml

from evofool.base.places import as_path, as_url
from evofool.base.registry import known
from evofool.config.introduced import INTRODUCED
from evofool.config.keys import key_table
from evofool.config.presets import SUFFIXES, preset_named, preset_names, preset_text
from evofool.config.sections import Config
from evofool.errors import ConfigError
from evofool.records import Facts

__all__ = ["MAX_FILE", "Overrides", "listed", "load_config", "parse_yaml", "read_text", "to_yaml"]

Overrides: TypeAlias = str | Mapping[str, object] | Sequence[str | Mapping[str, object]]

MAX_FILE = 1 << 20  # bytes
MAX_VALUES = 10_000  # of a file; a list of classes may take nearly all
MAX_DEPTH = 32  # of nested values; a config has 4
MAX_SENTENCES = 20  # of one refusal
LONGEST = 400  # characters of pydantic's part of a sentence
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'", re.DOTALL)  # a text of YAML's, as a whole
_TOO_MUCH = f"over {MAX_VALUES} values, or over {MAX_DEPTH} in one another (line {{}})"
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it


class _Loader(_Safe):
    """SafeLoader that also refuses duplicate keys, and takes for numbers what people do.

    1e-3 is a number. 010, 1:30 and 2024-01-01 are not 8, 90 and a date, as in YAML 1.1, but texts.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.YAMLError(f"key {key_node.value!r} appears twice (line {key_node.start_mark.line + 1})")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes a text which _Loader would read as a number."""


_TEXT, _WHOLE, _REAL = (f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag not in (_WHOLE, _REAL, "tag:yaml.org,2002:timestamp")]
    for first, forms in _Safe.yaml_implicit_resolvers.items()
}
_BEGIN = list("-+.0123456789")
_Loader.add_implicit_resolver(_WHOLE, re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"), _BEGIN)
_Loader.add_implicit_resolver(
    _REAL, re.compile(r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$"), _BEGIN
)
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(_REAL, re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), _BEGIN)


def parse_yaml(text: str, where: str, wanted: object) -> object:
    """The value of a YAML text, in which the scalars that are to be texts (`wanted`: a type) are taken as written.

    Raises:
        ConfigError: it is no YAML, or too large; the sentence begins with `where`.
    """
    try:
        if len(text.encode()) > MAX_FILE:
            raise ConfigError(f"{where}: larger than {MAX_FILE} bytes, so not a configuration.")
        _refuse_hostile(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            _take_texts(node, wanted)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # TypeError: a key that is a list
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def _kinds(wanted: object) -> list[Any]:
    """The members of a type that is a union, else the type; without what is annotated."""
    if get_origin(wanted) is Annotated:
        return _kinds(get_args(wanted)[0])
    if get_origin(wanted) in (Union, UnionType):
        return [kind for member in get_args(wanted) for kind in _kinds(member)]
    return [wanted]


def _is_text(kind: object) -> bool:
    return kind is str or (get_origin(kind) is Literal and all(isinstance(value, str) for value in get_args(kind)))


def _below(kind: object, name: str) -> object:
    """The type of what has a name in a section, or in a mapping; None where nothing has."""
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        return kind.model_fields[name].annotation if name in kind.model_fields else None
    return get_args(kind)[1] if get_origin(kind) is dict else None


def _take_texts(node: yaml.Node | None, wanted: object) -> None:
    """Mark the scalars of a YAML document that are to be texts, so that `on`, 007 and 2024-01-01 stay what they are.

    A whole number stays a number where one may stand as well: 3 is the index of a class.
    """
    kinds = _kinds(wanted)
    if isinstance(node, yaml.ScalarNode):
        kinds = [kind for kind in kinds if get_origin(kind) not in (list, dict)]
        if (str in kinds or all(map(_is_text, kinds))) and not (int in kinds and node.tag == _WHOLE):
            # Nothing is no text: a key without a value is a mistake.
            node.tag = _TEXT if node.style or node.value else node.tag
    elif isinstance(node, yaml.SequenceNode):
        for kind in kinds:
            for item in node.value if get_origin(kind) is list else ():
                _take_texts(item, get_args(kind)[0])
    elif isinstance(node, yaml.MappingNode) and len(kinds) == 1:
        for key, value in node.value:
            _take_texts(value, _below(kinds[0], str(key.value)))


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


def read_text(path: Path, where: str) -> str:
    """The text of a configuration, cut off after MAX_FILE bytes.

    Raises:
        ConfigError: there is no such file, or it cannot be read as text; the sentence begins with `where`.
    """
    try:
        with path.open("rb") as file:
            blob = file.read(MAX_FILE + 1)
        # Cut off in the middle of a character, perhaps; parse_yaml refuses it for its length.
        return blob.decode(errors="strict" if len(blob) <= MAX_FILE else "replace")
    except FileNotFoundError:
        names = preset_names()
        if path.stem in names:
            hint = f"no such config file; the preset goes by its name alone: {path.stem}."
        elif "/" in where or where.endswith(SUFFIXES):
            hint = "no such config file; `evofool config presets` lists those that go by name."
        else:
            hint = f"neither a file here nor a preset; {known(where, names)} `evofool config presets` says more."
        raise ConfigError(f"{where}: {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: cannot be read as a config: {error}.") from None


def listed(overrides: Overrides | None) -> list[str | Mapping[str, object]]:
    """Overrides as a list, whichever way they are given."""
    return [overrides] if isinstance(overrides, str | Mapping) else list(overrides or ())


def load_config(
    source: str | Path | Mapping[str, object] | Config, overrides: Overrides | None = None, *, stored: bool = False
) -> Config:
    """Read a configuration and apply overrides.

    Args:
        source: path of a YAML file, the name of a preset, a nested mapping, or a Config.
        overrides: KEY=VALUE with a dotted key; {key: value}; or a list of these, applied in order. VALUE is the text
            itself, with or without quotes around it, where the key takes a text, else YAML.
        stored: whether it is that of a run. A key that it lacks was introduced after the run was made, so the key has
            the value it was introduced with (introduced.py) in place of its default.

    Raises:
        ConfigError: the file cannot be read, no preset has the name, or a key is unknown or its value not valid. The
            sentence names the key and, for an unknown one, the nearest key.
    """
    where = "config"
    data: object
    if isinstance(source, Config):
        data = source.model_dump()
    elif isinstance(source, Mapping):
        data = copy.deepcopy(dict(source))
    else:
        where = str(source)
        preset = preset_named(source)
        text = preset_text(preset) if preset else read_text(as_path(source), where)
        data = parse_yaml(text, where, Config)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: a config is a mapping of sections; see `evofool config schema`.")
    if stored:
        _add_later_keys(data)
    said: dict[str, str] = {}  # by overrides: key -> the override, for messages
    for override in listed(overrides):
        said |= _apply(data, override)
    try:
        config = Config.model_validate(data)
    except pydantic.ValidationError as error:
        sentences = list(islice(dict.fromkeys(_sentences(error, where, said)), MAX_SENTENCES))
        more = [f"{where}: and more of the kind."] * (error.error_count() > MAX_SENTENCES)
        raise ConfigError("\n".join(sentences + more)) from None
    try:
        as_url(config.storage.path)
    except ConfigError as error:
        where = said.get("storage.path", where)
        raise ConfigError(f"{where}: storage.path: {error.message}") from None
    return config


def _add_later_keys(data: Facts) -> None:
    """Put the keys that a stored configuration lacks into it, with the values they were introduced with."""
    for key in key_table().keys() - {"target.spec"}:
        section, _, name = key.rpartition(".")
        place = data.setdefault(section, {}) if section else data
        if isinstance(place, dict):  # else Config refuses it
            place.setdefault(name, copy.deepcopy(INTRODUCED[key]))


def _apply(data: Facts, override: str | Mapping[str, object]) -> dict[str, str]:
    """Put an override into the data; its keys, each with the override as people are to see it."""
    if isinstance(override, Mapping):
        for key, value in override.items():
            _put(data, str(key), copy.deepcopy(value))
        return {str(key): _named(str(key), _shown(value)) for key, value in override.items()}
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r}: an override is KEY=VALUE, for instance search.generations=50.")
    wanted: object = Config
    for name in key.split("."):
        kinds = _kinds(wanted)
        wanted = _below(kinds[0], name) if len(kinds) == 1 else None
    text = value.strip()
    kinds = _kinds(wanted)
    takes_text = all(map(_is_text, kinds)) or (str in kinds and not text.startswith("["))
    if text and takes_text and not _QUOTED.fullmatch(text):
        text = "'" + text.replace("'", "''") + "'"
    _put(data, key, parse_yaml(text, f"{key}=", wanted))
    return {key: _named(key, value)}


def _named(key: str, value: str) -> str:
    """An override for messages, in which no URL is repeated: it may hold a password."""
    return f"{key}=..." if "://" in value else _shown(f"{key}={value}", str)


def _put(data: Facts, key: str, value: object) -> None:
    """Put a value where a dotted key says; of a section, only the keys that the value has."""
    if key.count(".") > MAX_DEPTH:
        raise ConfigError(f"{_shown(key, str)}: no key has so many dots.")
    if isinstance(value, Mapping) and isinstance(data.get(key), dict) and key in Config.model_fields:
        for name, part in value.items():
            _put(data, f"{key}.{name}", part)
        return
    *sections, last = key.split(".")
    place = data
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{key}: {section} is not a section.")
    place[last] = value


def _sentences(error: pydantic.ValidationError, source: str, said: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each mistake, which begins with the override that made it, else with the source."""
    keys = key_table()
    sections = {key.partition(".")[0] for key in keys if "." in key}
    for problem in islice(error.errors(include_url=False), 2 * MAX_SENTENCES):
        parts = [_shown(part, str) for part in problem["loc"]]
        path = ".".join(parts)
        # A mistake of a section as a whole is that of a key in it, if there is no such section, or it names the key.
        whole = problem["type"] == "extra_forbidden"
        made = (
            text
            for key, text in said.items()
            if f"{path}.".startswith(f"{key}.")
            or (key.startswith(f"{path}." if path else "") and (whole or key in problem["msg"]))
        )
        where = next(made, source)
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
            # A mistake of the whole names its key itself.
            yield ": ".join(filter(None, (where, key, f"{message[:LONGEST]}{suffix}")))


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
