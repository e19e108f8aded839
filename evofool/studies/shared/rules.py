"""The rules of an ascent: what is climbed, from where, in what steps, and what keeps the picture in bounds.

They are options of `evofool ascend`, so this file loads without torch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

from evofool.errors import ConfigError

__all__ = ["CANVASES", "OBJECTIVES", "OF_PIXELS", "STARTS", "STEPS", "Options", "Rules"]

OBJECTIVES = ("softmax", "logit", "log_odds", "margin")  # those of targets/gradients.py
CANVASES = ("pixels", "fourier", "cppn")
STARTS = ("noise", "uniform", "grey", "mean")
STEPS = ("adam", "progress")
OF_PIXELS = ("decay", "blur", "clip_norm", "clip_contribution")  # regularisers that change pixels themselves


@dataclass(frozen=True)
class Rules:
    """How to climb. The regularisers are those of Yosinski et al. 2015 (section 4), and what came after them."""

    objective: Annotated[
        str, "What rises: softmax (the probability), logit, log_odds, or margin (the logit less the greatest other)."
    ] = "log_odds"
    start: Annotated[
        str, "noise: the network's mean colour and normal noise of one grey level; uniform noise; grey; or mean."
    ] = "noise"
    canvas: Annotated[
        str, "What is changed: pixels; fourier, a spectrum in decorrelated colours; or cppn, the weights of --genomes."
    ] = "pixels"
    step: Annotated[
        str, "adam; or progress, as Nguyen et al. 2015: so long that p is to rise by --early, or --late (1 - p)."
    ] = "adam"
    steps: Annotated[int, "Steps of each climb."] = 100
    rate: Annotated[float, "Step of adam; by default 2 grey levels for pixels, 0.05 for fourier, 0.02 for cppn."] = 0.0
    early: Annotated[float, "Predicted rise of p in one step of progress, at first."] = 0.03
    late: Annotated[float, "The same as a share of 1 - p, near the end."] = 0.1
    rise: Annotated[float, "Predicted rise in one step of progress of what is no probability."] = 1.0
    most: Annotated[float, "The longest step of progress, times the gradient."] = 1e12
    decay: Annotated[float, "Regulariser: share by which pixels go back to the mean colour, each step."] = 0.0
    blur: Annotated[float, "Regulariser: radius of a Gaussian blur, in pixels."] = 0.0
    blur_every: Annotated[int, "Steps between blurs."] = 1
    tv: Annotated[float, "Regulariser: weight of the total variation, the mean difference of neighbours."] = 0.0
    clip_norm: Annotated[float, "Regulariser: percent of pixels, the faintest, that become the mean colour."] = 0.0
    clip_contribution: Annotated[
        float, "Regulariser: percent of pixels, those that matter least, that become the mean colour."
    ] = 0.0
    jitter: Annotated[int, "Regulariser: pixels by which the network sees the picture shifted, at most."] = 0
    rotation: Annotated[float, "Regulariser: degrees by which it sees it turned, at most."] = 0.0
    scale: Annotated[float, "Regulariser: percent by which it sees it scaled, at most."] = 0.0
    seed: Annotated[int, "Seed of starts and of what the network is shown."] = 1

    @property
    def is_seen_changed(self) -> bool:
        """Whether the network sees the picture shifted, turned or scaled while it climbs."""
        return bool(self.jitter or self.rotation or self.scale)

    @property
    def named(self) -> str:
        """Those that differ from the defaults, e.g. "softmax, progress, decay 0.01"; "log_odds, adam" without any."""
        said = [f"{f.name.replace('_', ' ')} {getattr(self, f.name):g}" for f in fields(Rules) if _is_told(self, f)]
        shown = [self.objective, *([self.canvas] if self.canvas != "pixels" else []), self.step]
        return ", ".join([*shown, *([self.start] if self.start != "noise" else []), *said])

    def refuse(self) -> None:
        """Raise ConfigError for a rule that makes no sense."""
        for name, words in (("objective", OBJECTIVES), ("start", STARTS), ("canvas", CANVASES), ("step", STEPS)):
            if getattr(self, name) not in words:
                raise ConfigError(f"--{name}: {getattr(self, name)!r} is not {', '.join(words[:-1])} or {words[-1]}.")
        for name, least, greatest in _BOUNDS:
            if not least <= getattr(self, name) <= greatest:
                raise ConfigError(
                    f"--{name.replace('_', '-')}: {getattr(self, name):g} is not between {least:g} and {greatest:g}."
                )
        if self.canvas != "pixels" and (wrong := [name for name in OF_PIXELS if getattr(self, name)]):
            raise ConfigError(
                f"--{wrong[0].replace('_', '-')}: it changes pixels themselves, which --canvas {self.canvas} has none "
                "of; take --tv, --jitter, --rotation or --scale."
            )
        if self.canvas == "fourier" and self.start == "uniform":
            raise ConfigError("--start: uniform noise is of pixels; with --canvas fourier take noise, grey or mean.")


_INF = float("inf")
_BOUNDS = (
    *(("steps", 1, 1e6), ("rate", 0, 1e6), ("early", 0, 1), ("late", 0, 1), ("rise", 0, 1e6), ("most", 0, 1e300)),
    *(("decay", 0, 1), ("blur", 0, 64), ("blur_every", 1, 1e6), ("tv", 0, 1e9), ("clip_norm", 0, 100)),
    *(("clip_contribution", 0, 100), ("jitter", 0, 1024), ("rotation", 0, 180), ("scale", 0, 90), ("seed", 0, 2**64)),
)


def _is_told(rules: Rules, field: object) -> bool:
    value, default = getattr(rules, field.name), field.default  # type: ignore[attr-defined]
    return not isinstance(value, str) and value != default


@dataclass(frozen=True)
class Options(Rules):
    """What to climb to, how often, and what to set beside it."""

    classes: Annotated[
        tuple[str, ...], "Class to climb to, by name or output index; may be repeated. All by default."
    ] = ()
    readout: Annotated[
        tuple[str, ...],
        "Unit to excite in place of classes: LAYER:CHANNEL, LAYER:CHANNEL@Y,X or LAYER:*; may be repeated.",
    ] = ()
    genomes: Annotated[str, "Run of CPPNs, whose elites' weights --canvas cppn climbs by."] = ""
    restarts: Annotated[int, "Climbs to each, each from a start of its own."] = 1
    control: Annotated[
        bool,
        "Climb a second time by gradients whose pixels change places, always the same: steps of that size elsewhere.",
    ] = False
    beside: Annotated[
        tuple[str, ...], "Run of evolution against the same network, on the same axis of passes; may be repeated."
    ] = ()
    batch: Annotated[int, "Pictures that climb at a time."] = 16

    @property
    def named(self) -> str:
        """As of the rules; of units what rises is their activation."""
        return super().named.replace(self.objective, "activation", 1) if self.readout else super().named

    def refuse(self) -> None:
        """Raise ConfigError for an option that makes no sense."""
        super().refuse()
        for name in ("restarts", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name}: {getattr(self, name)} is not 1 or more.")
        if (self.canvas == "cppn") != bool(self.genomes):
            raise ConfigError("--canvas cppn and --genomes RUN, which has the CPPNs to begin with, go together.")
        if self.readout and (self.classes or self.beside or self.genomes):
            raise ConfigError(
                "--readout stands in place of classes, so it goes without --classes, --beside, --genomes."
            )
        if self.genomes and self.restarts > 1:
            raise ConfigError("--restarts: a CPPN climbs from the elite that it is, so there is one start.")
        if self.restarts > 1 and self.start in ("grey", "mean") and not self.is_seen_changed:
            raise ConfigError(
                f"--restarts: from --start {self.start} every climb would be the same; take --start noise, or --jitter."
            )
