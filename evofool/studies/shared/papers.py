"""What the papers found, a row for each experiment; when ours is the same, verdicts.py says.

CVPR 2015 is Nguyen, Yosinski and Clune, Deep Neural Networks are Easily Fooled; GECCO 2015 is theirs on Innovation
Engines. A value is marked `read` where it was read in a text that quotes the paper, and `reported` where it is recalled
from the paper and was not read again. What is recalled too weakly to be printed has no value here, only a direction.

Ours is one number for each seed, or what another study says: protocols.py has how these are made, replicating.py makes
them.
"""

from __future__ import annotations

from evofool.studies.shared.verdicts import (
    AT_LEAST,
    NO_DIFFERENCE,
    READ,
    Experiment,
    OfRuns,
    OfStudy,
)

__all__ = ["EXPERIMENTS", "PAPERS"]

PAPERS = ("mnist", "imagenet")
CVPR, GECCO = "CVPR 2015", "GECCO 2015"
_MNIST = {"lenet": "1"}  # of docs/results/mnist.csv
_SECOND = r".*-2\.safetensors"  # the LeNet of the other seed


def _beside_others(super_class: str, measure: str = "log_odds") -> OfStudy:
    where = {"super_class": super_class, "measure": measure, "figure": "more_than_others", "target": ".*lite.?0"}
    return OfStudy("imagenet_siblings", where, table="families_siblings")


def _between(source: str, to: str) -> OfStudy:
    where = {"source": source, "to": to, "elites": "all", "variant": "same_pixels"}
    share, chance = {**where, "figure": "same_top1"}, {**where, "figure": "same_by_chance"}
    return OfStudy("imagenet_transfer", share, chance, table="families_transfer")


def _without_copies(figure: str) -> OfStudy:
    where = {"figure": figure, "change": "motif", "fill": "mean"}
    return OfStudy("imagenet_ablate", where, table="ablate", of_table={"set": "imagenet cppn"})


def _descent(figure: str, null: str = "", **where: str) -> OfStudy:
    of_null = {"figure": null, **where} if null else {}
    return OfStudy(
        "imagenet_lineage", {"figure": figure, **where}, of_null, table="lineage", of_table={"part": "imagenet"}
    )


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
        "digits of 0.9999 after 50 generations, the median run",
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
        "share with the same answer, LeNet 1 to LeNet 2",
        OfStudy(
            "mnist_transfer",
            {"to": _SECOND, "elites": "all", "figure": "same_top1"},
            {"to": _SECOND, "elites": "all", "figure": "same_by_chance"},
            table="transfer",
        ),
        against="answers permuted within runs",
    ),
    Experiment(
        "transfer_source_surer",
        "mnist",
        f"{CVPR}, 3.5 and supplement",
        "of these, 92.18 % and more score higher on the network that they were evolved on",
        "share with higher log-odds at the source, LeNet 1 to LeNet 2",
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
        OfStudy(
            "mnist_lineage",
            {"figure": "alike", "of": "blurred pixels"},
            table="lineage",
            of_table={"part": "mnist_cppn"},
        ),
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
        OfStudy(
            "mnist_retrain",
            {"defence": "fooling", "figure": "median"},
            table="retrain",
            of_table={"data": "mnist-5k"},
            last=True,
        ),
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
        _beside_others("dog"),
        fewer=True,
        against="classes permuted",
    ),
    Experiment(
        "cats_are_hard",
        "imagenet",
        f"{CVPR}, 3.4",
        "dogs and cats are hardest",
        "median log-odds of cats, less that of all other classes",
        _beside_others("cat"),
        fewer=True,
        against="classes permuted",
    ),
    Experiment(
        "dogs_without_rivals",
        "imagenet",
        f"{CVPR}, 3.4",
        "perhaps because many like them compete in the softmax: without these, no gap",
        "the same of dogs, if the other dogs did not compete",
        _beside_others("dog", "log_odds_without_siblings"),
        claim=NO_DIFFERENCE,
        against="classes permuted",
    ),
    Experiment(
        "transfer_to_simpler",
        "imagenet",
        f"{CVPR}, 3.5",
        "20.7 % of images evolved on GoogLeNet get the same answer from AlexNet",
        "share with the same answer, efficientnet-lite0 to SqueezeNet",
        _between(".*lite.?0", ".*squeezenet.*"),
        theirs=0.207,
        against="answers permuted within runs",
    ),
    Experiment(
        "transfer_from_simpler",
        "imagenet",
        f"{CVPR}, 3.5",
        "17.3 % the other way",
        "share with the same answer, SqueezeNet to efficientnet-lite0",
        _between(".*squeezenet.*", ".*lite.?0"),
        theirs=0.173,
        against="answers permuted within runs",
    ),
    Experiment(
        "ensemble",
        "imagenet",
        f"{CVPR}, supplement",
        "three networks are fooled together, by the mean of their scores: a median of 65.2 %",
        "median confidence over classes against three networks",
        OfRuns("imagenet_ensemble", "median", table="families_runs", where={"run": "mean-without-lite2"}),
        theirs=0.652,
        null=0.001,
        against="1000 classes by chance",
    ),
    Experiment(
        "gradient_ascent",
        "imagenet",
        f"{CVPR}, 3.9",
        "gradient ascent from the mean picture and noise reaches 99.99 %",
        "median confidence of climbs",
        OfStudy("imagenet_ascent", {"method": "ascent", "figure": "median_confidence"}),
        theirs=0.9999,
        claim=AT_LEAST,
        null=0.001,
        against="1000 classes by chance",
    ),
    Experiment(
        "regularised_ascent",
        "imagenet",
        f"{CVPR}, 3.9",
        "regularised pictures have a slightly lower confidence",
        "median confidence of climbs with L2 decay",
        OfStudy(
            "imagenet_ascent_decay",
            {"method": "ascent", "figure": "median_confidence"},
            {"method": "ascent", "figure": "median_confidence"},
            null_answer="imagenet_ascent",
        ),
        against="their median without decay",
        fewer=True,
    ),
    Experiment(
        "repetition_counts",
        "imagenet",
        f"{CVPR}, 3.4",
        "without some of what repeats in a picture its confidence drops, by a little",
        "log-odds lost when one of the copies is erased",
        _without_copies("loss_of_one"),
        against="nothing lost",
    ),
    Experiment(
        "repetition_beyond_area",
        "imagenet",
        f"{CVPR}, 3.4",
        "so what repeats is what counts",
        "log-odds lost by erasing copies, less those lost by erasing as much area at random",
        _without_copies("loss_more_than_random"),
        against="signs of elites",
    ),
    Experiment(
        "siblings_are_kin",
        "imagenet",
        f"{CVPR}, 3.4",
        "pictures of related classes are alike in one run",
        "generations between elites of one super-class, less those between others",
        _descent("siblings_apart", of="super_class", by="all pairs"),
        fewer=True,
        against="classes permuted",
    ),
    Experiment(
        "goal_switches",
        "imagenet",
        GECCO,
        "17.9 % of new champions descend from a champion of another class",
        "share of new champions whose parent held another class's cell, not its own",
        _descent("switch_share", "switch_share_by_chance", of="strict", by="first parent"),
        theirs=0.179,
        against="cells of parents exchanged",
        fewer=True,
    ),
    Experiment(
        "goal_switches_per_class",
        "imagenet",
        GECCO,
        "these are 8.8 for each class, in a run",
        "goal switches for each class",
        _descent("goal_switches", of="strict", by="first parent"),
        theirs=8.8,
        against="none",
    ),
    Experiment(
        "new_champions",
        "imagenet",
        GECCO,
        "of 49.4 new champions for each class",
        "new champions for each class",
        _descent("new_champions"),
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
        "median log-odds against a LeNet of 500 images of Fashion-MNIST (240 epochs), less one of 60,000 (2 epochs)",
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
