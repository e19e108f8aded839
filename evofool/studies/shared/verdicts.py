"""By what rule a finding of ours is that of a paper, and what an experiment's row says (papers.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "ABOUT",
    "AT_LEAST",
    "NO_DIFFERENCE",
    "READ",
    "REPORTED",
    "VERDICTS",
    "Experiment",
    "OfRuns",
    "OfStudy",
    "verdict",
]

READ, REPORTED = "read", "reported"
AT_LEAST, ABOUT, NO_DIFFERENCE = "at least", "about", "no difference"
VERDICTS = {  # the rule; what it takes is said in `verdict`
    "same": "the interval lies beyond the null on their side, and reaches their value, if they give one",
    "consistent": "they found no difference, and it holds the null; what difference would count, they do not say",
    "stronger": "it lies beyond their value",
    "weaker": "it lies between the null and their value: the same effect, smaller",
    "contradicts": "it does not reach their value, nor leave the null; or, of a direction, it lies on the other side",
    "unclear": "it holds the null, and their value too; or there is no interval, as of a single run",
    "not run": "there is no number",
}


@dataclass(frozen=True)
class OfRuns:
    """Ours is a column of a table of runs, a number for each seed.

    Attributes:
        runs: a name of protocols.RUNS.
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
        answer: a name of protocols.ANSWERS.
        where: which row, {column: a pattern}.
        last: whether the last of several rows is meant; otherwise there may be only one.
        null: which row has the null, in place of the experiment's; of `null_answer`, if that is another.
        table: docs/results/NAME.csv that has such a summary, of several things: which of them, `of_table`.
    """

    answer: str
    where: Mapping[str, str]
    null: Mapping[str, str] = field(default_factory=dict)
    null_answer: str = ""
    table: str = ""
    of_table: Mapping[str, str] = field(default_factory=dict)
    last: bool = False


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

    Where they found no difference, an interval that holds the null is consistent, and any other contradicts. Else all
    is seen so that more is more of what they found. "At least" their value means that more is the same, too.

    Args:
        low, high: of ours; None without an interval, infinite where a level is never reached.
        null: in place of the experiment's.
    """
    null, theirs = experiment.null if null is None else null, experiment.theirs
    if low is None or high is None:
        return "unclear"
    if experiment.claim == NO_DIFFERENCE:
        return "consistent" if low <= null <= high else "contradicts"
    if experiment.fewer:
        low, high, null, theirs = -high, -low, -null, None if theirs is None else -theirs
    if theirs is None:
        return "same" if low > null else "contradicts" if high < null else "unclear"
    if low <= null:
        return "unclear" if high >= theirs else "contradicts"
    if high < theirs:
        return "weaker"
    return "stronger" if low > theirs and experiment.claim == ABOUT else "same"
