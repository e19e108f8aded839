"""What run.json says of a new run, and what a resume refuses: a configuration that would make it another run."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata

from evofool.base import provenance
from evofool.base.places import quoted
from evofool.config import Config, differences, fingerprint
from evofool.errors import IncompatibleRun
from evofool.evaluate.problem import Problem
from evofool.records import Facts, Numerics
from evofool.store.run import RunStore
from evofool.targets.ensemble import Ensemble
from evofool.targets.target import Target

__all__ = ["provenance_of", "refuse_changes", "stored_numerics", "warn_of_dropped_rows"]


def stored_numerics(store: RunStore) -> Facts:
    """The numerics of a run's newest scores, with canary and epoch."""
    return store.log.last.numerics if store.log.last else store.provenance["numerics"]


def refuse_changes(store: RunStore, config: Config, *, allow_numerics_change: bool) -> None:
    """Refuse a configuration under which a run would breed or score otherwise.

    Raises:
        IncompatibleRun: naming each key with its old and new value.
    """
    changed = differences(store.config, config)
    # The target is judged by its fingerprint, so that its file may be moved.
    lines = [
        f"  {key}: {old!r} -> {new!r}"
        for key, (kind, old, new) in changed.items()
        if kind == "semantic" and key != "target.spec"
    ]
    if lines:
        raise IncompatibleRun(
            f"{store.path}: the configuration asks for another run:\n" + "\n".join(lines) + "\n"
            "go on without these changes, or start a new run from this one's elites with "
            f"--seed-from {quoted(store.path)} and another name."
        )
    if allow_numerics_change:
        return
    last = asdict(Numerics.of(stored_numerics(store)))
    lines = [
        f"  {key}: {last[name]!r} -> {new!r}"
        for key, (kind, _, new) in changed.items()
        if kind == "numerics" and new not in ("auto", last[name := key.rpartition(".")[2]])
    ]
    if lines:
        raise IncompatibleRun(
            f"{store.path}: the configuration would change the bits of scores:\n" + "\n".join(lines) + "\n"
            "go on without these changes, or add --allow-numerics-change, which marks it in the next commit."
        )


def warn_of_dropped_rows(store: RunStore, config: Config, warn: Callable[[str], None]) -> None:
    """Warn where storage.history changes, which does not bring back what it dropped before."""
    history, first = config.storage.history, store.log.whole_from
    if first and history != store.config.storage.history:
        warn(
            f"storage.history: {history} holds from here on; what was dropped of the generations before {first} "
            "stays gone."
        )


def _members(target: Target) -> Facts:
    """Of an ensemble, how its networks are combined, and what each of them is and sees."""
    if not isinstance(target, Ensemble):
        return {}
    members = [
        {
            "target": member.spec,
            "target_fingerprint": member.fingerprint(),
            "preprocessing": asdict(member.preprocessing),
            "preprocessing_hash": member.preprocessing.sha256(),
            "output": member.output,
            "image_size": list(member.image_size),
            "channels": member.channels,
            "classes": len(member.class_names),
        }
        for member in target.members
    ]
    return {"combine": target.combine, "members": members}


def provenance_of(problem: Problem, numerics: Numerics, canary: str, parents: list[Facts], **more: str) -> Facts:
    """What run.json says of a new run.

    Args:
        parents: run_id, archive_hash and generation of each run whose elites it starts from.
        more: of the numerics, where evaluators have said it: `platform`.
    """
    config, target = problem.config, problem.target
    classes, units = problem.cells.classes.tolist(), problem.cells.units
    return {
        "evofool": metadata.version("evofool"),
        "run_id": secrets.token_hex(8),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "config_fingerprint": fingerprint(config),
        "config_spec": config.target.spec,
        "target": target.spec,
        "target_fingerprint": problem.opened.fingerprint,
        "preprocessing": asdict(target.preprocessing),
        "preprocessing_hash": target.preprocessing.sha256(),
        "geometry": target.geometry,
        "output": target.output,
        "crops": target.crops,
        **_members(target),
        "image_size": list(target.image_size),
        "channels": target.channels,
        "cells": len(problem.cells),
        "class_indices": classes,
        "class_names": [unit.name for unit in units] or [target.class_names[i] for i in classes],
        **({"units": [[unit.layer, unit.channel] for unit in units]} if units else {}),
        **({"bins": problem.cells.bins} if problem.cells.bins > 1 else {}),
        "output_names": list(target.class_names),
        **({"imagenet_ids": list(target.imagenet_ids)} if target.imagenet_ids else {}),
        "encoding": problem.genomes.kind,
        "code": dict(problem.code),
        "numerics": {**asdict(numerics), "canary": canary, "epoch": 0, **more},
        "seeded_from": parents,
        "versions": provenance.versions(),
        "machine": provenance.facts(),
        "sessions": [],
    }
