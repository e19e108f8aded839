"""The transfer matrix as a picture: rows are what images were evolved on, columns what they are shown to."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from evofool.errors import ConfigError

__all__ = ["heat_map", "need_matplotlib"]

PANELS = {
    "class_is_top1": "share whose class is the answer",
    "median_confidence": "median confidence of the class",
}
CELL, MARGIN, LARGEST = 0.85, 2.4, 24.0  # inches


def need_matplotlib() -> None:
    """Fail before any work where the picture could not be drawn after it.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ConfigError("a heat map needs matplotlib: pip install 'evofool[plots]'.") from None


def heat_map(matrix: pd.DataFrame) -> bytes:
    """PNG bytes of two panels, the share whose class is the answer and the median confidence.

    Args:
        matrix: as `evofool.matrix` gives it. A pair without a value is left grey.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    need_matplotlib()
    from matplotlib.figure import Figure

    rows, columns = list(dict.fromkeys(matrix["source"])), list(dict.fromkeys(matrix["to"]))
    side = min(MARGIN + CELL * len(columns), LARGEST)
    # No pyplot: its state is the whole process's.
    figure = Figure(figsize=(2 * side + 1, max(2.6, min(MARGIN + CELL * len(rows) * 0.8, LARGEST))), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (column, title) in zip(axes, PANELS.items()):
        values = matrix.pivot(index="source", columns="to", values=column).loc[rows, columns].to_numpy(dtype=float)
        axis.set_facecolor("lightgrey")
        image = axis.imshow(np.ma.masked_invalid(values), vmin=0, vmax=1, cmap="viridis", aspect="auto")
        labels = [_short(column) for column in columns]
        axis.set_xticks(range(len(columns)), labels, rotation=35, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(rows)), [_short(row) for row in rows])
        axis.tick_params(labelsize=8, length=0)
        for (i, j), value in np.ndenumerate(values):
            text = "–" if np.isnan(value) else f"{np.floor(value * 1000) / 1000:.3f}"  # never rounded up to 1
            colour = "white" if value < 0.6 else "black"  # viridis is dark below and light above
            axis.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
        axis.set_title(title, fontsize=10)
    axes[0].set_ylabel("evolved on")
    figure.supxlabel("shown to", fontsize=10)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()


def _short(label: str, most: int = 28) -> str:
    text = "".join(c if c.isprintable() else "?" for c in label)
    text = text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 + 1 :]}"
    return text.replace("$", r"\$")  # else matplotlib reads what stands between two as mathematics
