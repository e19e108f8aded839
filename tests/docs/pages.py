"""The pages that people read, cut into what a test can try: blocks, spans of code, links, headings.

A block is run as it stands. What stands in an HTML comment on the line before it says otherwise, and no reader sees it:

    <!-- not run: REASON -->    it needs a cluster, a GPU, or hours; what it names is checked all the same
    <!-- exit code: N -->       its last command ends with N

A python or yaml block that begins with a comment `# NAME.py` is a file of that name. A text block is what the block
before it prints, shortened.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
OURS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL = [*OURS, ROOT / "SECURITY.md"]

LANGUAGES = ("bash", "python", "yaml", "text", "")  # "" is a drawing: nothing to run
MARKS = ("not run", "exit code")
_MARK = r"(?:^<!-- (?P<mark>[a-z ]+): (?P<value>.+?) -->\n)?"
_BLOCK = re.compile(_MARK + r"^```(?P<language>.*)\n(?P<text>(?:.*\n)*?)^```$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        line: of the page, from 1, on which its text begins.
        mark: what the comment before it says, e.g. "not run"; "" without one.
    """

    page: Path
    line: int
    language: str
    text: str
    mark: str
    value: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str:
        """The file that it is, e.g. "mine.py"; "" if none."""
        found = re.match(r"# ([\w-]+\.(?:py|yaml))\n", self.text)
        return found[1] if found else ""


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            page,
            text.count("\n", 0, match.start("text")) + 1,
            match["language"],
            match["text"],
            match["mark"] or "",
            match["value"] or "",
        )
        for match in _BLOCK.finditer(text)
    ]


def lines(block: Block) -> list[str]:
    """The commands of a bash block, without comments; one that ends with a backslash goes on in the next line."""
    text = block.text.replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def words(line: str) -> list[str]:
    """The words of a command as a shell has them, without its comment, and with patterns left as they are."""
    return shlex.split(line, comments=True)


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _BLOCK.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """What stands between backticks outside blocks, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """What links to headings of a page may say after #, made from the headings as GitHub does."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        number = next(i for i in range(1000) if (f"{slug}-{i}" if i else slug) not in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found
