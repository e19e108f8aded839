"""What can be read off a network beside its outputs: whole layers, and readouts, which are numbers of single units.

A readout is written LAYER:CHANNEL, and is the mean of a channel over its map, as in feature visualisation (Olah,
Mordvintsev and Schubert, "Feature Visualization", Distill 2017); LAYER:CHANNEL@Y,X is one place of it. Both are of what
the layer gives, so of a convolution before its activation, and of an activation after it. LAYER:CHANNEL:before is of
what the layer is given; LAYER:CHANNEL:relu counts negative numbers of what it gives as 0, for networks whose ReLU is a
function that no layer's name stands for. All are read in the forward pass that scores the image.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.errors import ConfigError, TargetError, first_line
from evofool.targets.target import Target

__all__ = [
    "Layer",
    "LayerReading",
    "Readout",
    "ReadoutReading",
    "layers_of",
    "parse_readout",
    "readouts_of",
    "refuse_layer",
]

_FORM = re.compile(r"(.+):(\d{1,9}|\*)(?:@(\d{1,9}),(\d{1,9}))?(?::(before|relu))?", re.ASCII)
_HOW = "write LAYER:CHANNEL, LAYER:CHANNEL@Y,X or either with :before or :relu after it, e.g. features.3:17"


@dataclass(frozen=True)
class Readout:
    """One number of an image: a unit of a layer, or the mean of a channel."""

    layer: str  # its name in dict(target.module.named_modules())
    channel: int
    place: tuple[int, int] | None = None  # (y, x) of the map; None: the mean over all of it
    side: str = ""  # "": of what the layer gives; "before": of what it is given; "relu": of max(0, what it gives)

    def __str__(self) -> str:
        place = "" if self.place is None else f"@{self.place[0]},{self.place[1]}"
        return f"{self.layer}:{self.channel}{place}{':' if self.side else ''}{self.side}"


@dataclass(frozen=True)
class Layer:
    """A layer of a network, as one forward pass of an image found it."""

    name: str
    kind: str  # the name of its class
    uses: int  # in one forward pass
    given: tuple[int, ...] | None  # shape of what it is given for one image; None: no single tensor
    gives: tuple[int, ...] | None  # likewise of what it gives
    parts: int  # modules inside it

    @property
    def channels(self) -> int | None:
        """Of what it gives; None where that has none."""
        return _channels(self.gives)


class _Tapped:
    """Keeps what is taken from layers in each forward pass; the outputs of the network are the same with it.

    Args:
        taps: of each, the name of a layer, whether it is of what the layer is given, and what to keep of that tensor,
            taken at once: a ReLU that works in place overwrites it afterwards.
    """

    def __init__(self, target: Target, taps: Sequence[tuple[str, bool, Callable[[torch.Tensor], torch.Tensor]]]):
        self._target, self._taps = target, taps
        self._kept: list[list[object]] = [[] for _ in taps]

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """While forward passes are made; `values` is asked for after each.

        Raises:
            TargetError: a layer takes no hook, as those of TorchScript.
        """
        with contextlib.ExitStack() as hooks:
            for number, (name, before, _) in enumerate(self._taps):
                # A hook of what is given must come first: a layer that works in place overwrites it.
                _hook(hooks, self._target, name, partial(self._keep, number), before=before)
            try:
                yield
            finally:
                self._kept = [[] for _ in self._taps]

    def _keep(self, number: int, layer: torch.nn.Module, given: tuple[object, ...], *gives: object) -> None:
        take, value = self._taps[number][2], (*gives, *given, None)[0]
        self._kept[number].append(take(value) if isinstance(value, torch.Tensor) and value.dim() else value)

    def _values(self, rows: int) -> list[torch.Tensor]:
        """(rows, ...) each, what was kept by each tap in the last pass, of so many images.

        Raises:
            TargetError: a layer was not used, or more than once, or gives something else than one row an image.
        """
        everything, self._kept = self._kept, [[] for _ in self._taps]
        values = []
        for (name, before, _), kept in zip(self._taps, everything):
            if len(kept) != 1 or not isinstance(kept[0], torch.Tensor) or kept[0].shape[:1] != (rows,):
                told = [tuple(k.shape) if isinstance(k, torch.Tensor) else type(k).__name__ for k in kept] or "nothing"
                raise TargetError(
                    f"{self._target.spec}: its layer {name!r} {'was given' if before else 'gave'} {told} for {rows} "
                    "images, not one row for each; name a layer that is used once, and gives a tensor."
                )
            values.append(kept[0])
        return values


class LayerReading(_Tapped):
    """Keeps all that one layer of a target gives, for an objective that reads it.

    Args:
        layer: its name in `dict(target.module.named_modules())`.

    Raises:
        ConfigError: there is no such layer.
    """

    def __init__(self, target: Target, layer: str) -> None:
        refuse_layer(target, layer)
        super().__init__(target, [(layer, False, torch.clone)])

    def values(self, rows: int) -> NDArray[np.float32]:
        """(rows, ...) float32, what the layer gave in the last pass, of so many images. Raises as `_values`."""
        return self._values(rows)[0].to(torch.float32).cpu().numpy()


class ReadoutReading(_Tapped):
    """Keeps the numbers of readouts. A row's depend on its image alone, in float64 from what the network computed.

    Gradients flow through them, of a pass that records any.

    Args:
        readouts: as `readouts_of` gives them, of this target.
    """

    def __init__(self, target: Target, readouts: Sequence[Readout]) -> None:
        alike: dict[tuple[object, ...], list[int]] = {}  # readouts that one indexing takes
        for number, readout in enumerate(readouts):
            alike.setdefault((readout.layer, readout.side, readout.place), []).append(number)
        self._order = np.argsort([number for numbers in alike.values() for number in numbers]).tolist()
        groups = [[readouts[number] for number in numbers] for numbers in alike.values()]
        taps = [(group[0].layer, group[0].side == "before", _taking(group)) for group in groups]
        super().__init__(target, taps)

    def values(self, rows: int) -> torch.Tensor:
        """(rows, readouts) float64, those of the last pass, of so many images, on its device. Raises as `_values`."""
        return torch.cat(self._values(rows), dim=1)[:, self._order]


def _taking(group: Sequence[Readout]) -> Callable[[torch.Tensor], torch.Tensor]:
    """From (n, ...) what a layer gives, or is given, to (n, k) float64: readouts that differ in their channel alone."""
    channels, place, relu = [readout.channel for readout in group], group[0].place, group[0].side == "relu"

    def take(tensor: torch.Tensor) -> torch.Tensor:
        axis = _axis(tensor.dim() - 1) + 1
        chosen = tensor.index_select(axis, torch.tensor(channels, device=tensor.device))
        values = chosen.movedim(axis, 1)  # (n, k, ...)
        values = values.relu() if relu else values
        if place is None and values.dim() > 2:
            return values.flatten(2).mean(2, dtype=torch.float64)
        return (values if place is None else values[:, :, place[0], place[1]]).to(torch.float64)

    return take


def _axis(dimensions: int) -> int:
    """Which dimension of what a layer gives for one image has the channels: of tokens, (t, c), the last; else 0."""
    return 1 if dimensions == 2 else 0


def _channels(shape: tuple[int, ...] | None) -> int | None:
    """Channels of (c,), tokens (t, c), or a map (c, h, w)."""
    return shape[_axis(len(shape))] if shape is not None and 1 <= len(shape) <= 3 else None


def parse_readout(text: str, key: str = "target.readouts") -> tuple[Readout, bool]:
    """A readout of its text, and whether it is of every channel of its layer: LAYER:*; then `channel` is 0.

    Raises:
        ConfigError: the text is none; the sentence begins with `key`.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        comma = "; in a list of YAML put quotes around one that has a comma" if re.search(r"@\d+$", text) else ""
        raise ConfigError(f"{key}: {text!r} is no readout: {_HOW}{comma}.")
    layer, channel, y, x, side = found.groups()
    every = channel == "*"
    return Readout(layer, 0 if every else int(channel), None if y is None else (int(y), int(x)), side or ""), every


def readouts_of(target: Target, texts: Sequence[str], key: str = "target.readouts") -> list[Readout]:
    """Readouts of a target by their texts, in order; LAYER:* becomes one for each channel. One forward pass is made.

    Args:
        texts: see `parse_readout`.
        key: of the configuration or the command line, for messages.

    Raises:
        ConfigError: a text is no readout, the target has no such layer, channel or place, or one is listed twice.
        TargetError: the network fails.
    """
    parsed = [parse_readout(text, key) for text in texts]
    for readout, _ in parsed:
        refuse_layer(target, readout.layer, key)
    layers = {layer.name: layer for layer in layers_of(target)} if parsed else {}
    found: dict[Readout, None] = {}
    for readout, every in parsed:
        shape = _shape_of(target, layers[readout.layer], readout.side, key)
        channels = _channels(shape)
        assert channels is not None
        if not every and readout.channel >= channels:
            raise ConfigError(
                f"{key}: {readout} is of channel {readout.channel}, and {readout.layer} of {target.spec} has "
                f"{channels}, from 0 to {channels - 1}."
            )
        if readout.place is not None and (len(shape) != 3 or not _inside(readout.place, shape[1:])):
            size = f"a map of {shape[1]} x {shape[2]} (y, x from 0)" if len(shape) == 3 else f"no map: {shape} an image"
            raise ConfigError(f"{key}: {readout} is of a place that {readout.layer} does not have, which gives {size}.")
        for one in [replace(readout, channel=c) for c in range(channels)] if every else [readout]:
            if one in found:
                raise ConfigError(f"{key}: {one} is listed twice.")
            found[one] = None
    return list(found)


def _inside(place: tuple[int, int], size: tuple[int, ...]) -> bool:
    return place[0] < size[0] and place[1] < size[1]


def _shape_of(target: Target, layer: Layer, side: str, key: str) -> tuple[int, ...]:
    """The shape for one image of what is read; ConfigError where units cannot be read of it."""
    shape, whose = (layer.given, "is given") if side == "before" else (layer.gives, "gives")
    if layer.uses != 1:
        times = "not used" if layer.uses == 0 else f"used {layer.uses} times"
        raise ConfigError(
            f"{key}: {layer.name} of {target.spec} is {times} in a forward pass; name a layer that is used once "
            "(evofool targets layers lists them)."
        )
    if shape is None or _channels(shape) is None:
        what = "no single tensor" if shape is None else f"a tensor of shape {shape} an image"
        raise ConfigError(
            f"{key}: {layer.name} of {target.spec} {whose} {what}, which has no channels to read; name a layer of maps "
            "(channels, height, width), of tokens or of numbers (evofool targets layers lists them)."
        )
    return shape


def layers_of(target: Target) -> list[Layer]:
    """Every layer of a target that has a name, in the network's order; a pass of a black image is made.

    Raises:
        ConfigError: there are ten crops.
        TargetError: the network fails, or its layers take no hooks.
    """
    refuse_crops(target, "a layer")
    seen: dict[str, list[tuple[tuple[int, ...] | None, tuple[int, ...] | None]]] = {}

    def note(name: str, given: tuple[object, ...], gives: object) -> None:
        seen.setdefault(name, []).append((_shape(given[0] if given else None), _shape(gives)))

    modules = {name: module for name, module in target.module.named_modules() if name}
    with contextlib.ExitStack() as hooks, torch.inference_mode():
        for name in modules:
            _hook(hooks, target, name, lambda _, given, gives, name=name: note(name, given, gives))
        device = next((tensor.device for tensor in target.module.parameters()), torch.device("cpu"))
        target.outputs(torch.zeros((1, *target.image_size, target.channels), dtype=torch.uint8, device=device))
    return [
        Layer(
            name,
            type(module).__name__,
            len(seen.get(name, [])),
            *seen.get(name, [(None, None)])[0],
            parts=sum(1 for _ in module.modules()) - 1,
        )
        for name, module in modules.items()
    ]


def _shape(value: object) -> tuple[int, ...] | None:
    """Without the first dimension, that of images, of which there was one."""
    return tuple(value.shape[1:]) if isinstance(value, torch.Tensor) and value.shape[:1] == (1,) else None


def _hook(
    hooks: contextlib.ExitStack, target: Target, name: str, keep: Callable[..., None], *, before: bool = False
) -> None:
    """Have a layer's forward passes seen, before or after they are made, until the stack is closed."""
    try:
        layer = target.module.get_submodule(name)
        hook = layer.register_forward_pre_hook(keep) if before else layer.register_forward_hook(keep)
        hooks.callback(hook.remove)
    except (RuntimeError, AttributeError) as error:
        raise TargetError(
            f"{target.spec}: its layer {name!r} cannot be read ({first_line(error)}); use a network of Python code, "
            "not TorchScript."
        ) from error


def refuse_crops(target: Target, what: str, key: str = "target.crops") -> None:
    """Raise ConfigError where a target averages over crops, each of which would give a layer other numbers."""
    if target.crops > 1:
        raise ConfigError(f"{key}: {what} sees one crop; say target.crops=1.")


def refuse_layer(target: Target, layer: str, key: str = "search.objective") -> None:
    """Raise ConfigError unless a target has a layer of that name, which can be read."""
    names = [name for name, _ in target.module.named_modules() if name]
    refuse_crops(target, f"what reads a layer ({layer})")
    if layer not in names:
        near = difflib.get_close_matches(layer, names, n=3, cutoff=0.4) or names[:5]
        raise ConfigError(
            f"{key}: it reads the layer {layer!r}, which {target.spec} does not have; it has {len(names)}, "
            f"among them {', '.join(near) or 'none with a name'}."
        )
