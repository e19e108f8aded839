"""docs/watch.svg: what `evofool watch` shows of a run, on a terminal of 110 columns and 43 lines.

python tests/figures/watching.py RUN
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from evofool.report.screen import screen
from evofool.report.watch import Follower

COLUMNS, LINES = 110, 43
OUT = Path(__file__).parent.parent.parent / "docs" / "watch.svg"
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # which a reader's browser would fetch


def main() -> None:
    """Draw it."""
    follower = Follower(Path(sys.argv[1]))
    follower.catch_up()
    shape = {"width": COLUMNS, "height": LINES}
    console = Console(record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor", **shape)
    console.print(screen(follower.glance(), **shape))
    drawn = console.export_svg(title="evofool watch", unique_id="watch")
    drawn = re.sub(r"<!--.*?-->", "", drawn)
    OUT.write_text(FONTS.sub("", drawn).replace("Fira Code, monospace", "monospace"))
    print(OUT)


if __name__ == "__main__":
    main()
