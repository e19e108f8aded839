"""Networks that learn from the images that fooled those before them: DNN_1, DNN_2, ...

All that a chain consists of lies in one folder, and is made where it is missing: networks, which are there whole or not
at all; the runs against each, ordinary ones that go on from their last commit; and the images drawn from these.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from evofool.base import rng
from evofool.base.png import decode_png, encode_png
from evofool.config import fingerprint
from evofool.config.designs import Design
from evofool.encoding import kinds, variation
from evofool.errors import EvofoolError
from evofool.runs.designs import run_trials
from evofool.store import files, schemas
from evofool.store.reader import Run, encoding_of
from evofool.studies.shared.pictures import archived
from evofool.studies.shared.tables import read_elites
from evofool.targets.training.again import Taught, digest, with_class, with_outliers
from evofool.targets.training.datasets import LabelledImages, limited
from evofool.targets.training.train import told, train_network
from evofool.targets.zoo.weights import metadata

__all__ = ["DEFENCES", "OTHERS", "SETS", "SURE", "SUREST", "UNSEEN", "Chain", "Images", "Plan", "images_of"]

DEFENCES = {  # what DNN_2 and those after it learn from besides the data
    "fooling": "a class of fooling images",
    "copies": "a class as large of copies of one run's images",
    "outlier_exposure": "fooling images as outliers, all classes alike",
    "energy_margin": "fooling images as outliers, of high energy",
    "real": "a class of real images, which no class has",
    "empty": "a class of nothing",
}
OUTLIERS = ("outlier_exposure", "energy_margin")
SETS = ("seen", "unseen", "other_encoding", "noise", "other_data")  # of images that a network may call fooling
SURE, SUREST = 0.99, 0.9999
UNSEEN, OTHERS = 2, 2  # runs whose images nobody learns from: of the same encoding, and of another

_DRAWN = pa.schema(
    [("image_sha256", pa.string()), ("last", pa.bool_()), ("image", pa.binary())],
    metadata={"schema_version": str(schemas.SCHEMA_VERSION)},
)


@dataclass(frozen=True)
class Images:
    """Images drawn from runs.

    Attributes:
        pixels: (n, height, width, channels) uint8, no two the same.
        last: (n,) bool: of the run's last generation, not of its first.
    """

    pixels: NDArray[np.uint8]
    last: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Plan:
    """What all chains of a study have in common.

    Attributes:
        spec: of DNN_1 of the seed with which `taught` was.
        load: gives the images of a seed, as `Taught.data`.
        config: a preset or a file: how to search; the first is for the encoding, the second for the other one.
        first, more: images for DNN_2, and for each network after.
        per_run: images that a run is good for.
        runs: against each network, at least.
        folder: of everything.
        options: of `run`: pool, address ...
    """

    spec: str
    taught: Taught
    load: Callable[[int], LabelledImages]
    config: str
    overrides: tuple[dict[str, Any], ...]
    first: int
    more: int
    per_run: int
    runs: int
    folder: Path
    options: dict[str, Any]
    tell: Callable[[str], None] = lambda text: None

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits for all that decides what networks and runs are like."""
        designs = [self.design(f"{self.taught.recipe.network}:", 0, self.folder, (0,), other) for other in (0, 1)]
        search = [fingerprint(design.trials()[0].config, without_seed=True) for design in designs]
        ends = [overrides["search.generations"] for overrides in self.overrides]
        what = [search, ends, self.taught.sha256, self.first, self.more, self.per_run, self.runs]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]

    def design(self, spec: str, classes: int, folder: Path, seeds: tuple[int, ...], other: int) -> Design:
        """Runs against a network, over its first `classes` outputs alone; `other`: 1 for the other encoding."""
        aims = {"target.spec": spec, "target.classes": list(range(classes)) or "all"}
        return Design("retrain", self.config, (self.overrides[other] | aims,), {}, seeds, "full_factorial", folder)

    def fooling_images(self, iteration: int) -> int:
        """How many images are in the class of a network."""
        return 0 if iteration == 1 else self.first + self.more * (iteration - 2)


def images_of(run: Run) -> NDArray[np.uint8]:
    """The images of a run's elites, (cells, height, width, channels) uint8, in the order of its cells."""
    frame, _ = read_elites(run)
    return np.stack([archived(elite) for elite in frame.to_dict("records")])


def _first_generation(run: Run) -> NDArray[np.uint8]:
    """The images of all individuals of generation 0, which are random, drawn again."""
    encoding, config = encoding_of(run.store), run.config
    genomes = variation.initial(encoding, config.seed, 0, config.search.initial)
    return kinds.draw(encoding, genomes)


def _distinct(images: NDArray[np.uint8], known: set[bytes], order: NDArray[np.int64], most: int) -> list[int]:
    """Which images to take, in an order, none of them known or taken before; these are known from then on."""
    taken: list[int] = []
    for row in order:
        if len(taken) == most:
            break
        if (sha := hashlib.sha256(images[row].tobytes()).digest()) not in known:
            known.add(sha)
            taken.append(int(row))
    return taken


@dataclass
class Chain:
    """The networks of one seed and one defence.

    Attributes:
        seed: of every network, so that two that learn from the same images are the same network.
    """

    plan: Plan
    defence: str
    seed: int
    _memory: dict[Any, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.plan.folder / self.plan.digest / f"seed-{self.seed}"

    def place(self, iteration: int) -> Path:
        """The folder of the runs against a network, and the name of its file without the suffix."""
        return (self.folder / self.defence if iteration > 1 else self.folder) / f"dnn{iteration}"

    @property
    def data(self) -> LabelledImages:
        """What DNN_1 learns from."""
        return self.plan.load(self.seed)

    def _images_of(self, pixels: Sequence[NDArray[np.uint8]], last: Sequence[bool]) -> Images:
        """Single pictures, none of them perhaps."""
        stacked = np.stack(pixels) if len(pixels) else np.zeros((0, *self.data.shape), dtype=np.uint8)
        return Images(stacked, np.array(last, dtype=bool))

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    def learned_from(self, iteration: int) -> Images:
        """The fooling images that a network learns from, each once."""
        before = range(1, iteration if self.defence not in ("real", "empty") else 1)
        drawn = [self._images_of([], []), *map(self.images, before)]
        return Images(
            np.concatenate([images.pixels for images in drawn]), np.concatenate([images.last for images in drawn])
        )

    def training_set(self, iteration: int) -> LabelledImages:
        """What a network learns from."""
        data, wanted = self.data, self.plan.fooling_images(iteration)
        if iteration == 1 or self.defence == "empty":
            return data
        if self.defence == "real":
            return _with_real_class(data, wanted, self.seed)
        images = self.learned_from(iteration).pixels
        if self.defence == "copies":
            images = images[np.arange(wanted) % len(images)]
        return with_outliers(data, images) if self.defence in OUTLIERS else with_class(data, images)

    def network(self, iteration: int) -> str:
        """The spec of a network, which is trained from scratch where its file is missing or of other images."""
        taught, path = self.plan.taught, self.place(iteration).with_suffix(".safetensors")
        if iteration == 1 and self.seed == taught.seed:
            return self.plan.spec
        spec = f"{taught.recipe.network}:{path}"
        if (iteration, "network") in self._memory:
            return spec
        data = self.training_set(iteration)
        facts = {"training_set_sha256": digest(data)}
        if not path.is_file() or metadata(path.read_bytes()).get("training_set_sha256") != digest(data):
            recipe = taught.recipe
            if iteration > 1 and self.defence in OUTLIERS:
                recipe = replace(recipe, loss=self.defence)
            result = train_network(recipe, data, self.seed, path, lambda line: None, facts)
            self.plan.tell(f"{path}: {told(result)}")
        self._memory[iteration, "network"] = True
        return spec

    def runs(self, iteration: int) -> tuple[list[Run], list[Run]]:
        """As `_runs`, made once."""
        runs: tuple[list[Run], list[Run]] = self._once((iteration, "runs"), lambda: self._runs(iteration))
        return runs

    def _runs(self, iteration: int) -> tuple[list[Run], list[Run]]:
        """The runs against a network, which are made or gone on with: of the encoding, and of the other one.

        Images are drawn from all of the first but the last UNSEEN. Their seeds are others for each network, since
        random images of the same seed would be the same.
        """
        plan, spec = self.plan, self.network(iteration)
        wanted = plan.more if iteration > 1 else plan.first
        count = max(plan.runs, math.ceil(wanted / plan.per_run)) + UNSEEN
        start = (self.seed * 1000 + iteration) * 100_000
        made: list[list[Run]] = []
        new = 0
        for other, many in enumerate((count, OTHERS)):
            seeds = tuple(range(start + 1, start + 1 + many))
            design = plan.design(spec, len(plan.taught.classes), self.place(iteration), seeds, other)
            found: dict[int, Run] = {}
            try:
                for trial, run, is_new in run_trials(design, design.trials(), tell=lambda text: None, **plan.options):
                    found[trial.seed], new = run, new + is_new
            except EvofoolError as error:
                error.go_on = None  # the study's own command does more than the run's
                raise
            made.append([found[seed] for seed in seeds])
        if new:
            plan.tell(f"{spec}: {new} runs against it")
        return made[0], made[1]

    def images(self, iteration: int) -> Images:
        """What is drawn from the runs against a network for the next ones: half of it elites at the end, as far as
        these are different images, and the rest individuals of generation 0; none that was drawn before."""
        return self._once((iteration, "images"), lambda: self._images(iteration))

    def _images(self, iteration: int) -> Images:
        place = self.folder / self.defence / f"drawn{iteration}.parquet"
        if place.is_file():
            table = schemas.from_parquet(place, _DRAWN)
            pixels = [decode_png(png, str(place)) for png in table["image"].to_pylist()]
            return self._images_of(pixels, table["last"].to_pylist())
        plan = self.plan
        wanted = plan.more if iteration > 1 else plan.first
        runs = self.runs(iteration)[0][:-UNSEEN]
        if self.defence == "copies":  # of what the first run gave, and nothing more
            runs, wanted = (runs[:1], plan.per_run) if iteration == 1 else ([], 0)
        known = {
            hashlib.sha256(image.tobytes()).digest() for i in range(1, iteration) for image in self.images(i).pixels
        }
        drawn = self._images_of(
            *_draw(runs, wanted, known, lambda n, part: rng.uniforms(self.seed, f"retrain.{part}", iteration, (n,)))
        )
        if len(drawn) < wanted:
            plan.tell(
                f"{place}: {len(drawn)} images, not {wanted}: there were no more that differ; more runs would help"
            )
        with files.guard(place.parent, "make the folder"):
            place.parent.mkdir(parents=True, exist_ok=True)
        pngs = [encode_png(image) for image in drawn.pixels]
        shas = [hashlib.sha256(image.tobytes()).hexdigest() for image in drawn.pixels]
        table = pa.table([shas, drawn.last.tolist(), pngs], schema=_DRAWN)
        files.put(place, schemas.encode(table))
        return drawn


def _draw(
    runs: Sequence[Run], wanted: int, known: set[bytes], numbers: Callable[..., NDArray[np.float64]]
) -> tuple[list[NDArray[np.uint8]], list[bool]]:
    """Pictures, and whether each is of a last generation."""
    pixels: list[NDArray[np.uint8]] = []
    taken: list[bool] = []
    for part, source in (("last", images_of), ("first", _first_generation)):
        if not runs:
            break
        images = np.concatenate([source(run) for run in runs])
        order = np.argsort(numbers(len(images), part), kind="stable")
        rows = _distinct(images, known, order, wanted // 2 if part == "last" else wanted - len(taken))
        pixels += list(images[rows])
        taken += [part == "last"] * len(rows)
    return pixels, taken


def _with_real_class(data: LabelledImages, wanted: int, seed: int) -> LabelledImages:
    """Training images of which some, of each class its share, are taken out and make a class of their own."""
    taken = limited(data, min(wanted, len(data.train_labels) // 2), seed)
    kept = ~np.isin(data.train_indices, taken.train_indices)
    parts = {name: getattr(data, name)[kept] for name in ("train_images", "train_labels", "train_indices")}
    return with_class(replace(data, **parts), taken.train_images)
