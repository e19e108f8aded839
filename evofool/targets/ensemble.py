"""Ensembles: several networks that are asked as one, and answer with log-odds.

An ensemble is a target. Its answer cannot be logits or probabilities, as a network's is: the least of several log-odds
is no distribution's, and a member may have classes that the others lack. So it hands on log-odds themselves, which lose
nothing where a probability is 0 or 1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.archive.scores import COMBINE, combined, log_odds_float64
from evofool.base.registry import known
from evofool.errors import ConfigError
from evofool.targets.classes import match
from evofool.targets.target import Target

__all__ = ["Ensemble", "fitted", "make_ensemble"]

FITTED = "luma of ITU-R BT.601, bilinear, antialiased, rounded to uint8"  # what `fitted` does; part of the fingerprint
TOLD = 20  # classes that a sentence lists


@dataclass(frozen=True)
class Ensemble(Target):
    """Several targets as one, made by `make_ensemble`. Images have the first one's size and channels.

    Attributes:
        module: a ModuleList of the members' networks, so a layer is named "1.features.0": number of the member, layer.
        members: in their order, each with a geometry, preprocessing and kind of output of its own.
        combine: "mean", "product" or "min", see `archive.scores.combined`.
        columns: for each member, which of its outputs each class is: the classes are those that all members have.
    """

    KINDS: ClassVar[tuple[str, ...]] = ("log_odds",)

    members: tuple[Target, ...] = ()
    combine: str = "mean"
    columns: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        assert isinstance(self.module, torch.nn.ModuleList)
        # Whoever moves or copies the networks does it to `module`.
        members = (replace(member, module=module) for member, module in zip(self.members, self.module, strict=True))
        object.__setattr__(self, "members", tuple(members))

    @property
    def parts(self) -> tuple[Target, ...]:
        """The members."""
        return self.members

    @property
    def returns(self) -> str:
        """ "log_odds"; crops are averaged by each member for itself."""
        return self.output

    def fingerprint(self) -> str:
        """sha256 (hex) of the members' fingerprints in their order, and how images are fitted and answers combined."""
        facts = [[member.fingerprint() for member in self.members], self.combine, self.columns, FITTED]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def class_indices(self, classes: str | Sequence[str | int]) -> NDArray[np.int64]:
        """As of any target; raises ConfigError, too, with the classes that not all members have."""
        unmatched = {
            name
            for member, columns in zip(self.members, self.columns)
            for name in (member.class_names[i] for i in set(range(len(member.class_names))) - set(columns))
        } - set(self.class_names)
        lacking = [entry for entry in classes if entry in unmatched] if classes != "all" else []
        if lacking:
            raise ConfigError(
                f"target.classes: not all networks of {self.spec} have {_listed(lacking)}; leave out what "
                f"is not among the {len(self.class_names)} classes that all have."
            )
        return super().class_indices(classes)

    def with_arithmetic(self, precision: str, compiled: str) -> Target:
        """As of any target: every member's network in another precision, or compiled."""
        members = tuple(member.with_arithmetic(precision, compiled) for member in self.members)
        return replace(self, module=torch.nn.ModuleList(member.module for member in members), members=members)

    def outputs(self, images: torch.Tensor) -> NDArray[np.float32]:
        """The ensemble's log-odds for uint8 images.

        Args:
            images: (n, h, w, channels) uint8, of the first member's size, on the modules' device.

        Returns:
            (n, classes) float32; NaN in every column of a row that any member's outputs are not finite for.

        Raises:
            TargetError: as `Target.outputs` of a member, or its probabilities do not sum to 1.
        """
        parts = []
        for member, columns in zip(self.members, self.columns):
            outputs = member.outputs(fitted(images, member.image_size, member.channels))
            member.check_sums(outputs)
            parts.append(log_odds_float64(outputs, member.returns)[:, columns])
        return combined(parts, self.combine)


def make_ensemble(members: Sequence[Target], combine: str = "mean") -> Ensemble:
    """An ensemble of targets, whose classes are those that all of them have, under the first one's names.

    Classes are matched by their ids in WordNet where both networks know them, else by name.

    Args:
        members: two at least, each in the view it is to have. The first one's images are the ensemble's; the others see
            them resized to theirs (`fitted`).
        combine: "mean" (log-odds of the mean probability), "product" (of the renormalised product of the probabilities)
            or "min" (the least log-odds).

    Raises:
        ConfigError: fewer members, another word, images of other proportions, or fewer than two classes that all have.
    """
    if combine not in COMBINE:
        raise ConfigError(f"target.combine: {combine!r} is unknown: {known(combine, COMBINE)}")
    if len(members) < 2:
        raise ConfigError(f"target.spec: an ensemble is of two networks at least, not {len(members)}.")
    first = members[0]
    for member in members[1:]:
        _refuse_other_shape(first, member)
    matches = [
        match(
            dict(enumerate(first.class_names)),
            member.class_names,
            dict(enumerate(first.imagenet_ids)),
            member.imagenet_ids,
        )
        for member in members
    ]
    shared = [index for index in range(len(first.class_names)) if all(index in found for found in matches)]
    if len(shared) < 2:
        raise ConfigError(_no_classes(members, [first.class_names[i] for i in shared]))
    families = {member.family for member in members}
    return Ensemble(
        module=torch.nn.ModuleList(member.module for member in members),
        preprocessing=first.preprocessing,
        class_names=tuple(first.class_names[i] for i in shared),
        output="log_odds",
        geometry=first.geometry,
        spec=f"{combine}({', '.join(member.spec for member in members)})",
        family=families.pop() if len(families) == 1 else "any",
        crops=first.crops,
        imagenet_ids=tuple(first.imagenet_ids[i] for i in shared) if first.imagenet_ids else (),
        members=tuple(members),
        combine=combine,
        columns=tuple(tuple(found[i] for i in shared) for found in matches),
    )


def fitted(images: torch.Tensor, size: tuple[int, int], channels: int) -> torch.Tensor:
    """Images as a member takes them; those that are so already, as they are.

    Grey is repeated for red, green and blue; colour becomes luma (ITU-R BT.601, in PIL's integers). Then bilinear with
    antialiasing, and rounded, so that a member sees what it would of a picture that was resized and kept.

    Args:
        images: (n, h, w, 1 or 3) uint8.
        size: (height, width) in pixels.
        channels: 1 or 3.

    Returns:
        (n, height, width, channels) uint8, on the same device.
    """
    if images.shape[3] > channels:
        red, green, blue = images.to(torch.int32).unbind(3)
        images = ((red * 19595 + green * 38470 + blue * 7471 + (1 << 15)) >> 16).to(torch.uint8)[..., None]
    if tuple(images.shape[1:3]) != size:
        planes = images.to(torch.float32).movedim(-1, 1).contiguous()
        planes = torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)
        images = planes.round_().clamp_(0, 255).to(torch.uint8).movedim(1, -1).contiguous()
    return images.expand(*images.shape[:3], channels)


def _refuse_other_shape(first: Target, member: Target) -> None:
    """Raise ConfigError where images could only be resized by stretching them, beyond a pixel."""
    (height, width), (rows, columns) = first.image_size, member.image_size
    if abs(columns * height - width * rows) >= max(height, width):
        raise ConfigError(
            f"target.spec: {member.spec} takes images of {rows} x {columns} pixels, to which those of {first.spec}, "
            f"{height} x {width}, cannot be resized without stretching them; combine networks of the same proportions."
        )


def _no_classes(members: Sequence[Target], shared: list[str]) -> str:
    """The sentence for networks with no, or one, class that all have."""
    names = "; ".join(
        f"{m.spec} has {', '.join(islice(m.class_names, 3))}{', ...' if len(m.class_names) > 3 else ''}"
        for m in members
    )
    found = f"only the class {shared[0]!r} in common, and a search needs two" if shared else "no class in common"
    return f"target.spec: these networks have {found} (classes are matched by WordNet id, else by name): {names}."


def _listed(entries: Sequence[str | int]) -> str:
    more = f" and {len(entries) - TOLD} more" if len(entries) > TOLD else ""
    return ", ".join(str(entry) for entry in entries[:TOLD]) + more
