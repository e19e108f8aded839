"""`evofool study reproduce` as rows of docs/results/reproduce.csv: `make figures-reproduce`.

Both papers, at the full budget or that of the command line: `python tests/figures/reproduce.py small mnist`. What other
tables of docs/results have is read there, so only what they lack is made, and only that becomes rows. Hours; a kill
costs what one run has not committed.
"""

from __future__ import annotations

import sys

import pandas as pd
import rows
from mnist import machine

from evofool.studies.reproduce import Options
from evofool.studies.shared.papers import PAPERS
from evofool.studies.study import conduct

TABLE, BUDGET = "reproduce", "--budget"  # what was made, and not read, has a budget for its source


def main() -> None:
    """Both papers, or those that were asked for."""
    budget = next((word for word in sys.argv[1:] if word not in PAPERS), "full")
    for paper in [word for word in sys.argv[1:] if word in PAPERS] or PAPERS:
        outcome = conduct("reproduce", [paper], Options(budget=budget), tell=print)
        made = outcome.frame[outcome.frame["source"].str.startswith(BUDGET) & outcome.frame["value"].notna()]
        before = rows.read(TABLE)
        if not before.empty:
            again = before["paper"].eq(paper) & before["experiment"].isin(made["experiment"])
            before = before[~again]
        rows.write(TABLE, pd.concat([before, made], ignore_index=True))
        print(f"\n{outcome.sentence}\n")


if __name__ == "__main__":
    machine()
    main()
