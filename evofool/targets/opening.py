"""Opening a target: from a spec or a live network, in the view that a configuration wants. All come through here."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from evofool.base.places import quoted
from evofool.base.source import Source
from evofool.config.sections import TargetConfig
from evofool.errors import ConfigError, IncompatibleRun, TargetError, first_line
from evofool.targets.contents import refuse_no_network
from evofool.targets.ensemble import Ensemble, make_ensemble
from evofool.targets.families import configured, load_target
from evofool.targets.specs import refuse_combine, source_of, sources_of
from evofool.targets.target import Preprocessing, Target, class_texts

__all__ = ["OpenTarget", "built", "open_target", "refuse_other_target", "section_of"]

_VIEW = ("geometry", "output", "crops")  # the keys of the section that say how a target is looked at


@dataclass(frozen=True)
class OpenTarget:
    """A target in this process."""

    section: TargetConfig  # what it was opened by
    target: Target
    source: Source | Target  # what evaluators elsewhere build theirs from; of a live target, the target itself
    fingerprint: str


def open_target(
    section: TargetConfig,
    *,
    source: Source | None = None,
    live: torch.nn.Module | Target | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    allow_code: bool = False,
    key: str = "target.spec",
) -> OpenTarget:
    """The target that a section `target` names, or a live one in its place, which is copied.

    Args:
        section: the spec, geometry, output and crops.
        source: in place of `section.spec`: the spec, with whatever files were read for it already.
        live: a target, or a network with its preprocessing and class names.
        allow_code: whether a python: spec may run its code.
        key: of the configuration or the command line, for messages.

    Raises:
        ConfigError: no such target, its code may not run, or a live one is missing or lacks something.
        TargetError: it cannot be built.
    """
    refuse_combine(section)
    if live is None:
        if section.spec == "live":
            raise ConfigError(
                "target.spec: this run's target was a live module; give it again: evofool.run(config, target=...)."
            )
        source = source or source_of(section, allow_code, key=key)
        target = built(source, section)
        return OpenTarget(section, target, source, target.fingerprint())
    if isinstance(live, Target):
        target = replace(live, module=_copied(live.module))
    elif preprocessing is None or class_names is None:
        raise ConfigError("a live module needs preprocessing=evofool.Preprocessing(...) and class_names=[...].")
    else:
        target = Target(_copied(live), preprocessing, class_texts(class_names))
    target = configured(target, **section.model_dump(include=set(_VIEW)))
    return OpenTarget(section, target, target, target.fingerprint())


def _copied(module: torch.nn.Module) -> torch.nn.Module:
    refuse_no_network(module, "live")
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise TargetError(
            f"live: the network cannot be copied ({first_line(error)}); hand it over as it is built, before it is "
            "used, or name it as python:FILE.py:callable."
        ) from error


def section_of(target: Target) -> TargetConfig:
    """The section that leaves a live target as it is."""
    view = {} if isinstance(target, Ensemble) else {key: getattr(target, key) for key in _VIEW}
    return TargetConfig.model_validate({"spec": "live", **view})


def built(source: Source, section: TargetConfig) -> Target:
    """The target of a source, whose files travel with it, in a section's view: an ensemble where it names several."""
    view = section.model_dump(include=set(_VIEW))
    members = [load_target(part, **view) for part in sources_of(section, source)]
    return members[0] if isinstance(section.spec, str) else make_ensemble(members, section.combine)


def refuse_other_target(fingerprint: str, place: Path, opened: OpenTarget) -> None:
    """Raise IncompatibleRun unless a target has the fingerprint with which the run at a place was made."""
    if fingerprint != opened.fingerprint:
        raise IncompatibleRun(
            f"{place}: the target {opened.target.spec} is not the one the run was made with (fingerprint "
            f"{opened.fingerprint[:16]}..., was {fingerprint[:16]}...); put the old weights back, or start anew with "
            f"--seed-from {quoted(place)}."
        )
