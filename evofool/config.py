"""The configuration: frozen pydantic models, one YAML file, dotted overrides.

Every key has a kind, which says what a change of it does to a run that is resumed:

    semantic     part of the run's fingerprint; a change is another run (exit 3)
    numerics     may change the bits of scores; a change needs --allow-numerics-change
    operational  how the work is done; may change at any time
    stopping     when to stop; may change at any time, and nothing else reads it
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from evofool.errors import ConfigError

__all__ = [
    "Config",
    "Kind",
    "differences",
    "fingerprint",
    "flatten",
    "key_table",
    "load_config",
    "parse_condition",
    "to_yaml",
]

Kind = Literal["semantic", "numerics", "operational", "stopping"]
MAX_FILE = 1 << 20  # bytes
MAX_INDIVIDUALS = 1 << 24  # of a generation: an individual id has 24 bits for the slot
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]|\{seed\})*")
_CONDITION = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*")
CONDITION_NAMES = ("median", "minimum", "filled", "classes_99", "classes_9999", "top1_share", "stale", "unique_elites")


def _key(kind: Kind, default: Any, description: str, **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"kind": kind}, **limits)


def _refuse_bool(value: Any) -> Any:
    # YAML's yes/no/on/off become booleans, which Python takes for the numbers 1 and 0.
    if isinstance(value, bool):
        raise ValueError("Input should be a number, not a boolean")
    return value


Rate = Annotated[float, Field(ge=0.0, le=1.0), BeforeValidator(_refuse_bool)]
Positive = Annotated[int, Field(gt=0), BeforeValidator(_refuse_bool)]
PositiveOrAuto = Literal["auto"] | Positive
Seconds = Annotated[float, Field(gt=0.0), BeforeValidator(_refuse_bool)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TargetConfig(_Section):
    """The network under test."""

    spec: str = _key(
        "semantic",
        ...,
        "What to fool: lenet:FILE, efficientnet-lite:0, torchvision:NAME, timm:NAME or python:FILE.py:callable.",
    )
    classes: Literal["all"] | Annotated[list[str | int], Field(min_length=1)] = _key(
        "semantic", "all", "Classes that get a cell: all, or a list of class names or output indices."
    )
    geometry: Literal["native", "published"] = _key(
        "semantic",
        "native",
        "native: the image is the network's input; published: resize and crop it as the weights' publisher does.",
    )
    output: Literal["declared", "logits", "probabilities", "log_probabilities"] = _key(
        "semantic", "declared", "What the network returns; declared: what the target itself says."
    )
    crops: Annotated[Literal[1, 10], BeforeValidator(_refuse_bool)] = _key(
        "semantic",
        1,
        "10: the mean of the probabilities of ten crops (corners, centre, mirrored) of an image larger than the input.",
    )


class EncodingConfig(_Section):
    """What evolves."""

    kind: Literal["direct", "cppn"] = _key("semantic", "cppn", "direct: pixels; cppn: a pattern-producing network.")
    colour: Literal["auto", "grey", "hsv", "rgb"] = _key(
        "semantic", "auto", "Colour space of the genome; auto: grey for a one-channel target, hsv for a colour one."
    )
    coordinates: Literal["unit", "raw"] = _key(
        "semantic", "unit", "cppn: x and y on [-1, 1] (unit), or the raw pixel index as in the 2015 code (raw)."
    )
    output: Literal["shifted", "absolute"] = _key(
        "semantic", "shifted", "cppn: an output v becomes (v + 1) / 2 (shifted) or |v| as in the 2015 code (absolute)."
    )
    activations: Annotated[list[str], Field(min_length=1)] = _key(
        "semantic",
        ["sine", "sigmoid", "gaussian", "linear"],
        "cppn: activations that new nodes and mutations draw from.",
    )
    weight_limit: Annotated[float, Field(gt=0.0, le=1e6), BeforeValidator(_refuse_bool)] = _key(
        "semantic", 10.0, "cppn: weights lie in [-limit, limit]."
    )


class VariationConfig(_Section):
    """How offspring differ from their parents; every operator is tried once for each offspring, in this order."""

    crossover_rate: Rate = _key(
        "semantic",
        0.0,
        "Chance that an offspring has two parents: SBX (direct) or genes aligned on innovation ids (cppn).",
    )
    crossover_eta: Annotated[float, Field(ge=0.0), BeforeValidator(_refuse_bool)] = _key(
        "semantic", 10.0, "direct: distribution index of the simulated binary crossover."
    )
    mutation: Literal["polynomial", "polynomial_clipped"] = _key(
        "semantic",
        "polynomial",
        "polynomial: bounded, as DEAP's; polynomial_clipped: unbounded step, then clipped, as in the 2015 code.",
    )
    mutation_rate: Rate = _key("semantic", 0.1, "Chance of each pixel (direct) or connection weight (cppn) to mutate.")
    mutation_eta: Annotated[float, Field(ge=0.0), BeforeValidator(_refuse_bool)] = _key(
        "semantic", 15.0, "Distribution index of the polynomial mutation; larger means smaller steps."
    )
    activation_rate: Rate = _key("semantic", 0.1, "cppn: chance of each node to redraw its activation.")
    add_connection: Rate = _key("semantic", 0.5, "cppn: chance to try one new connection.")
    delete_connection: Rate = _key("semantic", 0.3, "cppn: chance to delete one connection.")
    rewire_connection: Rate = _key(
        "semantic", 0.0, "cppn: chance to move one end of a connection (never happens in the 2015 code)."
    )
    split_connection: Rate = _key("semantic", 0.5, "cppn: chance to put an identity node on a connection.")
    delete_node: Rate = _key("semantic", 0.2, "cppn: chance to delete one hidden node with its connections.")


class SearchConfig(_Section):
    """MAP-Elites with one cell for each class."""

    offspring: Positive = _key("semantic", 200, "Individuals bred in each generation.", le=MAX_INDIVIDUALS)
    initial: Positive = _key(
        "semantic", 200, "Random individuals in each of the first `lag` generations.", le=MAX_INDIVIDUALS
    )
    lag: Annotated[int, Field(ge=1, le=64), BeforeValidator(_refuse_bool)] = _key(
        "semantic", 2, "Generation g breeds from the archive after g - lag, so lag generations can be in flight."
    )
    insertion: Literal["every_class", "argmax"] = _key(
        "semantic",
        "every_class",
        "every_class: an image competes in every cell; argmax: only in that of its best class.",
    )
    objective: str = _key(
        "semantic",
        "log_odds",
        "What cells rank by: log_odds, margin, top1_required, or your own as python:FILE.py:callable.",
    )
    selection: Literal["cells", "individuals"] = _key(
        "semantic", "cells", "Parents uniform over filled cells, or over distinct individuals holding them."
    )
    generations: Positive | None = _key("stopping", 200, "Stop after this many generations (null: no limit).")
    max_evaluations: Positive | None = _key(
        "stopping", None, "Stop at the generation that reaches this many evaluations."
    )
    max_time: Seconds | None = _key("stopping", None, "Stop after this many seconds of one session.")
    stop_when: list[str] = _key(
        "stopping",
        [],
        f"Stop when all hold, each NAME OP NUMBER, e.g. 'median >= 0.9999'; names: {', '.join(CONDITION_NAMES)}.",
    )

    @pydantic.field_validator("stop_when")
    @classmethod
    def _conditions(cls, value: list[str]) -> list[str]:
        for condition in value:
            parse_condition(condition)
        return value


class EvaluationConfig(_Section):
    """Where and in what shapes images are scored."""

    pool: Literal["inline", "ray"] = _key(
        "operational", "ray", "inline: in this process; ray: actors on a Ray cluster."
    )
    evaluators: PositiveOrAuto = _key(
        "operational", "auto", "Ray actors; auto: usable cores // threads, or GPUs x evaluators_per_gpu."
    )
    evaluators_per_gpu: Positive = _key("operational", 1, "Evaluators that share one GPU.")
    device: Literal["auto", "cpu", "cuda"] = _key(
        "numerics", "auto", "auto: cuda where the evaluators have one, else cpu."
    )
    chunk: PositiveOrAuto = _key(
        "numerics", "auto", "Individuals sent to one evaluator at a time; a multiple of micro_batch."
    )
    micro_batch: PositiveOrAuto = _key("numerics", "auto", "Rows of one forward pass; short ones are padded.")
    threads: Positive = _key("numerics", 1, "Torch threads of one evaluator; another number gives other bits.")
    memory_format: Literal["auto", "contiguous", "channels_last"] = _key(
        "numerics", "auto", "Memory layout of the network and its input."
    )
    chunk_timeout: Seconds = _key(
        "operational", 600.0, "Seconds after which a silent evaluator is killed and its chunk scored elsewhere."
    )
    ready_timeout: Seconds = _key("operational", 120.0, "Seconds to wait for the first evaluator.")

    @pydantic.model_validator(mode="after")
    def _whole_micro_batches(self) -> EvaluationConfig:
        if isinstance(self.chunk, int) and isinstance(self.micro_batch, int) and self.chunk % self.micro_batch:
            raise ValueError(
                f"evaluation.chunk ({self.chunk}) must be a multiple of evaluation.micro_batch ({self.micro_batch})"
            )
        return self


class StorageConfig(_Section):
    """Where the run is kept and how often."""

    path: str = _key("operational", "runs", "Folder of runs; a run is PATH/NAME.")
    commit_every: Positive = _key("operational", 10, "Generations between commits; a kill costs at most these.")
    snapshot_every: Annotated[float, Field(ge=0.0), BeforeValidator(_refuse_bool)] = _key(
        "operational", 30.0, "Seconds between rewrites of elites/elites.parquet; 0: at every commit."
    )


class ObserversConfig(_Section):
    """Who is told."""

    progress: Literal["auto", "live", "lines", "none"] = _key(
        "operational", "auto", "auto: a live table on a terminal, plain lines elsewhere; always on stderr."
    )


class Config(_Section):
    """A whole run."""

    schema_version: Annotated[Literal[1], BeforeValidator(_refuse_bool)] = _key(
        "semantic", 1, "Version of this schema."
    )
    name: str = _key("operational", "run", "Name of the run's folder; {seed} is replaced.")
    seed: Annotated[int, Field(ge=0), BeforeValidator(_refuse_bool)] = _key(
        "semantic", 1, "Seed of all random numbers."
    )
    target: TargetConfig
    encoding: EncodingConfig = EncodingConfig()
    variation: VariationConfig = VariationConfig()
    search: SearchConfig = SearchConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    storage: StorageConfig = StorageConfig()
    observers: ObserversConfig = ObserversConfig()

    @pydantic.field_validator("name")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        if len(value) > 64 or not _NAME.fullmatch(value):
            raise ValueError(
                "a name has 1 to 64 letters, digits, '.', '_', '-' or {seed}, and begins with a letter or digit"
            )
        return value

    @property
    def run_name(self) -> str:
        """The name with {seed} filled in."""
        return self.name.replace("{seed}", str(self.seed))


def parse_condition(text: str) -> tuple[str, str, float]:
    """('median', '>=', 0.9999) of 'median >= 0.9999'; ValueError otherwise."""
    match = _CONDITION.fullmatch(text)
    if match is None or match[1] not in CONDITION_NAMES:
        raise ValueError(
            f"{text!r} is not NAME OP NUMBER with NAME one of {', '.join(CONDITION_NAMES)} and OP one of >= > <= <"
        )
    try:
        return match[1], match[2], float(match[3])
    except ValueError:
        raise ValueError(f"{match[3]!r} in {text!r} is not a number") from None


# --------------------------------------------------------------------------------------------- reading and writing


class _Loader(yaml.SafeLoader):
    """SafeLoader that also refuses aliases and duplicate keys, and reads 1e-3 as a number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not accepted (line {self.peek_event().start_mark.line + 1})")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
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


def _parse_yaml(text: str, where: str) -> Any:
    if len(text.encode()) > MAX_FILE:
        raise ConfigError(f"{where}: larger than {MAX_FILE} bytes, so not a configuration.")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # TypeError: a key that is a list
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def load_config(source: str | Path | Mapping[str, Any] | Config, overrides: list[str] | None = None) -> Config:
    """Read a configuration and apply overrides.

    Args:
        source: path of a YAML file, a nested mapping, or a Config.
        overrides: strings KEY=VALUE with a dotted key and a YAML value, applied in order.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or its value not valid. The sentence names the key
            and, for an unknown one, the nearest key there is.
    """
    if isinstance(source, Config):
        data, where = source.model_dump(), "config"
    elif isinstance(source, Mapping):
        data, where = copy.deepcopy(dict(source)), "config"
    else:
        where = str(source)
        try:
            text = Path(source).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"{where}: no such config file (examples lie in configs/).") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: cannot be read as a config: {error}.") from None
        data = _parse_yaml(text, where)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: a config is a mapping of sections; see `evofool config schema`.")
    for override in overrides or []:
        _apply(data, override)
    try:
        return Config.model_validate(data)
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(dict.fromkeys(_sentences(error, where)))) from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
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
    for problem in error.errors():
        parts = [str(part) for part in problem["loc"]]
        path = next(
            (".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in keys), ".".join(parts)
        )
        if problem["type"] == "extra_forbidden":
            path = ".".join(parts)
            # The key may be right and its section wrong.
            near = [key for key in keys if key.split(".")[-1] == parts[-1]] or difflib.get_close_matches(
                path, [*keys, *sections], n=1, cutoff=0.5
            )
            hint = f"; did you mean {near[0]}?" if near else "; `evofool config schema` lists all keys."
            yield f"{where}: {path}: unknown key{hint}"
        elif problem["type"] == "missing":
            yield f"{where}: {path}: missing; add it, for instance target.spec=lenet:weights/lenet.safetensors."
        else:
            message = problem["msg"].removeprefix("Value error, ").replace("Input should", "should")
            shown = repr(problem["input"])
            suffix = f" (got {shown if len(shown) < 80 else shown[:77] + '...'})" if path in keys else ""
            yield f"{where}: {path}: {message}{suffix}"


def to_yaml(config: Config) -> str:
    """The whole configuration, defaults included, as YAML that load_config reads back to an equal Config."""
    dumped: str = yaml.dump(config.model_dump(), Dumper=_Dumper, sort_keys=False, width=120)
    return dumped


# ------------------------------------------------------------------------------------------------- kinds of keys


def key_table() -> dict[str, tuple[Kind, Any, str]]:
    """{dotted key: (kind, default, description)} for every key of the schema, in the order of the file."""
    table: dict[str, tuple[Kind, Any, str]] = {}

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, info in model.model_fields.items():
            annotation = info.annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                walk(annotation, f"{prefix}{name}.")
            else:
                extra = info.json_schema_extra
                assert isinstance(extra, dict), f"{prefix}{name} has no kind"
                default = None if info.is_required() else info.default
                table[prefix + name] = (extra["kind"], default, info.description or "")  # type: ignore[assignment]

    walk(Config, "")
    return table


def flatten(config: Config) -> dict[str, Any]:
    """{dotted key: value}."""
    values: dict[str, Any] = {}
    for key in key_table():
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        values[key] = value
    return values


def fingerprint(config: Config, *, without_seed: bool = False) -> str:
    """sha256 (hex) of the semantic keys; two configs with one fingerprint ask for the same archive.

    Keys at their default do not count, so a key that a later version adds leaves the runs of earlier ones alone.
    """
    kinds = key_table()
    semantic = {
        k: v
        for k, v in flatten(config).items()
        if kinds[k][0] == "semantic" and v != kinds[k][1] and not (without_seed and k == "seed")
    }
    return hashlib.sha256(json.dumps(semantic, sort_keys=True).encode()).hexdigest()


def differences(old: Config, new: Config) -> dict[str, tuple[Kind, Any, Any]]:
    """{dotted key: (kind, old value, new value)} of the keys that differ."""
    kinds, before, after = key_table(), flatten(old), flatten(new)
    return {key: (kinds[key][0], before[key], after[key]) for key in kinds if before[key] != after[key]}
