"""What is done to an elite: pictures like its own but for one thing, each with the facts that go into its row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evofool.archive.scores import confidence
from evofool.base import rng
from evofool.encoding import exchange
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.kinds import draw
from evofool.evaluate.pool import Pool, stream
from evofool.records import Facts, Genomes
from evofool.studies.shared import motifs
from evofool.studies.shared.elites import Elites
from evofool.studies.shared.erasing import erased, filling, orders, scattered, steps, tiles
from evofool.studies.shared.knockouts import enlarged, knockouts

__all__ = ["GRIDS", "MAPPED", "Change", "of_genes", "of_motifs", "of_tiles", "scored"]

GRIDS = (2, 4, 7, 14)  # tiles along a side
MAPPED = 7  # the grid whose tiles are also removed one after the other
DRAWS = 10  # random orders, and copies with random phases
ENLARGED = 1.5
BATCH, BATCH_BYTES = 256, 64 << 20  # pictures sent off at a time, and the room they may take


@dataclass(frozen=True)
class Change:
    """A picture (height, width, channels) uint8, and what was done to it: columns of the table."""

    facts: Facts
    picture: NDArray[np.uint8]


def of_tiles(image: NDArray[np.uint8], fill: str, address: int) -> Iterator[Change]:
    """A picture with one tile erased, for each tile of each grid; beside each grid, as many pixels at random places;
    and the tiles of one grid removed one after the other.

    Grids that have more tiles along a side than the picture has pixels are left out.
    """
    height, width, _ = image.shape
    fills = filling(image, fill, address)
    grids = [grid for grid in GRIDS if grid <= min(height, width)]
    yield Change({"change": "none"}, image)
    for grid in grids:
        places = tiles(height, width, grid)
        for tile in range(grid**2):
            mask = places == tile
            yield _erased(image, fills, mask, change="tile", grid=grid, tile=tile)
        for number in range(DRAWS):
            mask = scattered(height, width, height * width // grid**2, address, number)
            yield _erased(image, fills, mask, change="scattered", grid=grid, draw=number)
    grid = max((grid for grid in grids if grid <= MAPPED), default=1)
    places = tiles(height, width, grid)
    for number, order in enumerate(orders(grid**2, DRAWS, "tiles", address)):
        for count in steps(grid**2)[1:]:
            mask = np.isin(places, order[:count])
            facts = {"change": "tiles", "grid": grid, "copies": grid**2, "removed": count, "draw": number}
            yield _erased(image, fills, mask, **facts)


def of_motifs(image: NDArray[np.uint8], fill: str, address: int) -> Iterator[Change]:
    """A picture with the copies of its motif removed one after the other, and the same area at random; and its phases
    drawn anew. `copies` is 0 where nothing repeats."""
    found = motifs.find(image)
    copies = found.copies if found else 0
    yield Change({"change": "none", "copies": copies}, image)
    if not found:
        return
    fills = filling(image, fill, address)
    for change, count, number, mask in motifs.removals(found, DRAWS, address):
        yield _erased(image, fills, mask, change=change, copies=copies, removed=count, draw=number)
    for number in range(DRAWS):
        picture = motifs.phase_randomised(image, number, address)
        yield Change({"change": "phases", "copies": copies, "draw": number}, picture)


def of_genes(elites: Elites, row: int) -> Iterator[Change]:
    """The pictures that an elite's genome draws with one gene knocked out; beside each, what differs in it from the
    genome's own picture, at random places; and the genome drawn further out.

    Raises:
        ConfigError: the genome has an activation of the user's own, whose code may not run.
    """
    elite = elites.frame.iloc[row]
    own = elites.run.config.encoding.arithmetic
    encoding, genome = exchange.from_json(elite["genome_json"], elites.code)
    assert isinstance(encoding, CppnEncoding)
    encoding = replace(encoding, arithmetic=own)
    outs = list(knockouts(encoding, genome))
    further = enlarged(encoding, genome, ENLARGED)
    pictures = _drawn(encoding, [genome, *(out.genome for out in outs), *([] if further is None else [further])])
    base = pictures[0]
    yield Change({"change": "none"}, base)
    for number, (out, picture) in enumerate(zip(outs, pictures[1:])):
        facts = {"change": out.change, "gene": f"{out.gene:x}", "activation": out.activation or None}
        yield Change({**facts, "scrambled": False}, picture)
        yield Change({**facts, "scrambled": True}, _scrambled(base, picture, number, int(elite["individual_id"])))
    if further is not None:
        yield Change({"change": "enlarged"}, pictures[-1])


def _erased(image: NDArray[np.uint8], fills: NDArray[np.uint8], mask: NDArray[np.bool_], **facts: object) -> Change:
    return Change({**facts, "erased": float(mask.mean())}, erased(image, mask, fills))


def _drawn(encoding: CppnEncoding, genomes: list[Genomes]) -> NDArray[np.uint8]:
    """The pictures of genomes, as evaluators draw them."""
    batch = encoding.empty(len(genomes))
    for place, genome in enumerate(genomes):
        batch = encoding.replace(batch, np.array([place]), genome, np.array([0]))
    return draw(encoding, batch)


def _scrambled(base: NDArray[np.uint8], changed: NDArray[np.uint8], number: int, address: int) -> NDArray[np.uint8]:
    """A picture with the same differences as a changed one, at random places; what leaves 0 .. 255 is clipped."""
    rest = changed.astype(np.int16) - base
    pixels = rest.reshape(-1, rest.shape[2])
    order = np.argsort(rng.uniforms(number, "ablate.scrambled", address, (len(pixels),)), kind="stable")
    return np.clip(base + pixels[order].reshape(rest.shape), 0, 255).astype(np.uint8)


def scored(pool: Pool, changes: Iterable[Change], classes: NDArray[np.int64]) -> tuple[list[Facts], int]:
    """Changes with what the network says of them; pictures that are alike are scored once, so what changes no pixel
    changes nothing. The first is the picture that all others are compared with.

    Args:
        classes: (c,) outputs.

    Returns:
        For each class, one after the other, the facts of all changes with their columns of pixels and scores; and the
        number of pictures that were scored.
    """
    place_of: dict[bytes, int] = {}
    told: list[tuple[Facts, bytes]] = []
    base: list[NDArray[np.int16]] = []

    def batches() -> Iterator[NDArray[np.uint8]]:
        batch: list[NDArray[np.uint8]] = []
        for change in changes:
            picture = np.ascontiguousarray(change.picture)
            if not base:
                base.append(picture.astype(np.int16))
            rest = np.abs(picture - base[0])
            digest = hashlib.sha256(picture.tobytes()).digest()
            pixels = {"pixels_changed": int(rest.any(axis=2).sum()), "mean_change": float(rest.mean())}
            told.append(({**change.facts, **pixels, "changed_sha256": digest.hex()}, digest))
            if digest not in place_of:
                place_of[digest] = len(place_of)
                batch.append(picture)
            if len(batch) >= max(1, min(BATCH, BATCH_BYTES // picture.nbytes)):
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)

    parts = list(stream(pool, "score_images", batches()))
    odds = np.concatenate([part.log_odds for part in parts])
    top1 = np.concatenate([part.top_classes[:, 0] for part in parts])
    rows = []
    for output in classes:
        for facts, digest in told:
            place = place_of[digest]
            own = odds[place, output]
            rows.append(
                {
                    **facts,
                    "class_index": int(output),
                    "log_odds": own,
                    "loss": odds[0, output] - own,
                    "confidence": confidence(own[None])[0],
                    "class_is_top1": bool(top1[place] == output) if np.isfinite(own) else None,
                }
            )
    return rows, len(place_of)
