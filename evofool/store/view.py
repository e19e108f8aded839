"""The elites view: RUN/elites/elites.parquet, one row for each filled cell, made from commits alone.

It is a view: it can be lost and made again. It is replaced in one step, so a reader sees the old table or the new one.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from evofool.encoding import Encoding
from evofool.errors import CorruptData
from evofool.scores import confidence
from evofool.store import files, schemas
from evofool.store.run import RunStore

__all__ = ["ViewWriter", "decode_png", "encode_png", "read_view", "view_rows"]

MAX_PIXELS = 1 << 24
_OF_INDIVIDUAL = (
    "individual_id",
    "generation",
    "slot",
    "parent_ids",
    "operators",
    "nodes",
    "connections",
    "top1_class_index",
    "top1_confidence",
    "image_sha256",
)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """PNG bytes of (height, width, 1 or 3) uint8."""
    sink = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(sink, format="PNG")
    return sink.getvalue()


def decode_png(data: bytes, where: str) -> NDArray[np.uint8]:
    """(height, width, 1 or 3) uint8 of PNG bytes.

    Raises:
        CorruptData: not a PNG, damaged, or of an absurd size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if picture.width * picture.height > MAX_PIXELS or picture.mode not in ("L", "RGB"):
                raise CorruptData(
                    f"{where}: a PNG of {picture.width} x {picture.height} {picture.mode} is not an elite's."
                )
            array = np.asarray(picture)
    except (OSError, ValueError, SyntaxError) as error:
        raise CorruptData(f"{where}: its image is not a PNG ({error}).") from None
    return array[:, :, None] if array.ndim == 2 else array


def view_rows(store: RunStore, encoding: Encoding, png_of: Callable[[int, str, bytes], bytes]) -> list[dict[str, Any]]:
    """The rows of the view as the commits have them.

    Args:
        png_of: gives the PNG for (individual id, image sha256, genome bytes).
    """
    last = store.log.last
    if last is None:
        return []
    newest: dict[int, dict[str, Any]] = {}
    for row in store.table("placements").to_pylist():
        newest[row["cell"]] = row
    people = {row["individual_id"]: row for row in store.table("individuals").to_pylist()}
    genomes = store.genomes({row["individual_id"] for row in newest.values()})
    shown: dict[int, dict[str, Any]] = {}
    for identity, blob in genomes.items():
        batch = encoding.from_bytes([blob])
        person = people[identity]
        shown[identity] = {
            "genome": encoding.genes(batch, 0),
            "genome_json": json.dumps(encoding.to_json(batch, 0)),
            "image": {"bytes": png_of(identity, person["image_sha256"], blob), "path": None},
        }
    facts, names = store.provenance, store.provenance["class_names"]
    rows = []
    for cell in sorted(newest):
        placed, person = newest[cell], people[newest[cell]["individual_id"]]
        log_odds = np.array([placed["log_odds"]], dtype=np.float32)
        rows.append(
            {
                "run_id": facts["run_id"],
                "class_index": placed["class_index"],
                "class_name": names[cell],
                "confidence": float(confidence(log_odds)[0]),
                "log_odds": placed["log_odds"],
                **{name: person[name] for name in _OF_INDIVIDUAL},
                "encoding": encoding.kind,
                **shown[person["individual_id"]],
                "target": facts["target"],
                "target_fingerprint": facts["target_fingerprint"],
                "preprocessing_hash": facts["preprocessing_hash"],
                "as_of_generation": last.generation,
            }
        )
    return rows


def read_view(store: RunStore) -> pa.Table:
    """The view as it lies on disk; empty before the first one was written.

    Raises:
        CorruptData: it is damaged.
    """
    path = store.path / "elites" / "elites.parquet"
    return schemas.from_parquet(path, schemas.ELITES) if path.is_file() else schemas.ELITES.empty_table()


class ViewWriter:
    """Writes the view, keeping the PNG of every image it has seen among current elites.

    Args:
        images_of: renders a batch of genomes with the bits that scoring saw, (n, h, w, channels) uint8.
    """

    def __init__(self, store: RunStore, encoding: Encoding, images_of: Callable[[Any], NDArray[np.uint8]]) -> None:
        self.store = store
        self.encoding = encoding
        self.images_of = images_of
        self._pngs: dict[str, bytes] = {}

    def write(self) -> None:
        """Rewrite elites/elites.parquet from the commits.

        Raises:
            CorruptData: an elite's genome no longer gives the image that was scored.
        """
        used: dict[str, bytes] = {}

        def png_of(identity: int, sha256: str, genome: bytes) -> bytes:
            if sha256 not in used:
                used[sha256] = self._pngs.get(sha256) or self._render(identity, sha256, genome)
            return used[sha256]

        rows = view_rows(self.store, self.encoding, png_of)
        self._pngs = used
        last = self.store.log.last
        if not rows or last is None:
            return
        attrs = {
            "run_id": self.store.provenance["run_id"],
            "archive_hash": last.archive_hash,
            "generation": last.generation,
            "config_fingerprint": self.store.provenance["config_fingerprint"],
            "evofool": self.store.provenance["versions"]["evofool"],
        }
        data = schemas.to_parquet(rows, schemas.ELITES, attrs)
        files.put(self.store.path / "elites" / "elites.parquet", data, temporary_folder=self.store.path / "_evofool")

    def _render(self, identity: int, sha256: str, genome: bytes) -> bytes:
        image = self.images_of(self.encoding.from_bytes([genome]))[0]
        if hashlib.sha256(image.tobytes()).hexdigest() != sha256:
            raise CorruptData(
                f"{self.store.path}: individual {identity:x} renders to another image than was scored; "
                "the numerics of this machine differ from the run's."
            )
        return encode_png(image)
