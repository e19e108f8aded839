"""What a notebook shows of runs, elites and genomes: HTML that needs nothing but itself, and runs no script.

Names of classes, of files and of whatever else a run says are anybody's, so all text is escaped, and characters that
are not for reading, such as those that turn the direction of writing, are shown as "?".
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from evofool.base.png import decode_png, encode_png
from evofool.base.sheets import percent
from evofool.base.streams import printable
from evofool.encoding.exchange import GenomeJson, from_json, render
from evofool.errors import ConfigError, CorruptData, EvofoolError
from evofool.records import Facts
from evofool.report.sheet import strength
from evofool.store.reader import Run

__all__ = ["MOST", "SIDE", "Genome", "Page", "gallery", "picture", "run_page"]

MOST = 100  # pictures in a gallery, by default
_OF_RUN = 20  # pictures that a run shows
SIDE = 96  # pixels of a picture

_GALLERY = """\
<div style="display: flex; flex-wrap: wrap; gap: 10px; font: 12px/1.35 system-ui, sans-serif">
{%- for elite in elites %}
<figure style="margin: 0; width: {{ side }}px" title="{{ elite.title }}">
<img src="data:image/png;base64,{{ elite.png }}" alt="{{ elite.title }}" width="{{ side }}" height="{{ elite.height }}"
 style="display: block; image-rendering: {{ elite.rendering }}">
<figcaption style="overflow: hidden; text-overflow: ellipsis; white-space: nowrap"><bdi>{{ elite.name }}</bdi>
<br>{{ elite.confidence }}</figcaption>
</figure>
{%- endfor %}
</div>
{%- if left %}
<p>{{ left }} more: <code>gallery(most={{ left + elites | length }})</code> shows all.</p>
{%- endif %}
{%- if not elites %}<p>No elites.</p>{% endif %}
"""

_RUN = """\
<div>
<table>
<caption style="text-align: left; font-weight: bold"><bdi>{{ path }}</bdi></caption>
{%- for name, value in facts %}
<tr><th scope="row" style="text-align: left">{{ name }}</th>
<td style="text-align: left"><bdi>{{ value }}</bdi></td></tr>
{%- endfor %}
</table>
{{ gallery | safe }}
{%- if trouble %}<p>{{ trouble }}</p>{% endif %}
</div>
"""

_GENOME = """\
<div style="display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start">
<img src="data:image/png;base64,{{ png }}" alt="{{ what }}" width="{{ side }}" height="{{ height }}"
 style="image-rendering: pixelated">
<div>
<p>{{ what }}</p>
{%- if genes %}
<details><summary>{{ genes | length }} genes</summary>
<table>
<tr>{% for name in genes[0] %}<th scope="col">{{ name }}</th>{% endfor %}</tr>
{%- for gene in genes %}
<tr>{% for value in gene.values() %}<td>{{ value }}</td>{% endfor %}</tr>
{%- endfor %}
</table>
</details>
{%- endif %}
</div>
</div>
"""


class Page:
    """A piece of HTML, which a notebook shows; `str` gives the text."""

    def __init__(self, html: str, what: str) -> None:
        self._html, self._what = html, what

    def __str__(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._what

    def _repr_html_(self) -> str:
        return self._html


class Genome:
    """A genome by itself: what the column `genome_json` holds, to be looked at, and drawn at any size.

    Attributes:
        data: the JSON as Python has it.
        image_size: (height, width) that it was evolved at.
        channels: 1 (grey) or 3 (RGB).

    Args:
        genome: JSON, as text or parsed.

    Raises:
        InvalidGenome: it is none, or it has activations of one's own that are not registered here.
    """

    def __init__(self, genome: GenomeJson) -> None:
        encoding, _ = from_json(genome)
        self.data: Facts = dict(json.loads(genome) if isinstance(genome, str) else genome)
        self.image_size, self.channels = (encoding.height, encoding.width), encoding.channels

    def render(self, size: int | tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """(height, width, 1 or 3) uint8; see `evofool.render`."""
        return render(self.data, size)

    def __repr__(self) -> str:
        nodes, connections = (len(self.data.get(name, ())) for name in ("nodes", "connections"))
        genes = f", {nodes} nodes, {connections} connections" if nodes else ""
        height, width = self.image_size
        colours = "grey" if self.channels == 1 else "colour"
        return f"Genome({self.data['encoding']}{genes}, {width} x {height} pixels, {colours})"

    def _repr_html_(self) -> str:
        height, width = self.image_size
        side = max(width, 2 * SIDE)
        grown = self.data["encoding"] == "cppn"  # a formula, which is sharp at any size
        image = self.render((round(height * side / width), side) if grown else None)
        genes = [
            {**dict.fromkeys(("id", "activation", "source", "destination", "weight"), ""), **gene}
            for gene in [*self.data.get("nodes", ()), *self.data.get("connections", ())]
        ]
        return _html(
            _GENOME, png=_base64(image), what=repr(self), side=side, height=round(height * side / width), genes=genes
        )


def gallery(elites: pd.DataFrame, most: int = MOST, size: int = SIDE) -> Page:
    """Elites with their classes and confidences, in the order of the rows.

    Args:
        elites: rows of the elites table; of pictures that are missing the genomes are drawn.
        most: pictures to show; a line says how many are left.
        size: the width of each, in pixels. Small pictures are enlarged without smoothing, so that pixels stay pixels.

    Raises:
        CorruptData: a picture, or a genome in place of one, is damaged; the message names the class.
        ConfigError: a number is out of range.
    """
    for name, value, limit in (("most", most, 10_000), ("size", size, 1024)):
        if not 1 <= value <= limit:
            raise ConfigError(f"gallery: {name}={value} is not in 1 .. {limit}.")
    shown = [_shown_elite(row, size) for row in elites.head(most).to_dict("records")]
    html = _html(_GALLERY, elites=shown, side=size, left=len(elites) - len(shown))
    return Page(html, f"Gallery of {len(elites)} elites; a notebook shows it, str() gives its HTML")


def picture(row: Facts) -> NDArray[np.uint8]:
    """The picture of an elite, a row of its table: as archived, or drawn anew where the row has none.

    Raises:
        CorruptData: the picture, or the genome in place of it, is damaged.
        ConfigError: the row has neither.
    """
    where, stored = f"class {row.get('class_name', '?')}", row.get("image")
    data = bytes(stored["bytes"] or b"") if isinstance(stored, dict) else b""
    if not data:
        if not isinstance(row.get("genome_json"), str):
            raise ConfigError(
                f"{where}: there is neither a picture nor a genome_json in this row; keep one of the two."
            )
        return render(row["genome_json"])
    image = decode_png(data, where)
    sha256 = row.get("image_sha256")
    if isinstance(sha256, str) and hashlib.sha256(image.tobytes()).hexdigest() != sha256:
        raise CorruptData(f"{where}: its image is damaged; it is not the one of image_sha256.")
    return image


def run_page(run: Run) -> str:
    """A run: its counters, and the elites that the network is surest of. What is damaged is said in a sentence."""
    status, units = run.status(), bool(run.store.cells.units)
    cells, measure = ("units", "activation") if units else ("classes", "confidence")
    names = {
        "target": "network",
        "encoding": "encoding",
        "generation": "generation",
        "evaluations": "evaluations",
        "filled": f"{cells} filled",
        "median": f"median {measure}",
        "minimum": f"minimum {measure}",
        "classes_99": "classes ≥ 0.99",
        "classes_9999": "classes ≥ 0.9999",
        "archive_hash": "archive hash",
    }
    facts = [(text, _value(name, status)) for name, text in names.items() if status.get(name) is not None]
    best, trouble = "", ""
    try:
        by = "objective" if units else "log_odds"
        elites = run.elites(pictures=False).sort_values(by, ascending=False, kind="stable")
        best = str(gallery(elites.head(_OF_RUN)))
        if len(elites) > _OF_RUN:
            trouble = f"These are {_OF_RUN} of {len(elites)} elites; run.elites().evofool shows them."
    except EvofoolError as error:
        trouble = error.message
    return _html(_RUN, path=status["path"], facts=facts, gallery=best, trouble=trouble)


def _value(name: str, status: Facts) -> str:
    value = status[name]
    if name in ("median", "minimum"):
        return f"{value:.4g}" if "classes_99" not in status else percent(value)
    if name == "filled":
        return f"{value} of {status['cells']}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _shown_elite(row: Facts, side: int) -> Facts:
    image = picture(row)
    height, width = image.shape[:2]
    if max(height, width) > side:
        small = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        image = np.atleast_3d(np.asarray(small))
    name, confidence = str(row.get("class_name", "")), strength(row)
    born = f"generation {row['generation']}" if "generation" in row else ""
    return {
        "name": name,
        "confidence": confidence,
        "title": ", ".join(filter(None, [name, confidence, born])),
        "png": _base64(image),
        "height": max(1, round(side * height / width)),
        "rendering": "pixelated" if max(height, width) < side else "auto",
    }


def _base64(image: NDArray[np.uint8]) -> str:
    return base64.b64encode(encode_png(image)).decode()


def _html(template: str, **values: Any) -> str:
    return str(_environment().from_string(template).render(values))


@functools.cache
def _environment() -> Any:
    from jinja2 import Environment, StrictUndefined  # a tenth of a second, so not before it is needed

    return Environment(autoescape=True, undefined=StrictUndefined, finalize=_readable)


def _readable(value: object) -> object:
    """Text without characters that are not for reading. The templates' own text is no value, and stays as it is."""
    return printable(value) if type(value) is str else value
