"""The tables of docs/results.md and what is said of them, each made from tables of docs/results."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from shown import interval, markdown, missing, number, percent, records, share, spread

from evofool.studies.shared.protocols import MADE_BY
from evofool.studies.shared.statistics import mean_interval, wilson

SECTIONS: dict[str, Callable[[Path], str]] = {}  # by name: what a folder of tables gives


def of(*names: str, make: str = "") -> Callable[[Callable[..., str]], Callable[..., str]]:
    """A section that is made from tables, which it is handed; a sentence where one is missing."""

    def decorate(part: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(part)
        def written(results: Path) -> str:
            frames = []
            for name in names:
                path = results / f"{name}.csv"
                if not path.is_file():
                    return f"Not measured yet: `{make or MADE_BY[name]}` writes `docs/results/{name}.csv`."
                frames.append(pd.read_csv(path, dtype={"level": str, "lenet": str, "classes_90": str}))
            return part(*frames)

        SECTIONS[part.__name__] = written
        return part

    return decorate


# ---------------------------------------------------------------------------------------------------------------- MNIST


@of("mnist_networks")
def mnist_networks(frame: pd.DataFrame) -> str:
    """Accuracies."""
    lines = []
    for data, part in frame.groupby("data", sort=False):
        values = part["held_out_accuracy"]
        ends = [percent(values.min(), 2), percent(values.max(), 2)] if len(values) > 1 else ["", ""]
        lines.append([data, len(values), percent(values.median(), 2), *ends])
    return markdown(["data", "training seeds", "held-out accuracy, median", "lowest", "highest"], lines)


@of("mnist", "reruns_2015")
def mnist(runs: pd.DataFrame, reruns: pd.DataFrame) -> str:
    """Every preset, LeNet 1 and the others."""
    lines = []
    for preset, rows in runs.groupby("preset", sort=False):
        nets = rows["lenet"].astype(int)
        for name, part in (("LeNet 1", rows[nets == 1]), ("other LeNets", rows[nets > 1])):
            if len(part):
                never = int(np.isinf(part["minimum_at"]).sum())
                shown = [spread(part[column], 0) for column in ("median_at", "minimum_at")]
                ends = [spread(part["median"], 6), spread(part["minimum_at_50"], 4), spread(part["minimum"], 6)]
                lines.append([f"{_code(preset)}, {name}", len(part), *shown, f"{never} of {len(part)}", *ends])
    for row in reruns.to_dict("records"):
        name = f"re-run on the 2015 weights, {row['variant']}"
        ends = ["", f"{row['minimum_at_50']:g}", f"{row['minimum']:g}"]
        lines.append(
            [name, row["runs"], row["median_at"], row["minimum_at"], f"{row['never']} of {row['runs']}", *ends]
        )
    head = ["preset", "runs", "median passes 0.9999 at", "minimum passes 0.9999 at", "never"]
    return markdown([*head, "median at the end", "minimum at 50", "minimum at the end"], lines)


def _code(name: str) -> str:
    return name if " " in name else f"`{name}`"


@of("mnist")
def mnist_said(runs: pd.DataFrame) -> str:
    """Whether all medians pass, and all digits of direct images."""
    passed = int(np.isfinite(runs["median_at"]).sum())
    direct = runs[runs["preset"] == "mnist_direct"]
    all_digits = int((direct["classes_9999_at_50"] == 10).sum())
    return (
        f"The median passes 0.9999 in {passed} of {len(runs)} runs, as in the paper. Its other figure for direct "
        f"images, *every* digit at 99.99 % in under 50 generations, is reached by {all_digits} of {len(direct)} of "
        "`mnist_direct`; our networks, trained with small shifts and turns, give some digits to noise less readily."
    )


@of("mnist_memory")
def mnist_memory(frame: pd.DataFrame) -> str:
    """Peaks."""
    lines = [
        [f"`{row['preset']}`, Ray", f"{row['driver_mib']:.0f} MiB", f"{row['evaluator_mib']:.0f} MiB"]
        for row in frame.to_dict("records")
    ]
    return markdown(["40,000 evaluations", "driver, peak RSS", "evaluator, peak RSS"], lines)


# ------------------------------------------------------------------------------------------------------------- transfer


@of("transfer")
def transfer(frame: pd.DataFrame) -> str:
    """One row for each direction."""
    lines = []
    for (source, to), part in frame[frame["elites"] == "all"].groupby(["from_lenet", "to_lenet"], sort=False):
        by = {row["figure"]: row for row in part.to_dict("records")}
        shares = [share(by[name]) for name in ("same_top1", "both_99", "both_9999")]
        surer = f"{share(by['source_surer'])} of {by['source_surer']['n']:.0f}"
        middle = number(by["median_confidence"]["value"], 6)
        images = f"{by['elites']['value']:.0f}"
        chance = percent(by["same_by_chance"]["value"])
        lines.append([f"LeNet {source}, {to}", images, shares[0], chance, *shares[1:], surer, middle])
    head = ["from, to", "images", "same answer", "by chance", ">= 0.99 by both", ">= 0.9999 by both"]
    return markdown([*head, "source surer, of the same answer", "median confidence there"], lines)


@of("transfer")
def transfer_digits(frame: pd.DataFrame) -> str:
    """The digits that transfer least."""
    rows = frame[frame["elites"].str.startswith("digit")]
    said = []
    for (source, to), part in rows.groupby(["from_lenet", "to_lenet"], sort=False):
        least = part.sort_values("value").head(3)
        digits = ", ".join(f"{r['elites'].split()[-1]} in {r['value']:.0%}" for r in least.to_dict("records"))
        said.append(f"from LeNet {source} to {to}: {digits}")
    n = int(rows["n"].iloc[0])
    return f"The digits that transfer least, of {n} images each: {'; '.join(said)}."


# ------------------------------------------------------------------------------------------------------------- defaults


def settings(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each setting, in the order of the design."""
    return [(str(name), part.set_index("seed")) for name, part in frame.groupby("setting", sort=False)]


@of("screen")
def screen(frame: pd.DataFrame) -> str:
    """A row for each setting, a column for each seed."""
    seeds = sorted(frame["seed"].unique())
    lines = [
        [
            name,
            *(number(part["median"].get(seed)) for seed in seeds),
            *(number(part["mean"].get(seed), 2) for seed in seeds),
        ]
        for name, part in settings(frame)
    ]
    head = [f"{what}, seed {seed}" for what in ("median", "mean") for seed in seeds]
    evaluations = int(frame["evaluations"].max())
    return markdown([f"setting, {evaluations:,} evaluations", *head], lines)


@of("screen")
def screen_said(frame: pd.DataFrame) -> str:
    """The new defaults less those before, and what differs from these."""
    by = dict(settings(frame))
    if not {"before", "generations of 32"} <= set(by):
        return ""
    now = by.pop("generations of 32")["median"]
    first = _paired(now, by.pop("before")["median"])
    others = {name: _paired(part["median"], now) for name, part in by.items()}
    clear = [name for name, (_, low, high, _) in others.items() if low is not None and (low > 0 or high < 0)]  # type: ignore[operator]
    rest = (
        f"Beside the new defaults, {', '.join(clear)} differ by an interval without 0."
        if clear
        else "Of no other setting does the interval of the difference to the new defaults leave out 0; with two seeds "
        "these are wide, so nothing is shown either way, and the defaults stay."
    )
    value, low, high, n = first
    return (
        f"Small generations with larger steps raise the median by {interval(value, low, high)}, 95 % interval of {n} "
        f"seeds (null: no difference). {rest}"
    )


def _paired(one: pd.Series, other: pd.Series) -> tuple[float, float | None, float | None, int]:
    """Mean difference of the same seeds, Student's interval, seeds."""
    values = (one - other).dropna().to_numpy(dtype=float)
    return (float(values.mean()), *mean_interval(values), len(values))


@of("defaults")
def defaults(frame: pd.DataFrame) -> str:
    """A row for each setting."""
    lines = [
        [
            name,
            len(part),
            f"{int(part['evaluations'].max()):,}",
            spread(part["median"]),
            spread(part["minimum"], 4),
            spread(part["classes_99"], 0),
            spread(part["top1_share"], 2),
        ]
        for name, part in settings(frame)
    ]
    columns = [
        "setting",
        "seeds",
        "evaluations",
        "median confidence",
        "minimum",
        "classes >= 0.99 of 50",
        "top-1 share",
    ]
    return markdown(columns, lines)


@of("defaults")
def defaults_said(frame: pd.DataFrame) -> str:
    """The new defaults less each other setting."""
    by = dict(settings(frame))
    said = []
    for name, part in by.items():
        if name == "now" or "now" not in by:
            continue
        value, low, high, n = _paired(by["now"]["median"], part["median"])
        seeds = f"{n} seed{'s' * (n > 1)} in common"
        shown = low is not None and high is not None and (low > 0 or high < 0)
        none = "" if shown else ", no effect that these show"
        said.append(f"*{name}* {interval(value, low, high, sign='+')} ({seeds}{none})")
    return f"The median now, less that of the other settings: {'; '.join(said)} (null: no difference)." if said else ""


@of("defaults_mnist")
def defaults_mnist(frame: pd.DataFrame) -> str:
    """A row for each encoding and setting."""
    lines = []
    for (encoding, setting), part in frame.groupby(["encoding.kind", "setting"], sort=True):
        figures = [spread(part["median"], 6), spread(part["median_log_odds"], 1), spread(part["classes_9999"], 0)]
        lines.append([encoding, setting, len(part), f"{int(part['evaluations'].max()):,}", *figures])
    columns = ["encoding", "setting", "seeds", "evaluations", "median confidence", "its log-odds", "classes >= 0.9999"]
    return markdown(columns, lines)


# ------------------------------------------------------------------------------------------- networks of other families


@of("families_runs")
def families_runs(frame: pd.DataFrame) -> str:
    """A row for each network, and each ensemble."""
    lines = [
        [name, len(part), f"{int(part['evaluations'].max()):,}", spread(part["median"]), spread(part["classes_99"], 0)]
        for name, part in frame.groupby("run", sort=False)
    ]
    return markdown(["against", "seeds", "evaluations", "median confidence", "classes >= 0.99"], lines)


@of("families_transfer")
def families_transfer(frame: pd.DataFrame) -> str:
    """A row for each pair of networks, elites and photographs."""
    lines = []
    rows = frame[(frame["elites"] == "all") & (frame["source"] != frame["to"])]
    for (source, to), part in rows.groupby(["source", "to"], sort=False):
        line = [_network(source), _network(to)]
        for variant in ("same_pixels", "photographs"):
            by = {row["figure"]: row for row in part[part["variant"] == variant].to_dict("records")}
            pairs = [("same_top1", "same_by_chance"), ("class_is_top1", "chance"), ("same_super_class", "")]
            for name, null in pairs if variant == "same_pixels" else pairs[1:2]:
                line.append(share(by[name]) if name in by else "")
                if null and variant == "same_pixels":
                    line.append(percent(by[null]["value"]) if null in by else "")
        lines.append(line)
    columns = ["evolved on", "shown to", "same answer (95 %)", "by chance", "the evolved class", "by chance"]
    columns.append("its super-class")
    return markdown([*columns, "photographs: their class"], lines)


@of("families_transfer")
def families_said(frame: pd.DataFrame) -> str:
    """The pairs that agree least and most, beside chance."""
    rows = frame[(frame["elites"] == "all") & (frame["source"] != frame["to"]) & (frame["variant"] == "same_pixels")]
    same = records(rows[rows["figure"] == "same_top1"].sort_values("value"))
    chance = dict(rows[rows["figure"] == "same_by_chance"].set_index(["source", "to"])["value"])
    least, most = (
        f"{share(row)} from {_network(row['source'])} to {_network(row['to'])}" for row in (same[0], same[-1])
    )
    above = sum(row["low"] > chance[row["source"], row["to"]] for row in same)
    return (
        f"Between {least} and {most} get the answer that the network they were evolved on gives, of {same[0]['n']} "
        f"elites each; by chance, answers permuted within runs, {percent(min(chance.values()))} to "
        f"{percent(max(chance.values()))}. The interval is above that of its direction in {above} of {len(same)}."
    )


def _network(spec: str) -> str:
    return spec.rpartition(":")[2].removesuffix(".safetensors")


@of("families_siblings")
def families_siblings(frame: pd.DataFrame) -> str:
    """A row for each network and super-class."""
    lines = []
    for (target, kind), part in frame[frame["figure"] == "more_than_others"].groupby(
        ["target", "super_class"], sort=False
    ):
        by = {row["measure"]: row for row in part.to_dict("records")}
        cells = []
        for measure in ("log_odds", "log_odds_without_siblings"):
            row = by.get(measure)
            said = "" if row is None else interval(row["value"], row["low"], row["high"], 2, "+")
            cells.append(said + ("" if row is None or missing(row.get("p")) else f", p {row['p']:.2g}"))
        lines.append([_network(target), kind, f"{by['log_odds']['n']:.0f}", *cells])
    columns = ["network", "super-class", "classes", "log-odds, less others' (95 %)", "without its siblings"]
    return markdown(columns, lines)


@of("families_siblings")
def families_dogs(frame: pd.DataFrame) -> str:
    """Dogs on the first network."""
    rows = frame[(frame["super_class"] == "dog") & (frame["figure"] == "more_than_others")]
    first = rows[rows["target"] == rows["target"].iloc[0]].set_index("measure")
    alone, without = records(first.loc[["log_odds", "log_odds_without_siblings"]])
    shown = [interval(row["value"], row["low"], row["high"], 2, "+") for row in (alone, without)]
    return (
        f"Of {_network(first['target'].iloc[0])}, dogs have {shown[0]} in log-odds beside the others ({alone['n']} "
        f"classes, p {alone['p']:.2g}, classes permuted), and {shown[1]} without the other dogs in the softmax."
    )


@of("families_ensembles")
def families_ensembles(frame: pd.DataFrame) -> str:
    """A row for each ensemble: its members together, and the one left out."""
    lines = []
    for left_out, part in frame.groupby("left_out", sort=False):
        outside = part["is_left_out"].astype(bool)
        members, [other] = part[~outside], records(part[outside])
        cells = [spread(members["class_is_top1"], 2), spread(members["median_confidence"])]
        cells += [interval(other["class_is_top1"], other["low"], other["high"], 2), number(other["chance"], 2)]
        lines.append([left_out, int(part["n"].max()), *cells, number(other["median_confidence"])])
    columns = ["left out", "images", "members, each alone: the evolved class", "its median confidence"]
    return markdown([*columns, "left out: the evolved class (95 %)", "by chance", "its median confidence there"], lines)


@of("families_ensembles")
def families_ensembles_said(frame: pd.DataFrame) -> str:
    """The networks left out together, beside the members."""
    outside = frame["is_left_out"].astype(bool)
    shown = []
    for part in (frame[outside], frame[~outside]):
        n = int(part["n"].sum())
        value = float((part["class_is_top1"] * part["n"]).sum() / n)
        low, high = wilson(round(value * n), n)
        shown.append(f"{percent(value)} ({100 * low:.1f} to {100 * high:.1f}, n {n})")
    return (
        f"A network left out gives {shown[0]} of the images the class that they were evolved for, a member alone "
        f"{shown[1]}; by chance, classes permuted, {percent(frame[outside]['chance'].mean())} of those left out. (Each "
        "image counts once for every member, so that interval is too narrow.)"
    )


@of("relatives", make="make figures-relatives")
def relatives(frame: pd.DataFrame) -> str:
    """A matrix: rows evolved on, columns shown to."""
    columns = list(dict.fromkeys(frame["to"]))
    lines = []
    for source, rows in frame.groupby("source", sort=False):
        cells = []
        for to in columns:
            values = rows[rows["to"] == to]["class_is_top1"].to_numpy(dtype=float)
            bounds = np.clip(np.array(mean_interval(values), dtype=float), 0, 1)  # of shares
            cells.append(interval(float(values.mean()), *bounds, 2) if len(values) else "")
        lines.append([source, rows["seed"].nunique(), *cells])
    return (
        markdown(["evolved on", "seeds", *columns], lines) + f"\n\nBy chance it is {number(frame['chance'].mean(), 2)}."
    )


@of("relatives", make="make figures-relatives")
def relatives_said(frame: pd.DataFrame) -> str:
    """Heads of the LeNet beside networks of other kinds, by seed."""
    heads = frame["to"].str.startswith("head")
    shares = frame[frame["source"] == "lenet"].groupby([heads, "seed"])["class_is_top1"].mean()
    value, low, high, n = _paired(shares[True], shares[False])
    return (
        f"What fools a LeNet fools the heads on its features in {percent(shares[True].mean(), 0)}, and networks of "
        f"other kinds in {percent(shares[False].mean(), 0)}: a difference of {interval(value, low, high, 2)} ({n} "
        "seeds; null: no difference)."
    )


@of("fashion_effects")
def fashion(frame: pd.DataFrame) -> str:
    """A row for each level, a column for each figure."""
    shown = {
        "median_log_odds": ("median log-odds", 2),
        "classes_9999": ("share of classes >= 0.9999", 2),
        "evaluations_to_99": ("evaluations to 0.99", 0),
        "test_error": ("test error", 3),
    }
    lines = []
    for (factor, level, against), rows in frame.groupby(["factor", "level", "against"], sort=False):
        by = {row["figure"]: row for row in rows.to_dict("records")}
        cells = [
            interval(by[n]["value"], by[n]["low"], by[n]["high"], d, "+") if n in by else ""
            for n, (_, d) in shown.items()
        ]
        lines.append([f"{factor}: {level} against {against}", int(rows["n"].max()), *cells])
    return markdown(["what differs", "seeds", *(title for title, _ in shown.values())], lines)


@of("fashion_effects")
def fashion_said(frame: pd.DataFrame) -> str:
    """Which levels change how sure of its elites a network is."""
    rows = records(frame[frame["figure"] == "median_log_odds"])
    said = {f"{row['factor']}: {row['level']}": row for row in rows}
    clear = [
        f"{name} ({interval(row['value'], row['low'], row['high'], 1, '+')})"
        for name, row in said.items()
        if row["low"] > 0 or row["high"] < 0
    ]
    rest = [name for name, row in said.items() if row["low"] <= 0 <= row["high"]]
    parts = [f"The median log-odds differ clearly at {'; '.join(clear)}"] if clear else []
    parts += [f"there is no effect that {rows[0]['n']} seeds show at {'; '.join(rest)}"] if rest else []
    return f"{', and '.join(parts)}."


# ------------------------------------------------------------------------------------------ retraining, gradient ascent


@of("retrain")
def retrain(frame: pd.DataFrame) -> str:
    """A row for each network of a chain; medians over seeds."""
    shown = {
        "median": 4,
        "median_log_odds": 1,
        "evaluations_to_99": 0,
        "held_out_accuracy": 3,
        "false_alarms": 3,
        "recall_seen": 2,
        "recall_unseen": 2,
        "recall_other_encoding": 2,
    }
    lines = []
    for (data, defence, iteration), part in frame.groupby(["data", "defence", "iteration"], sort=False):
        by = {row["figure"]: row for row in records(part)}
        cells = [
            interval(by[name]["value"], by[name]["low"], by[name]["high"], digits) if name in by else ""
            for name, digits in shown.items()
        ]
        if not missing(by["evaluations_to_99"].get("never")) and missing(by["evaluations_to_99"]["value"]):
            cells[2] = "never"
        lines.append([data, defence, iteration, int(by["median"]["seeds"]), *cells])
    columns = ["data", "learned from", "network", "seeds", "median confidence (95 %)", "its log-odds"]
    columns += ["evaluations to 0.99", "held-out accuracy", "false alarms", "calls fooling: seen", "unseen"]
    return markdown([*columns, "of the other encoding"], lines)


@of("ascend", make="make figures-ascend")
def ascend(frame: pd.DataFrame) -> str:
    """Of every network and way, how many climbs arrived and when."""
    lines = []
    for (network, way, method), part in frame.groupby(["network", "way", "method"], sort=False):
        counts = [f"{part[f'passes_{level}'].notna().sum()} of {len(part)}" for level in ("top1", "0.99", "0.9999")]
        passes = float(np.median(part["passes_0.99"].astype(float).fillna(np.inf)))
        stuck = int((part["note"] == "stuck").sum())
        told = way if method == "ascent" else f"{way}, {method}"
        lines.append([network, told, *counts, number(passes, 0), number(part["confidence"].median(), 4), stuck])
    columns = ["network", "way", "arrived at its class", "at 0.99", "at 0.9999", "median passes to 0.99"]
    return markdown([*columns, "median confidence", "stuck"], lines)


# ------------------------------------------------------------------------------------------------------------- ImageNet


@of("imagenet_photographs", make="make figures-imagenet")
def imagenet_photographs(frame: pd.DataFrame) -> str:
    """What the networks say of photographs."""
    lines = [[r["network"], r["photographs"], number(r["median"], 2), number(r["highest"], 2)] for r in records(frame)]
    return markdown(["network", "photographs", "median of the top-1 confidence", "highest"], lines)


@of("imagenet_thousand", make="make figures-imagenet")
def imagenet_thousand(frame: pd.DataFrame) -> str:
    """The run of a thousand classes."""
    [row] = records(frame)
    return (
        f"`imagenet_cppn`, over Ray with two evaluators, filled {row['filled']} of 1000 classes in "
        f"{row['evaluations']:,} evaluations, with a median of {number(row['median'])}, {row['classes_99']} of 0.99 "
        f"and more, and a top-1 share of {number(row['top1_share'], 2)}. It took {row['seconds']:.0f} s, at most "
        f"{row['driver_mib']:,.0f} MiB of memory for the driver and {row['evaluator_mib']:,.0f} for an evaluator, and "
        f"{row['disk_mib']:.0f} MiB of disk."
    )
