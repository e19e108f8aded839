"""`evofool report`: runs as one HTML file, which holds all it needs and asks no network for anything.

page.html is the template; page.css and page.js go into it as they are. Whatever a run says (names of classes, of files,
of studies) is escaped by the template, or stands in JSON that the script shows as text; a policy in the page lets no
other script run, and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from evofool.base import provenance
from evofool.base.places import quoted
from evofool.base.sheets import percent
from evofool.errors import ConfigError
from evofool.records import Facts
from evofool.report import charts, data, pictures
from evofool.report.charts import Leaf, Panel, Series
from evofool.report.curves import QUANTILES
from evofool.report.data import cut
from evofool.report.findings import Findings, find
from evofool.report.sheet import strength
from evofool.store import files
from evofool.store.reader import open_run
from evofool.store.remote.working_copy import named

__all__ = ["page", "write"]

MARK = "<!doctype html>\n<!-- evofool report"  # how every report begins, by which it is told from other files
ROOM = 9 << 20  # bytes of pictures that a page may hold whole
ROOM_FOR_DRAWN = 1 << 20  # the same of those that a script draws again anyway
LEGEND = 48  # names
TOLD = 12  # points of a curve that are told in a table
COARSE = 100  # pixels; smaller pictures are enlarged without smoothing
SENTENCE = 3000  # characters of a study's sentence


def write(places: Sequence[str | Path], out: Path, command: str) -> None:
    """Write the report of runs to a file.

    Args:
        out: replaced if it is a report, and refused if it is anything else.
        command: that asked for it.

    Raises:
        ConfigError: the place is taken, or a run has no elites.
        StorageError: it cannot be written.
    """
    refuse_place(out)
    runs = {str(run.path.resolve()): run for run in map(open_run, places)}
    blob = page([find(run) for run in runs.values()], command).encode()
    with files.guard(out.parent, "make the folder"):
        out.parent.mkdir(parents=True, exist_ok=True)
    files.put(out, blob)


def _told_apart(found: Sequence[Findings]) -> None:
    """Give runs of one name the names of their folders; where these are the same too, their whole places."""
    for names in ([one.run.path.name for one in found], [named(str(one.run.path)) for one in found]):
        if len({one.name for one in found}) < len(found):
            for one, name in zip(found, names):
                one.name = name


def refuse_place(out: Path) -> None:
    """Raise where a report may not be written to a path, before any work."""
    if out.is_dir():
        raise ConfigError(f"--out: {out} is a folder; give a file, e.g. {out / 'report.html'}.")
    with files.guard(out, "read"):
        if out.exists():
            with out.open("rb") as file:
                if file.read(len(MARK)) != MARK.encode():
                    raise ConfigError(f"--out: {out} exists and is no report of evofool; give another name.")


def page(found: Sequence[Findings], command: str) -> str:
    """The report of one run or several, as HTML.

    Args:
        command: that asked for it.
    """
    if len({_of_units(one) for one in found}) > 1:
        of = ", ".join(one.name for one in found if _of_units(one))
        raise ConfigError(f"the cells of {of} are of units, those of the other runs of classes; report them apart.")
    script, style = (_file(name) for name in ("page.js", "page.css"))
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data: blob:",
            f"style-src '{_sha256(style)}'",
            f"script-src '{_sha256(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    _told_apart(found)
    style_of = _styles(found)
    runs = [_run(number, one, len(found), style_of) for number, one in enumerate(found)]
    told = [data.run_data(one, len(found)) for one in found]
    return environment.from_string(_file("page.html")).render(
        mark=Markup(MARK),
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        title=", ".join(run["name"] for run in runs),
        runs=runs,
        measure=_measure(found[0]),
        cell="unit" if _of_units(found[0]) else "class",
        summary=_below_each_other([_summary(one) for one in found]),
        groups=sorted({elite.group for one in found for elite in one.elites if elite.group}),
        count=sum(len(one.elites) for one in found),
        charts=[Markup(chart) for chart in _charts(found)],
        facts=data.as_json({"runs": [facts for facts, _ in told]}),
        genomes=[genomes for _, genomes in told],
        study_rows=[data.study_rows(one) for one in found],
        command=command,
        versions=", ".join(f"{name} {version}" for name, version in provenance.versions().items()),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _file(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _run(number: int, found: Findings, runs: int, style_of: Mapping[str, int]) -> Facts:
    """What the template says of a run."""
    images = {elite.row["image_sha256"]: elite.image for elite in found.elites}
    is_drawn = not found.undrawn
    shown = pictures.fit(images, (ROOM_FOR_DRAWN if is_drawn else ROOM) // runs, small=is_drawn)
    tree, legend = _tree(number, found, style_of)
    return {
        "name": cut(found.name),
        "elites": [
            {
                "name": cut(elite.row["class_name"]),
                "confidence": strength(elite.row),
                "picture": shown[elite.row["image_sha256"]].uri,
            }
            for elite in found.elites
        ],
        "points": _points(found),
        "tree": Markup(tree),
        "legend": legend,
        "donors": [(cut(name), count) for name, count in found.donors[:TOLD]],
        "studies": [
            {
                "name": cut(study.name),
                "question": cut(study.facts["question"], SENTENCE),
                "sentence": cut(study.facts["sentence"], SENTENCE),
                "picture": pictures.data_uri(study.picture, "image/svg+xml"),
            }
            for study in found.studies
        ],
        "left_out": [cut(sentence, SENTENCE) for sentence in found.left_out],
        "provenance": _provenance(found),
        "config": (found.run.path / "_evofool" / "config.yaml").read_text(encoding="utf-8"),
        "undrawn": cut(found.undrawn),
        "whole": all(one.exact for one in shown.values()),
        "coarse": max(found.run.provenance["image_size"]) < COARSE,
    }


def _below_each_other(summaries: Sequence[Mapping[str, str]]) -> tuple[list[str], list[list[str]]]:
    """The names of all figures that any run has, and a row of them for each run."""
    names = list(dict.fromkeys(name for summary in summaries for name in summary))
    return names, [[summary.get(name, "not known") for name in names] for summary in summaries]


def _summary(found: Findings) -> dict[str, str]:
    curves, facts, units = found.curves, found.run.provenance, _of_units(found)
    filled = len({elite.row["class_index"] for elite in found.elites})
    median = curves.quantiles.get(0.5)
    return {
        "target": cut(facts["target"]),
        "encoding": found.run.config.encoding.kind,
        "evaluations": f"{curves.evaluations[-1]:,}" if curves.evaluations else "0",
        "generations": f"{curves.generations[-1] + 1:,}" if curves.generations else "0",
        "units" if units else "classes": f"{filled} of {len(facts['class_indices'])}",
        **({f"median {_measure(found)}": _told(found, median[-1])} if median else {}),
        **{f"classes ≥ {limit:g}": str(counts[-1]) for limit, counts in curves.classes.items()},
        "placements": f"{curves.placements[-1]:,}" if curves.placements else "0",
        **({"goal switches": f"{curves.switches[-1]:,}"} if curves.switches else {}),
    }


def _points(found: Findings) -> tuple[list[str], list[list[str]]]:
    """Some points of the curves as a table: headings and rows."""
    curves = found.curves
    columns: dict[str, Sequence[float]] = {"evaluations": curves.evaluations, "generation": curves.generations}
    columns |= {"median" if q == 0.5 else f"{q:.0%} quantile": ys for q, ys in curves.quantiles.items()}
    columns |= {f"classes ≥ {limit:g}": ys for limit, ys in curves.classes.items()}
    columns |= {"placements": curves.placements, "goal switches": curves.switches}
    columns = {name: ys for name, ys in columns.items() if ys}
    last = len(curves.generations) - 1
    rows = sorted({round(last * i / (TOLD - 1)) for i in range(TOLD)}) if last >= 0 else []
    return list(columns), [[_told(found, ys[i]) for ys in columns.values()] for i in rows]


def _of_units(found: Findings) -> bool:
    """Whether the run's cells are of units, which have activations in place of confidences."""
    return bool(found.run.store.cells.units)


def _measure(found: Findings) -> str:
    return "activation" if _of_units(found) else "confidence"


def _told(found: Findings, value: float) -> str:
    """A number of a curve: a count, a confidence, or an activation."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if _of_units(found) else percent(value)


# ------------------------------------------------------------------------------------------------------ charts


def _charts(found: Sequence[Findings]) -> list[str]:
    """Lines over evaluations; of several runs side by side, and their medians in one more panel."""
    several = len(found) > 1
    parts = [_confidence(one, several) for one in found]
    if several:
        longest = max((one.curves.evaluations for one in found), key=len)
        medians = [
            Series(one.name, _on(longest, one.curves.evaluations, one.curves.quantiles.get(0.5, [])), i)
            for i, one in enumerate(found)
        ]
        parts.append(Panel("All runs: median", longest, medians))
    x, measure, units = "evaluations", _measure(found[0]), _of_units(found[0])
    told = f"{measure.capitalize()} of the elites over evaluations. {_said(found)}"
    sure = charts.lines(
        "How many classes have an elite of at least some confidence",
        _each(found, _classes),
        x,
        "classes",
        top=max(len(one.run.store.cells) for one in found),
    )
    return [
        charts.lines(told, parts, x, measure, top=None if units else 1.0),
        *([] if units else [sure]),
        charts.lines("Placements and goal switches so far", _each(found, _placed), x, "so far"),
    ]


def _each(found: Sequence[Findings], panel: object) -> list[Panel]:
    return [panel(one, len(found) > 1) for one in found]  # type: ignore[operator]


def _titled(title: str, found: Findings, several: bool) -> str:
    return cut(found.name, 46) if several else title


def _confidence(found: Findings, several: bool) -> Panel:
    quantiles = found.curves.quantiles
    bands = [
        (
            f"{low:.0%} to {high:.0%} of the {'units' if _of_units(found) else 'classes'}",
            quantiles[low],
            quantiles[high],
        )
        for low, high in zip(QUANTILES, reversed(QUANTILES))
        if low < high and quantiles.get(low)
    ]
    edges = [Series(f"{q:.0%} quantile", quantiles[q], 1) for q in (0.25, 0.75) if quantiles.get(q)]
    median = [Series("median", quantiles[0.5], 0)] if quantiles.get(0.5) else []
    title = _titled(f"{_measure(found).capitalize()} of the elites", found, several)
    return Panel(title, found.curves.evaluations, [*median, *edges], bands)


def _classes(found: Findings, several: bool) -> Panel:
    counts = found.curves.classes
    title = _titled("Classes with an elite this sure", found, several)
    series = [Series(f"≥ {limit:g}", ys, i) for i, (limit, ys) in enumerate(counts.items())]
    return Panel(title, found.curves.evaluations, series)


def _placed(found: Findings, several: bool) -> Panel:
    curves = found.curves
    series = [("placements", curves.placements), ("goal switches", curves.switches)]
    title = _titled("Placements and goal switches", found, several)
    return Panel(title, curves.evaluations, [Series(name, ys, i) for i, (name, ys) in enumerate(series) if ys])


def _on(xs: Sequence[int], mine: Sequence[int], ys: Sequence[float]) -> list[float]:
    """A curve at other places: at each the last point before it; NaN beyond its ends."""
    found, i = [], -1
    for x in xs:
        while i + 1 < min(len(mine), len(ys)) and mine[i + 1] <= x:
            i += 1
        found.append(ys[i] if i >= 0 and x <= mine[-1] else float("nan"))
    return found


def _said(found: Sequence[Findings]) -> str:
    medians = [(one, one.curves.quantiles.get(0.5)) for one in found]
    told = [f"{one.name} ends with a median of {_told(one, ys[-1])}" for one, ys in medians if ys]
    return f"{'; '.join(told)}."


def _kinds(found: Findings) -> dict[int, str]:
    """What each individual of the tree was surest of: the super-class where it is known, else the class."""
    groups = {elite.row["class_name"]: elite.group for elite in found.elites}
    return {one: groups.get(name) or name for one, name in found.seen_as.items() if one in found.tree}


def _styles(found: Sequence[Findings]) -> dict[str, int]:
    """The kind of line of each class or super-class, the most frequent first; the same in all runs."""
    often = Counter(kind for one in found for kind in _kinds(one).values())
    return {name: i % charts.STYLES for i, (name, _) in enumerate(often.most_common())}


def _tree(number: int, found: Findings, style_of: Mapping[str, int]) -> tuple[str, list[tuple[str, str]]]:
    """The phylogeny, and what its lines mean: (class or super-class, style), the most frequent first."""
    kinds = _kinds(found)
    leaves: dict[int, Leaf] = {}
    for i, elite in enumerate(found.elites):
        identity = int(elite.row["individual_id"])
        if identity not in leaves or found.seen_as.get(identity) == elite.row["class_name"]:
            leaves[identity] = Leaf(elite.row["class_name"], f"#e{number}-{i}")
    told = f"Phylogeny of {found.name}: {len(found.tree)} individuals, {len(leaves)} of them elites"
    styles = {one: style_of[kind] for one, kind in kinds.items()}
    here = set(kinds.values())
    there = [name for name in style_of if name in here]
    drawn = charts.tree(told, found.tree, found.generations, leaves, styles)
    return drawn, [(cut(name), charts.style_class(style_of[name])) for name in there[:LEGEND]]


def _provenance(found: Findings) -> list[tuple[str, str]]:
    facts, status = found.run.provenance, found.status
    sessions: Sequence[Mapping[str, float]] = facts.get("sessions") or ()

    def total(name: str) -> float:
        return sum(float(session.get(name) or 0) for session in sessions)

    numerics = facts.get("numerics") or {}
    rows = {
        "run": named(str(found.run.path)),
        "run id": facts["run_id"],
        "made": facts.get("created_at", ""),
        "seed": found.run.config.seed,
        "archive hash": status.get("archive_hash") or "",
        "target": facts["target"],
        "target fingerprint": facts["target_fingerprint"],
        "preprocessing hash": facts["preprocessing_hash"],
        "configuration fingerprint": facts["config_fingerprint"],
        "numerics": ", ".join(f"{name} {value}" for name, value in numerics.items() if name != "canary"),
        "versions": ", ".join(f"{name} {version}" for name, version in (facts.get("versions") or {}).items()),
        "machine": ", ".join(map(str, (facts.get("machine") or {}).values())),
        "sessions": f"{len(sessions)}, of {total('seconds'):.0f} seconds together",
        "to prove it": f"evofool verify {quoted(named(str(found.run.path)))}",
        "to go on": f"evofool resume {quoted(named(str(found.run.path)))} search.generations=...",
    }
    return [(name, cut(value, SENTENCE)) for name, value in rows.items() if value != ""]
