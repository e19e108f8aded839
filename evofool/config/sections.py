"""The sections of a configuration, in the order data flows; each field is a key with a sentence and a kind, which is
semantic unless it is named."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import pydantic
from pydantic import BeforeValidator, Field

from evofool.base.registry import ENCODINGS, OBJECTIVES, POOLS, TRACKERS
from evofool.config.fields import (
    NotNegative,
    Positive,
    PositiveOrAuto,
    Rate,
    RowOf,
    Seconds,
    Section,
    key,
    refuse_bool,
)
from evofool.config.schedules import SCHEDULED, Schedule

__all__ = [
    "CONDITION_NAMES",
    "OF_CLASSES",
    "Config",
    "EncodingConfig",
    "EvaluationConfig",
    "ObserversConfig",
    "SearchConfig",
    "StorageConfig",
    "TargetConfig",
    "VariationConfig",
    "parse_condition",
]

# Of one generation: an individual id has 24 bits for the slot.
Individuals = Annotated[int, Field(gt=0, lt=1 << 63, le=1 << 24), BeforeValidator(refuse_bool)]
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]|\{seed\})*")
_CONDITION = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*")
OF_CLASSES = ("classes_99", "classes_9999", "top1_share")  # of the counters, those that units have none of
CONDITION_NAMES = ("median", "minimum", "filled", "classes_99", "classes_9999", "top1_share", "stale", "unique_elites")


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


def _one_or_several(value: object) -> object:
    """A spec, or those of an ensemble; a sentence for anything else."""
    if isinstance(value, list) and all(isinstance(spec, str) for spec in value):
        if len(value) < 2:
            raise ValueError("a list is an ensemble, of two networks at least; of one, give its spec alone")
    elif not isinstance(value, str):
        raise ValueError("should be a text, or a list of texts")
    return value


class TargetConfig(Section):
    """The network under test."""

    spec: Annotated[str | Annotated[list[str], Field(min_length=2)], BeforeValidator(_one_or_several)] = key(
        ...,
        "What to fool: lenet:FILE, efficientnet-lite:0, torchvision:NAME, timm:NAME or python:FILE.py:callable; a list "
        "of these is an ensemble.",
    )
    combine: Literal["mean", "product", "min"] = key(
        "mean",
        "What an ensemble says of a class: log-odds of the mean probability, of the renormalised product of the "
        "probabilities, or the least of the networks' log-odds.",
    )
    classes: Literal["all"] | Annotated[list[str | int], Field(min_length=1)] = key(
        "all", "Classes that get a cell: all, or a list of class names or output indices."
    )
    readouts: list[str] = key(
        [],
        "Units that get a cell each in place of the classes, and rank by their activation: LAYER:CHANNEL (the mean of "
        "a channel; * for all), LAYER:CHANNEL@Y,X (one place), either with :before (what the layer is given) or :relu.",
    )
    geometry: Literal["native", "published"] = key(
        "native",
        "native: the image is the network's input; published: resize and crop it as the weights' publisher does.",
    )
    output: Literal["declared", "logits", "probabilities", "log_probabilities"] = key(
        "declared", "What the network returns; declared: what the target itself says."
    )
    crops: Annotated[int, BeforeValidator(refuse_bool)] = key(
        1,
        "10: the mean of the probabilities of ten crops (corners, centre, mirrored) of an image larger than the input.",
    )

    @pydantic.field_validator("crops")
    @classmethod
    def _one_or_ten(cls, value: int) -> int:
        if value not in (1, 10):
            raise ValueError("should be 1 or 10")
        return value

    @property
    def specs(self) -> list[str]:
        """The spec of every network: several of an ensemble, else one."""
        return [self.spec] if isinstance(self.spec, str) else self.spec

    @property
    def named(self) -> str:
        """The spec as one text, e.g. "min(efficientnet-lite:0, efficientnet-lite:1)" for an ensemble."""
        return self.spec if isinstance(self.spec, str) else f"{self.combine}({', '.join(self.spec)})"


class EncodingConfig(Section):
    """What evolves."""

    kind: Annotated[str, RowOf(ENCODINGS)] = key("cppn", "direct: pixels; cppn: a pattern-producing network.")
    colour: Literal["auto", "grey", "hsv", "rgb", "hls2015"] = key(
        "auto",
        "Colour space of the genome; auto: grey for a one-channel target, hsv for a colour one; hls2015: hue, "
        "lightness, saturation as bytes whose hue wraps at 180, as in the 2015 code.",
    )
    quantisation: Literal["round", "truncate"] = key(
        "round", "How a number in [0, 1] becomes 0 .. 255; truncate: as in the 2015 code."
    )
    coordinates: Literal["unit", "raw"] = key(
        "unit", "cppn: x and y on [-1, 1] (unit), or the raw pixel index as in the 2015 code (raw)."
    )
    output: Literal["shifted", "absolute"] = key(
        "shifted", "cppn: an output v becomes (v + 1) / 2 (shifted) or |v| as in the 2015 code (absolute)."
    )
    activations: Annotated[list[str], Field(min_length=1)] = key(
        ["sine", "sigmoid", "gaussian", "linear"], "cppn: activations that new nodes and mutations draw from."
    )
    arithmetic: Literal["portable", "torch"] = key(
        "portable",
        "cppn: a sine and an exponential that give the same pictures on every processor, drawn several times as fast "
        "on CPUs where numba is installed; or those of torch.",
    )
    weight_limit: Annotated[float, Field(gt=0.0, le=1e6), BeforeValidator(refuse_bool)] = key(
        10.0, "cppn: weights lie in [-limit, limit]."
    )


class VariationConfig(Section):
    """How offspring differ from their parents; every operator is tried once for each offspring, in this order."""

    crossover_rate: Rate = key(
        0.0, "Chance that an offspring has two parents: SBX (direct) or genes aligned on innovation ids (cppn)."
    )
    crossover_eta: NotNegative = key(10.0, "direct: distribution index of the simulated binary crossover.")
    mutation: Literal["polynomial", "polynomial_clipped"] = key(
        "polynomial",
        "polynomial: bounded, as DEAP's; polynomial_clipped: unbounded step, then clipped, as in the 2015 code.",
    )
    mutation_rate: Rate = key(0.1, "Chance of each pixel (direct) or connection weight (cppn) to mutate.")
    mutation_eta: NotNegative = key(2.0, "Distribution index of the polynomial mutation; larger means smaller steps.")
    activation_rate: Rate = key(0.1, "cppn: chance of each node to redraw its activation.")
    add_connection: Rate = key(0.5, "cppn: chance to try one new connection.")
    delete_connection: Rate = key(0.3, "cppn: chance to delete one connection.")
    rewire_connection: Rate = key(0.0, "cppn: chance to move one end of a connection (never happens in the 2015 code).")
    split_connection: Rate = key(0.5, "cppn: chance to put a node on a connection.")
    split: Literal["neutral", "both_halves"] = key(
        "neutral",
        "cppn: neutral: an identity node that changes no pixel; both_halves: a random activation, and both new "
        "connections keep the old weight, as in the 2015 code.",
    )
    parallel_connections: bool = key(
        False, "cppn: whether two nodes may be connected more than once, as in the 2015 code."
    )
    delete_node: Rate = key(0.2, "cppn: chance to delete one hidden node with its connections.")
    full_rate_up_to: Positive | None = key(
        None,
        "cppn: how many connections (for mutation_rate) or nodes (for activation_rate) a genome may have for each to "
        "have the whole chance; in a larger one it is less, so that no more changes are expected (null: never less).",
    )
    operators: dict[Literal["select", "mate", "mutate"], str] = key(
        {}, "Operators of your own in place of the built-in ones, e.g. {mutate: python:FILE.py:callable}."
    )
    schedules: dict[str, Schedule] = key(
        {},
        "How rates change with the generation, e.g. {mutation_rate: {kind: halving, every: 1000}}; kinds: halving "
        "(every, floor), linear (until, to) and steps (at: {GENERATION: RATE}).",
    )

    @pydantic.field_validator("operators")
    @classmethod
    def _code_only(cls, value: dict[str, str]) -> dict[str, str]:
        for spec in value.values():
            if not spec.startswith("python:"):
                raise ValueError(f"{spec!r} is not python:FILE.py:callable or python:package.module:callable")
        return value

    @pydantic.field_validator("schedules")
    @classmethod
    def _rates_only(cls, value: dict[str, Schedule]) -> dict[str, Schedule]:
        for name in value:
            if name not in SCHEDULED:
                raise ValueError(f"{name!r} is no rate; rates are {', '.join(SCHEDULED)}")
        return value

    def at(self, generation: int) -> VariationConfig:
        """This section with the rates of a generation."""
        if not self.schedules:
            return self
        rates = {name: schedule.rate(getattr(self, name), generation) for name, schedule in self.schedules.items()}
        return self.model_copy(update=rates)


class SearchConfig(Section):
    """MAP-Elites with one cell for each class, and controls that lack a part of it."""

    mode: Literal["map_elites", "single_class", "random"] = key(
        "map_elites",
        "map_elites: an elite breeds for every class; single_class: each class is a search of its own, with an equal "
        "share of the offspring; random: nothing is bred, every generation is random anew.",
    )
    offspring: Individuals = key(32, "Individuals bred in each generation.")
    initial: Individuals = key(32, "Random individuals in each of the first `lag` generations.")
    lag: Annotated[int, Field(ge=1, le=64), BeforeValidator(refuse_bool)] = key(
        1, "Generation g breeds from the archive after g - lag, so lag generations can be in flight."
    )
    insertion: Literal["every_class", "argmax"] = key(
        "every_class", "every_class: an image competes in every cell; argmax: only in that of its best class."
    )
    objective: Annotated[str, RowOf(OBJECTIVES, code=True)] = key(
        "log_odds",
        "What cells rank by: log_odds, margin (which flat pictures win among many classes), top1_required, or your own "
        "as python:FILE.py:callable.",
    )
    selection: Literal["cells", "individuals", "curiosity", "kinship"] = key(
        "cells",
        "Parents uniform over filled cells, or over distinct individuals holding them; curiosity: over cells, in "
        "proportion to a score of elites that are new or whose children hold cells; kinship: the second parent is the "
        "first one's parent, child or sibling.",
    )
    generations: Positive | None = key(1000, "Stop after this many generations (null: no limit).", "stopping")
    max_evaluations: Positive | None = key(
        None, "Stop at the generation that reaches this many evaluations.", "stopping"
    )
    max_time: Seconds | None = key(None, "Stop after this many seconds of one session.", "stopping")
    stop_when: list[str] = key(
        [],
        f"Stop when all hold, each NAME OP NUMBER, e.g. 'median >= 0.9999'; names: {', '.join(CONDITION_NAMES)}.",
        "stopping",
    )

    @pydantic.field_validator("stop_when")
    @classmethod
    def _conditions(cls, value: list[str]) -> list[str]:
        for condition in value:
            parse_condition(condition)
        return value


class EvaluationConfig(Section):
    """Where and in what shapes images are scored."""

    pool: Annotated[str, RowOf(POOLS)] = key(
        "ray", "inline: in this process; ray: actors on a Ray cluster.", "operational"
    )
    evaluators: PositiveOrAuto = key(
        "auto", "Ray actors; auto: usable cores // threads, or GPUs x evaluators_per_gpu.", "operational"
    )
    evaluators_per_gpu: Positive = key(1, "Evaluators that share one GPU.", "operational")
    device: Literal["auto", "cpu", "cuda"] = key(
        "auto", "auto: cuda where the evaluators have one, else cpu.", "numerics"
    )
    chunk: PositiveOrAuto = key(
        "auto", "Individuals sent to one evaluator at a time; a multiple of micro_batch.", "numerics"
    )
    micro_batch: PositiveOrAuto = key("auto", "Rows of one forward pass; short ones are padded.", "numerics")
    threads: Positive = key(1, "Torch threads of one evaluator; another number gives other bits.", "numerics")
    memory_format: Literal["auto", "contiguous", "channels_last"] = key(
        "auto", "Memory layout of the network and its input.", "numerics"
    )
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = key(
        "float32", "Arithmetic of the network; less is faster where the device has units for it.", "numerics"
    )
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = key(
        "none", "Mode of torch.compile for the network; reduce-overhead uses CUDA graphs on a GPU.", "numerics"
    )
    chunk_timeout: Seconds = key(
        600.0, "Seconds after which a silent evaluator is killed and its chunk scored elsewhere.", "operational"
    )
    ready_timeout: Seconds = key(120.0, "Seconds to wait for the first evaluator.", "operational")

    @pydantic.model_validator(mode="after")
    def _whole_micro_batches(self) -> EvaluationConfig:
        if isinstance(self.chunk, int) and isinstance(self.micro_batch, int) and self.chunk % self.micro_batch:
            raise ValueError(
                f"evaluation.chunk ({self.chunk}) must be a multiple of evaluation.micro_batch ({self.micro_batch})"
            )
        return self


class StorageConfig(Section):
    """Where the run is kept and how often."""

    path: str = key("runs", "Folder of runs, or its s3://, gs:// or az:// URL; a run is PATH/NAME.", "operational")
    history: Literal["full", "lineage", "elites"] = key(
        "full",
        "Individuals and placements to keep: all; those of the elites' ancestors; or the elites alone.",
        "operational",
    )
    commit_every: Positive = key(10, "Generations between commits; a kill costs at most these.", "operational")
    snapshot_every: NotNegative = key(
        30.0,
        "Seconds between rewrites of elites/elites.parquet, which comes with the first commit; 0: at every commit.",
        "operational",
    )


class ObserversConfig(Section):
    """Who is told."""

    progress: Literal["auto", "live", "lines", "none"] = key(
        "auto", "auto: a live table on a terminal or in a notebook, plain lines elsewhere.", "operational"
    )
    trackers: list[Annotated[str, RowOf(TRACKERS)]] = key(
        [], f"Who else is told, for curves and dashboards; there are: {', '.join(TRACKERS)}.", "operational"
    )

    @pydantic.field_validator("trackers")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("a tracker is listed twice")
        return value


class Config(Section):
    """A whole run."""

    schema_version: Annotated[Literal[1], BeforeValidator(refuse_bool)] = key(1, "Version of this schema.")
    name: str = key("run", "Name of the run's folder; {seed} is replaced.", "operational")
    seed: Annotated[int, Field(ge=0, lt=1 << 256), BeforeValidator(refuse_bool)] = key(1, "Seed of all random numbers.")
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

    @pydantic.model_validator(mode="after")
    def _operators_are_used(self) -> Config:
        own, mode = self.variation.operators, self.search.mode
        if own and mode == "random":
            raise ValueError("variation.operators: search.mode=random breeds nothing; leave operators of your own out")
        if "select" in own and mode == "single_class":
            raise ValueError(
                "variation.operators: search.mode=single_class takes each class's own elites as parents; leave "
                "`select` out"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _units_have_no_classes(self) -> Config:
        if not self.target.readouts:
            return self
        if self.target.classes != "all":
            raise ValueError("target.readouts: gives cells to units in place of classes; leave target.classes out")
        if self.search.objective != "log_odds":
            raise ValueError(
                f"search.objective: is {self.search.objective}, but cells of target.readouts rank by their activation; "
                "leave it out"
            )
        for text in self.search.stop_when:
            name, _, _ = parse_condition(text)
            if name in OF_CLASSES:
                raise ValueError(
                    f"search.stop_when: {name} is of classes, which target.readouts have none of; say "
                    f"{', '.join(n for n in CONDITION_NAMES if n not in OF_CLASSES)} (the first two of activations)"
                )
        return self

    @property
    def run_name(self) -> str:
        """The name with {seed} filled in."""
        return self.name.replace("{seed}", str(self.seed))
