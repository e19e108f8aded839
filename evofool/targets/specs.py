"""What is wrong with a spec that can be said without torch, for which a mistake on a command line need not wait.

Families use the same checks when they load. What a network's own package knows, such as its names, has to wait for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from evofool.base.registry import FAMILIES
from evofool.base.source import Source
from evofool.base.usercode import code_place
from evofool.errors import ConfigError

__all__ = ["LITE_SIZES", "check_spec", "lite_variant", "scheme_of", "trained_file"]

LITE_SIZES = {"0": 224, "1": 240, "2": 260}  # variant: side of the input, in pixels


def check_spec(spec: str, *, allow_code: bool = False) -> None:
    """Refuse a spec that cannot be opened, as far as that can be known quickly.

    Args:
        spec: of `target.spec`; "live" is left to whoever has the network.
        allow_code: whether a python: spec may run its code; it does not run here.

    Raises:
        ConfigError: it names no kind of target, a file that cannot be read, or code that may not run.
    """
    if spec != "live" and (check := _CHECKS.get(scheme_of(spec))):
        check(Source(spec, allow_code))


def scheme_of(spec: str) -> str:
    """The family that a spec, e.g. "timm:resnet18", or its scheme alone names.

    Raises:
        ConfigError: it names none.
    """
    scheme = spec.partition(":")[0]
    if scheme not in FAMILIES:
        near = difflib.get_close_matches(scheme, FAMILIES, n=1, cutoff=0.75)
        hint = f"did you mean {near[0]}:...?" if near else f"known are {', '.join(f'{name}:' for name in FAMILIES)}."
        raise ConfigError(f"target.spec: {spec!r} names no kind of target; {hint}")
    return scheme


def trained_file(source: Source) -> bytes:
    """The bytes of a file that `evofool targets train` wrote; raises ConfigError where it cannot be read."""
    taught = "--base SPEC" if source.scheme == "head" else "--dataset mnist-5k"
    return source.read(source.argument, f"make one with `evofool targets train {source.scheme} {taught} --out FILE`")


def lite_variant(source: Source) -> str:
    """The variant of efficientnet-lite; raises ConfigError where there is none of the name."""
    if source.argument not in LITE_SIZES:
        raise ConfigError(f"target.spec: {source.spec!r} is unknown; there are efficientnet-lite:0, :1 and :2.")
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
