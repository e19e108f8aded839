"""How the numbers beside those of the papers are made: searches, and studies of these, by budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evofool.records import Facts

__all__ = ["ANSWERS", "BUDGETS", "CLASSES", "MADE_BY", "RUNS", "Answer", "Runs"]

BUDGETS = ("small", "full", "none")
MADE_BY = {  # tables of docs/results: the command that makes them
    "mnist": "make figures",
    "mnist_networks": "make figures",
    "mnist_memory": "make figures",
    "transfer": "make figures-transfer",
    "screen": "make figures-defaults",
    "defaults": "make figures-defaults",
    "defaults_mnist": "make figures-defaults",
    "families_runs": "make figures-families",
    "families_transfer": "make figures-families",
    "families_siblings": "make figures-families",
    "families_ensembles": "make figures-families",
    "relatives": "make figures-relatives",
    "fashion_effects": "make figures-fashion",
    "ascend": "make figures-ascend",
    "ascend_decay": "make figures-ascend",
    "retrain_mnist": "make figures-retrain",
    "ablate": "make figures-ablate",
    "lineage_mnist": "make figures-lineage",
    "lineage_imagenet": "make figures-lineage",
}
SQUEEZENET = "weights/squeezenet.safetensors"
KINDS = {  # fifty classes in seven families, that siblings can be set against others
    "dog": "Chihuahua, beagle, borzoi, Border terrier, golden retriever, collie, boxer, Siberian husky, pug, dalmatian",
    "cat": "tabby, Persian cat, Siamese cat, lynx, leopard, lion",
    "bird": "cock, ostrich, robin, bald eagle, peacock, macaw, flamingo, king penguin",
    "snake": "king snake, green mamba, sea snake, sidewinder, rock python, Indian cobra",
    "wheeled vehicle": "ambulance, cab, fire engine, freight car, jeep, racer, tank, tractor",
    "musical instrument": "accordion, electric guitar, grand piano, harp, sax, violin",
    "fruit": "Granny Smith, strawberry, orange, lemon, pineapple, banana",
}
CLASSES = [name for names in KINDS.values() for name in names.split(", ")]


@dataclass(frozen=True)
class Runs:
    """Searches that differ by their seeds.

    Attributes:
        overrides: of the configuration; {1} and {2} in a value stand for LeNets, which are trained where missing.
        small, full: what each budget says besides.
        seeds: how many runs, by budget.
        needs: a file without which they are not made, and the way to it.
    """

    config: str
    overrides: Facts
    small: Facts
    full: Facts
    seeds: Mapping[str, int]
    needs: tuple[str, str] | None = None


@dataclass(frozen=True)
class Answer:
    """What a study says.

    Attributes:
        of: names of RUNS, or a network's spec.
        small, full: its options by budget.
        limit: as of `evofool study`, by budget.
    """

    study: str
    of: tuple[str, ...] | str
    small: Facts = field(default_factory=dict)
    full: Facts = field(default_factory=dict)
    limit: Mapping[str, int | None] = field(default_factory=dict)


_LENET: Facts = {"target.spec": "lenet:{1}"}
_OF_LENET: Any = ({"search.generations": 200}, {"search.generations": 200}, {"small": 3, "full": 5})
_PAIR: Any = ({"search.generations": 60}, {"search.generations": 60}, {"small": 5, "full": 30})
_LITE0: Facts = {"target.spec": "efficientnet-lite:0", "target.classes": CLASSES, "search.generations": None}
_BUDGET: Any = (
    {"search.max_evaluations": 4_000},
    {"search.max_evaluations": 33_000},
    {"small": 3, "full": 5},
)
_IMPORT = (SQUEEZENET, f"evofool targets import FILE --out {SQUEEZENET}")
_SQUEEZENET = {**_LITE0, "target.spec": f"torchvision:squeezenet1_0/{SQUEEZENET}"}
RUNS = {
    "mnist_cppn": Runs("mnist_cppn", _LENET, *_OF_LENET),
    "mnist_direct": Runs("mnist_direct", _LENET, *_OF_LENET),
    "mnist_pair": Runs("mnist_cppn", _LENET, *_PAIR),
    "imagenet_cppn": Runs("imagenet50_cppn", _LITE0, *_BUDGET),
    "imagenet_direct": Runs("imagenet50_direct", _LITE0, *_BUDGET),
    "imagenet_single": Runs("imagenet50_cppn", {**_LITE0, "search.mode": "single_class"}, *_BUDGET),
    "imagenet_squeezenet": Runs("imagenet50_cppn", _SQUEEZENET, *_BUDGET, _IMPORT),
    "imagenet_ensemble": Runs(
        "imagenet50_cppn",
        {**_LITE0, "target.spec": [*(f"efficientnet-lite:{i}" for i in (0, 1)), _SQUEEZENET["target.spec"]]},
        {"search.max_evaluations": 2_000},
        {"search.max_evaluations": 33_000},
        {"small": 2, "full": 3},
        _IMPORT,
    ),
}
_PAPERS_STEP = {"objective": "softmax", "step": "progress", "early": 0.02, "late": 0.1}
_FEW: Facts = {"classes": tuple(CLASSES[i] for i in (0, 10, 16, 24, 30, 38, 44, 49))}
ANSWERS = {
    "mnist_transfer": Answer("transfer", ("mnist_pair",), *[{"to": ("lenet:{2}",), "variant": ("same_pixels",)}] * 2),
    "mnist_lineage": Answer("lineage", ("mnist_pair",)),
    "mnist_retrain": Answer(
        "retrain",
        "lenet:{1}",
        {"iterations": 3, "seeds": 2, "least": 5, "generations": 30, "runs": "{folder}/retrain"},
        {"iterations": 10, "seeds": 3, "least": 20, "generations": 50, "runs": "{folder}/retrain"},
    ),
    "imagenet_siblings": Answer("siblings", ("imagenet_cppn",)),
    "imagenet_transfer": Answer(
        "transfer", ("imagenet_cppn", "imagenet_squeezenet"), *[{"variant": ("same_pixels",)}] * 2
    ),
    "imagenet_lineage": Answer("lineage", ("imagenet_cppn",)),
    "imagenet_ablate": Answer(
        "ablate", ("imagenet_cppn",), *[{"part": ("motifs",), "fill": ("mean",)}] * 2, {"small": 4, "full": 50}
    ),
    "imagenet_ascent": Answer(
        "ascend",
        "efficientnet-lite:0",
        {**_PAPERS_STEP, **_FEW, "steps": 100},
        {**_PAPERS_STEP, "classes": tuple(CLASSES), "steps": 500},
    ),
    "imagenet_ascent_decay": Answer(
        "ascend",
        "efficientnet-lite:0",
        {**_PAPERS_STEP, **_FEW, "steps": 100, "decay": 0.01},
        {**_PAPERS_STEP, "classes": tuple(CLASSES), "steps": 500, "decay": 0.01},
    ),
}
