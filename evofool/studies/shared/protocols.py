"""How the numbers beside those of the papers are made: searches, and studies of these, by budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evofool.base.places import quoted
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
    "retrain": "make figures-retrain",
    "ablate": "make figures-ablate",
    "lineage": "make figures-lineage",
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
        seeds: how many, by budget.
        more: further overrides, by budget.
        needs: a file without which they are not made, and the way to it.
    """

    config: str
    overrides: Facts
    seeds: Mapping[str, int]
    more: Mapping[str, Facts] = field(default_factory=dict)
    needs: tuple[str, str] | None = None


@dataclass(frozen=True)
class Answer:
    """What a study says.

    Attributes:
        of: names of RUNS, or a network's spec.
        options: of the study.
        more: further options, by budget.
        limit: as of `evofool study`, by budget.
    """

    study: str
    of: tuple[str, ...] | str
    options: Facts = field(default_factory=dict)
    more: Mapping[str, Facts] = field(default_factory=dict)
    limit: Mapping[str, int] = field(default_factory=dict)


_LENET: Facts = {"target.spec": "lenet:{1}"}
_LITE0: Facts = {"target.spec": "efficientnet-lite:0", "target.classes": CLASSES, "search.generations": None}
_SQUEEZENET = {**_LITE0, "target.spec": f"torchvision:squeezenet1_0/{SQUEEZENET}"}
_TRIO = {**_LITE0, "target.spec": ["efficientnet-lite:0", "efficientnet-lite:1", _SQUEEZENET["target.spec"]]}
_IMPORT = (SQUEEZENET, f"evofool targets import FILE --out {quoted(SQUEEZENET)}")
_SEEDS = {"small": 3, "full": 5}
_EVALUATIONS: Mapping[str, Facts] = {
    "small": {"search.max_evaluations": 3_000},
    "full": {"search.max_evaluations": 33_000},
}
RUNS = {
    "mnist_cppn": Runs("mnist_cppn", _LENET, _SEEDS),
    "mnist_direct": Runs("mnist_direct", _LENET, _SEEDS),
    "mnist_pair": Runs("mnist_cppn", {**_LENET, "search.generations": 60}, {"small": 5, "full": 30}),
    "imagenet_cppn": Runs("imagenet50_cppn", _LITE0, _SEEDS, _EVALUATIONS),
    "imagenet_direct": Runs("imagenet50_direct", _LITE0, _SEEDS, _EVALUATIONS),
    "imagenet_single": Runs("imagenet50_cppn", {**_LITE0, "search.mode": "single_class"}, _SEEDS, _EVALUATIONS),
    "imagenet_squeezenet": Runs("imagenet50_cppn", _SQUEEZENET, _SEEDS, _EVALUATIONS, _IMPORT),
    "imagenet_ensemble": Runs("imagenet50_cppn", _TRIO, {"small": 2, "full": 3}, _EVALUATIONS, _IMPORT),
}
_AS_THEY_DID: Facts = {"objective": "softmax", "step": "progress", "early": 0.02, "late": 0.1, "steps": 100}
_CLASSES: Mapping[str, Facts] = {
    "small": {"classes": ("beagle", "tabby", "lynx", "macaw", "king snake", "jeep", "sax", "banana")},
    "full": {"classes": tuple(CLASSES)},
}
ANSWERS = {
    "mnist_transfer": Answer("transfer", ("mnist_pair",), {"to": ("lenet:{2}",), "variant": ("same_pixels",)}),
    "mnist_lineage": Answer("lineage", ("mnist_pair",)),
    "mnist_retrain": Answer(
        "retrain",
        "lenet:{1}",
        {"runs": "{folder}/retrain"},
        {
            "small": {"iterations": 3, "seeds": 2, "first": 100, "more": 20, "least": 5, "generations": 30},
            "full": {"iterations": 10, "seeds": 3},
        },
    ),
    "imagenet_siblings": Answer("siblings", ("imagenet_cppn",)),
    "imagenet_transfer": Answer("transfer", ("imagenet_cppn", "imagenet_squeezenet"), {"variant": ("same_pixels",)}),
    "imagenet_lineage": Answer("lineage", ("imagenet_cppn",)),
    "imagenet_ablate": Answer(
        "ablate", ("imagenet_cppn",), {"part": ("motifs",), "fill": ("mean",)}, limit={"small": 4}
    ),
    "imagenet_ascent": Answer("ascend", "efficientnet-lite:0", _AS_THEY_DID, _CLASSES),
    "imagenet_ascent_decay": Answer("ascend", "efficientnet-lite:0", {**_AS_THEY_DID, "decay": 0.01}, _CLASSES),
}
