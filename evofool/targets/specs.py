"""What is wrong with a spec that can be said without torch, for which a mistake on a command line need not wait.

Families use the same checks when they load. What a network's own package knows, such as its names, has to wait for it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import replace

from evofool.base.registry import FAMILIES
from evofool.base.source import Source
from evofool.base.usercode import code_place
from evofool.config.sections import TargetConfig
from evofool.errors import ConfigError

__all__ = [
    "LITE_SIZES",
    "check_section",
    "check_spec",
    "lite_variant",
    "refuse_combine",
    "scheme_of",
    "section_named",
    "source_of",
    "sources_of",
    "trained_file",
]

_ENSEMBLE = re.compile(r"(mean|product|min)\((.*)\)")
LITE_SIZES = {"0": 224, "1": 240, "2": 260}  # variant: side of the input, in pixels


def check_section(section: TargetConfig, *, allow_code: bool = False, key: str = "target.spec") -> None:
    """Refuse a section whose networks cannot be opened, as far as that can be known quickly.

    Args:
        section: whose spec "live" is left to whoever has the network.
        allow_code: whether a python: spec may run its code; it does not run here.
        key: of the configuration or the command line, for messages.

    Raises:
        ConfigError: a spec names no kind of target, a file that cannot be read, or code that may not run; or
            `combine` has nothing to combine.
    """
    refuse_combine(section)
    if section.spec != "live":
        for spec in section.specs:
            check_spec(spec, allow_code=allow_code, key=key)


def check_spec(spec: str, *, allow_code: bool = False, key: str = "target.spec") -> None:
    """As `check_section`, of the spec of one network."""
    if _ENSEMBLE.fullmatch(spec):
        networks = spec.partition("(")[2].removesuffix(")")
        raise ConfigError(f"target.spec: {spec!r} is how an ensemble is shown; say target.spec=[{networks}].")
    if check := _CHECKS.get(scheme_of(spec, key)):
        check(Source(spec, allow_code, key=key))


def refuse_combine(section: TargetConfig) -> None:
    """Raise ConfigError where one network is to be combined."""
    if isinstance(section.spec, str) and section.combine != "mean" and not _ENSEMBLE.fullmatch(section.spec):
        raise ConfigError(
            f"target.combine: {section.combine} combines several networks, and target.spec names one; give a list, "
            f"target.spec=[{section.spec}, ...], or leave target.combine out."
        )


def source_of(section: TargetConfig, allow_code: bool, *, key: str = "target.spec") -> Source:
    """What the target of a section is built from, in any process; that of an ensemble has the files of all members."""
    return Source(section.named, allow_code, key=key)


def sources_of(section: TargetConfig, source: Source) -> list[Source]:
    """The source of each network of a section, which share the files of `source`."""
    return [source] if isinstance(section.spec, str) else [replace(source, spec=spec) for spec in section.spec]


def section_named(text: str, key: str) -> dict[str, str | list[str]]:
    """The keys `spec` and `combine` of a section that a text names: a spec, or an ensemble as it is shown, e.g.
    "min(efficientnet-lite:0, efficientnet-lite:1)".

    Args:
        key: of the configuration or the command line, for messages.

    Raises:
        ConfigError: an ensemble of fewer than two.
    """
    if not (found := _ENSEMBLE.fullmatch(text)):
        return {"spec": text}
    specs = [spec.strip() for spec in found[2].split(",")]
    if len(specs) < 2 or not all(specs):
        raise ConfigError(f"{key}: {text!r} is no ensemble; give two networks at least, {found[1]}(SPEC, SPEC).")
    return {"spec": specs, "combine": found[1]}


def scheme_of(spec: str, key: str = "target.spec") -> str:
    """The family that a spec, e.g. "timm:resnet18", or its scheme alone names; `key` is for messages.

    Raises:
        ConfigError: it names none.
    """
    scheme = spec.partition(":")[0]
    if scheme not in FAMILIES:
        near = difflib.get_close_matches(scheme, FAMILIES, n=1, cutoff=0.75)
        hint = f"did you mean {near[0]}:...?" if near else f"known are {', '.join(f'{name}:' for name in FAMILIES)}."
        raise ConfigError(f"{key}: {spec!r} names no kind of target; {hint}")
    return scheme


def trained_file(source: Source) -> bytes:
    """The bytes of a file that `evofool targets train` wrote; raises ConfigError where it cannot be read."""
    taught = "--base SPEC" if source.scheme == "head" else "--dataset mnist-5k"
    return source.read(source.argument, f"make one with `evofool targets train {source.scheme} {taught} --out FILE`")


def lite_variant(source: Source) -> str:
    """The variant of efficientnet-lite; raises ConfigError where there is none of the name."""
    if source.argument not in LITE_SIZES:
        raise ConfigError(f"{source.key}: {source.spec!r} is unknown; there are efficientnet-lite:0, :1 and :2.")
    return source.argument


def _code(source: Source) -> None:
    place = code_place(source)
    if place.endswith(".py"):
        source.read(place, "give the path of a Python file")


_CHECKS: dict[str, Callable[[Source], object]] = {
    **dict.fromkeys(("lenet", "mlp", "resnet", "bagnet", "head"), trained_file),
    "efficientnet-lite": lite_variant,
    "python": _code,
}
