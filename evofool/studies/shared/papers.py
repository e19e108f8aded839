"""What the papers found, a row for each experiment, and by what rule ours is the same.

CVPR 2015 is Nguyen, Yosinski and Clune, Deep Neural Networks are Easily Fooled; GECCO 2015 is theirs on Innovation
Engines. A value is marked `read` where it was read in a text that quotes the paper, and `reported` where it is recalled
from the paper and was not read again. What is recalled too weakly to be printed has no value here, only a direction.

Ours is one number for each seed, or what another study says; replicating.py has where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["EXPERIMENTS", "PAPERS", "VERDICTS", "Experiment", "OfRuns", "OfStudy", "verdict"]

READ, REPORTED = "read", "reported"
AT_LEAST, ABOUT, NO_DIFFERENCE = "at least", "about", "no difference"
VERDICTS = {  # the rule; what it takes is said in `verdict`
    "same": "the interval lies beyond the null on their side, and reaches their value, if they give one",
    "stronger": "it lies beyond their value",
    "weaker": "it lies between the null and their value: the same effect, smaller",
    "contradicts": "it does not reach their value, nor leave the null; or, of a direction, it lies on the other side",
    "unclear": "it holds the null, and their value too; or there is no interval, as of a single run",
    "not run": "there is no number",
}
PAPERS = ("mnist", "imagenet")


@dataclass(frozen=True)
class OfRuns:
    """Ours is a column of a table of runs, a number for each seed.

    Attributes:
        runs: a name of replicating.RUNS.
        column: of `replicating.row_of`.
        less: runs whose number of the same seed is taken off.
        table: docs/results/NAME.csv that has such runs, and which of its rows: {column: a pattern}.
        table_less: those rows of it that are taken off.
    """

    runs: str
    column: str
    less: str = ""
    table: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    where_less: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OfStudy:
    """Ours is a row of another study's summary.

    Attributes:
        answer: a name of replicating.ANSWERS.
        where: which row, {column: a pattern}; the last if there are several.
        null: which row has the null, in place of the experiment's.
        table: docs/results/NAME.csv that has such a summary.
    """

    answer: str
    where: Mapping[str, str]
    null: Mapping[str, str] = field(default_factory=dict)
    table: str = ""


@dataclass(frozen=True)
class Experiment:
    """A finding, and what is measured here for it.

    Attributes:
        paper: "mnist" or "imagenet", whose images these are.
        where: the paper and its section.
        found: in their words, shortened.
        measure: what our number is.
        ours: None where it cannot be measured here, for the reason in `why_not`.
        mark: READ or REPORTED.
        theirs: their value in the unit of ours; None where there is only a direction.
        claim: AT_LEAST their value, ABOUT it, or NO_DIFFERENCE.
        null: what ours would be without an effect, and `against`, why.
        fewer: whether small numbers are what they found.
    """

    name: str
    paper: str
    where: str
    found: str
    measure: str
    ours: OfRuns | OfStudy | None
    mark: str = REPORTED
    theirs: float | None = None
    claim: str = ABOUT
    null: float = 0.0
    against: str = "no difference"
    fewer: bool = False
    why_not: str = ""


def verdict(experiment: Experiment, low: float | None, high: float | None, null: float | None = None) -> str:
    """A key of VERDICTS, for an interval of 95 %.

    Where they found no difference, "same" is an interval that holds the null, and any other contradicts. Else all is
    seen so that more is more of what they found. "At least" their value means that more is the same, too.

    Args:
        low, high: of ours; None without an interval, infinite where a level is never reached.
        null: in place of the experiment's.
    """
    null, theirs = experiment.null if null is None else null, experiment.theirs
    if low is None or high is None:
        return "unclear"
    if experiment.claim == NO_DIFFERENCE:
        return "same" if low <= null <= high else "contradicts"
    if experiment.fewer:
        low, high, null, theirs = -high, -low, -null, None if theirs is None else -theirs
    if theirs is None:
        return "same" if low > null else "contradicts" if high < null else "unclear"
    if low <= null:
        return "unclear" if high >= theirs else "contradicts"
    if high < theirs:
        return "weaker"
    return "stronger" if low > theirs and experiment.claim == ABOUT else "same"


CVPR, GECCO = "CVPR 2015", "GECCO 2015"
_MNIST = {"lenet": "1"}  # of docs/results/mnist.csv
_SECOND = r".*-2\.safetensors"  # the LeNet of the other seed
EXPERIMENTS = (
    Experiment(
        "cppn_median",
        "mnist",
        f"{CVPR}, 3.2",
        "CPPN images of digits have a median confidence of 99.99 % by generation 200",
        "median confidence of ten digits, 200 generations of 200",
        OfRuns("mnist_cppn", "median", table="mnist", where={"preset": "mnist_cppn", **_MNIST}),
        theirs=0.9999,
        claim=AT_LEAST,
        null=0.1,
        against="ten classes by chance",
    ),
    Experiment(
        "direct_median",
        "mnist",
        f"{CVPR}, 3.1",
        "directly encoded images have a median confidence of 99.99 % by generation 200",
        "median confidence of ten digits, 200 generations of 200",
        OfRuns("mnist_direct", "median", table="mnist", where={"preset": "mnist_direct", **_MNIST}),
        mark=READ,
        theirs=0.9999,
        claim=AT_LEAST,
        null=0.1,
        against="ten classes by chance",
    ),
    Experiment(
        "direct_all_digits",
        "mnist",
        f"{CVPR}, 3.1",
        "in fewer than 50 generations every run has every digit at 99.99 %, directly encoded",
        "digits of 0.9999 after 50 generations",
        OfRuns("mnist_direct", "classes_9999_at_50", table="mnist", where={"preset": "mnist_direct", **_MNIST}),
        mark=READ,
        theirs=10,
        claim=AT_LEAST,
        null=0,
        against="none",
    ),
    Experiment(
        "cppn_sooner",
        "mnist",
        f"{CVPR}, 3.1, 3.2",
        "CPPNs get there after only a few generations, sooner than direct images",
        "generations until the median is 0.9999, direct less CPPN",
        OfRuns(
            "mnist_direct",
            "median_at",
            less="mnist_cppn",
            table="mnist",
            where={"preset": "mnist_direct", **_MNIST},
            where_less={"preset": "mnist_cppn", **_MNIST},
        ),
    ),
    Experiment(
        "transfer_same_answer",
        "mnist",
        f"{CVPR}, 3.5 and supplement",
        "many images get the same answer from a LeNet trained from another seed",
        "share with the same answer",
        OfStudy(
            "mnist_transfer",
            {"to": _SECOND, "elites": "all", "figure": "same_top1"},
            {"to": _SECOND, "elites": "all", "figure": "chance"},
            table="transfer",
        ),
        against="classes permuted",
    ),
    Experiment(
        "transfer_source_surer",
        "mnist",
        f"{CVPR}, 3.5 and supplement",
        "of these, 92.18 % and more score higher on the network that they were evolved on",
        "share with higher log-odds at the source",
        OfStudy("mnist_transfer", {"to": _SECOND, "elites": "all", "figure": "source_surer"}, table="transfer"),
        theirs=0.9218,
        claim=AT_LEAST,
        null=0.5,
        against="either network as often",
    ),
    Experiment(
        "patterns_recur",
        "mnist",
        f"{CVPR}, 3.2",
        "patterns of a digit recur in other runs, as vertical bars for 1",
        "share of elites of other digits that are less like an elite than one of its digit of another run, by pixels",
        OfStudy("mnist_lineage", {"figure": "alike", "of": "blurred pixels"}, table="lineage_mnist"),
        mark=READ,
        null=0.5,
        against="classes permuted within runs",
    ),
    Experiment(
        "retraining_no_immunity",
        "mnist",
        f"{CVPR}, 3.6 to 3.8",
        "networks that learned from fooling images as a class more are fooled with 99.99 % all the same",
        "median confidence of the real digits against the last network",
        OfStudy("mnist_retrain", {"defence": "fooling", "figure": "median"}, table="retrain_mnist"),
        theirs=0.9999,
        claim=AT_LEAST,
        null=0.1,
        against="ten classes by chance",
    ),
    Experiment(
        "cppn_median",
        "imagenet",
        f"{CVPR}, 3.4",
        "CPPN images have a median confidence of 88.11 % after 5,000 generations, five runs",
        "median confidence over classes",
        OfRuns("imagenet_cppn", "median", table="defaults", where={"setting": "now"}),
        theirs=0.8811,
        null=0.001,
        against="1000 classes by chance",
    ),
    Experiment(
        "direct_median",
        "imagenet",
        f"{CVPR}, 3.3",
        "directly encoded images have 21.59 % after 20,000 generations",
        "median confidence over classes",
        OfRuns("imagenet_direct", "median"),
        theirs=0.2159,
        null=0.001,
        against="1000 classes by chance",
    ),
    Experiment(
        "cppn_over_direct",
        "imagenet",
        f"{CVPR}, 3.3, 3.4",
        "CPPN images fool far better than direct ones (p < 0.0001), with a quarter of the generations",
        "median log-odds over classes, CPPN less direct, as many evaluations",
        OfRuns("imagenet_cppn", "median_log_odds", less="imagenet_direct"),
    ),
    Experiment(
        "dogs_are_hard",
        "imagenet",
        f"{CVPR}, 3.4",
        "dogs and cats are hardest",
        "median log-odds of dogs, less that of all other classes",
        OfStudy(
            "imagenet_siblings",
            {"super_class": "dog", "measure": "log_odds", "figure": "more_than_others", "target": ".*lite.?0"},
            table="families_siblings",
        ),
        fewer=True,
        against="classes permuted",
    ),
    Experiment(
        "cats_are_hard",
        "imagenet",
        f"{CVPR}, 3.4",
        "dogs and cats are hardest",
        "median log-odds of cats, less that of all other classes",
        OfStudy(
            "imagenet_siblings",
            {"super_class": "cat", "measure": "log_odds", "figure": "more_than_others", "target": ".*lite.?0"},
            table="families_siblings",
        ),
        fewer=True,
        against="classes permuted",
    ),
    Experiment(
        "dogs_without_rivals",
        "imagenet",
        f"{CVPR}, 3.4",
        "perhaps because many like them compete in the softmax: without these, no gap",
        "the same of dogs, if the other dogs did not compete",
        OfStudy(
            "imagenet_siblings",
            {
                "super_class": "dog",
                "measure": "log_odds_without_siblings",
                "figure": "more_than_others",
                "target": ".*lite.?0",
            },
            table="families_siblings",
        ),
        claim=NO_DIFFERENCE,
        against="classes permuted",
    ),
    Experiment(
        "transfer_to_simpler",
        "imagenet",
        f"{CVPR}, 3.5",
        "20.7 % of images evolved on GoogLeNet get the same answer from AlexNet",
        "share with the same answer, efficientnet-lite0 to SqueezeNet",
        OfStudy(
            "imagenet_transfer",
            {"source": ".*lite.?0", "to": ".*squeezenet.*", "elites": "all", "figure": "same_top1"},
            {"source": ".*lite.?0", "to": ".*squeezenet.*", "elites": "all", "figure": "chance"},
            table="families_transfer",
        ),
        theirs=0.207,
        against="classes permuted",
    ),
    Experiment(
        "transfer_from_simpler",
        "imagenet",
        f"{CVPR}, 3.5",
        "17.3 % the other way",
        "share with the same answer, SqueezeNet to efficientnet-lite0",
        OfStudy(
            "imagenet_transfer",
            {"source": ".*squeezenet.*", "to": ".*lite.?0", "elites": "all", "figure": "same_top1"},
            {"source": ".*squeezenet.*", "to": ".*lite.?0", "elites": "all", "figure": "chance"},
            table="families_transfer",
        ),
        theirs=0.173,
        against="classes permuted",
    ),
    Experiment(
        "ensemble",
        "imagenet",
        f"{CVPR}, supplement",
        "three networks are fooled together, by the mean of their scores: a median of 65.2 %",
        "median confidence over classes against three networks",
        OfRuns("imagenet_ensemble", "median", table="families_runs", where={"run": "mean-without-.*"}),
        theirs=0.652,
        null=0.001,
        against="1000 classes by chance",
    ),
    Experiment(
        "gradient_ascent",
        "imagenet",
        f"{CVPR}, 3.9",
        "gradient ascent from the mean picture and noise reaches 99.99 %",
        "share of classes that reach 0.9999",
        OfStudy("imagenet_ascent", {"method": "ascent", "figure": "share_0.9999"}, table="ascend"),
        null=0.0,
        against="the start",
    ),
    Experiment(
        "regularised_ascent",
        "imagenet",
        f"{CVPR}, 3.9",
        "regularised pictures have a slightly lower confidence",
        "share of classes that reach 0.9999, with L2 decay",
        OfStudy("imagenet_ascent_decay", {"method": "ascent", "figure": "share_0.9999"}, table="ascend_decay"),
        null=1.0,
        against="all classes",
        fewer=True,
    ),
    Experiment(
        "repetition_counts",
        "imagenet",
        f"{CVPR}, 3.4",
        "without some of what repeats in a picture its confidence drops, by a little",
        "log-odds lost by erasing copies, less those lost by erasing as much area at random",
        OfStudy(
            "imagenet_ablate", {"figure": "more_than_equal_area", "fill": "mean", "target": ".*lite.?0"}, table="ablate"
        ),
        against="signs of elites",
    ),
    Experiment(
        "siblings_are_kin",
        "imagenet",
        f"{CVPR}, 3.4",
        "pictures of related classes are alike in one run",
        "generations between elites of one super-class, less those between others",
        OfStudy(
            "imagenet_lineage",
            {"figure": "siblings_apart", "of": "super_class", "by": "all pairs"},
            table="lineage_imagenet",
        ),
        fewer=True,
        against="classes permuted",
    ),
    Experiment(
        "goal_switches",
        "imagenet",
        GECCO,
        "17.9 % of new champions descend from a champion of another class",
        "share of new champions whose parent held another class's cell, not its own",
        OfStudy(
            "imagenet_lineage",
            {"figure": "switch_share", "of": "strict", "by": "first parent"},
            table="lineage_imagenet",
        ),
        theirs=0.179,
        against="none",
    ),
    Experiment(
        "goal_switches_per_class",
        "imagenet",
        GECCO,
        "these are 8.8 for each class, in a run",
        "goal switches for each class",
        OfStudy(
            "imagenet_lineage",
            {"figure": "goal_switches", "of": "strict", "by": "first parent"},
            table="lineage_imagenet",
        ),
        theirs=8.8,
        against="none",
    ),
    Experiment(
        "new_champions",
        "imagenet",
        GECCO,
        "of 49.4 new champions for each class",
        "new champions for each class",
        OfStudy("imagenet_lineage", {"figure": "new_champions"}, table="lineage_imagenet"),
        theirs=49.4,
        against="none",
    ),
    Experiment(
        "map_elites_over_single",
        "imagenet",
        GECCO,
        "MAP-Elites has a higher median confidence than evolution for one class at a time",
        "median log-odds over classes, MAP-Elites less single classes, as many evaluations",
        OfRuns("imagenet_cppn", "median_log_odds", less="imagenet_single"),
    ),
    Experiment(
        "map_elites_as_single",
        "imagenet",
        f"{CVPR}, 2.2",
        "results are unaffected by MAP-Elites in place of single classes (not shown there)",
        "the same",
        OfRuns("imagenet_cppn", "median_log_odds", less="imagenet_single"),
        claim=NO_DIFFERENCE,
    ),
    Experiment(
        "more_data_fools_less",
        "imagenet",
        f"{CVPR}, 3.3, 3.4",
        "networks that learned from more images may be fooled less",
        "median log-odds against a LeNet of 500 images of Fashion-MNIST, less one of 60,000",
        OfStudy(
            "",
            {"factor": "images", "level": "500", "figure": "median_log_odds"},
            table="fashion_effects",
        ),
        why_not="its table, docs/results/fashion_effects.csv, is made by make figures-fashion",
    ),
    Experiment(
        "retraining_protects",
        "imagenet",
        f"{CVPR}, 3.6 to 3.8",
        "a network that learned from 9,000 fooling images is fooled with a median of 11.7 %, not 88.1 %",
        "median confidence over classes",
        None,
        theirs=0.117,
        why_not="it takes the training images of ImageNet, which nobody may pass on",
    ),
    Experiment(
        "same_architecture",
        "imagenet",
        f"{CVPR}, 3.5 and supplement",
        "many images get the same answer from the same network trained from another seed",
        "share with the same answer",
        None,
        why_not="it takes two trainings of one network on ImageNet",
    ),
)
