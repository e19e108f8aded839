"""A target: a network under test together with all that decides what it is fed and what its outputs mean.

The rest of the house only knows uint8 images and scores. Geometry, normalisation, class names, eval mode, the kind of
output and the fingerprint belong to the target.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.archive.scores import OUTPUTS, sums
from evofool.errors import ClassNotFound, ConfigError, TargetError, first_line, nearest
from evofool.targets.contents import contents_of, refuse_no_network, refuse_strays
from evofool.targets.preprocessing import Preprocessing

__all__ = ["DEVICE_FAILURES", "Preprocessing", "Target", "class_texts", "outputs_in_batches"]

# The device failed, not the network: its memory was too small, or CUDA reported an error, after which nothing that this
# process asks of the GPU works any more.
DEVICE_FAILURES = (torch.OutOfMemoryError, torch.AcceleratorError)


@dataclass(frozen=True)
class Target:
    """A network under test.

    Attributes:
        module: in eval mode, on the CPU when built; takes (n, channels, h, w) float32, returns (n, outputs).
        output: "logits", "probabilities" or "log_probabilities".
        class_names: one for each output.
        spec: what it was built from.
        family: which defaults of shapes and memory formats suit it, e.g. "lenet".
        code_sha256: of the file it was built by and of those in `files`; "" where none was.
        files: what else the code of a python: target reads (weights, say): paths as it opens them. The fingerprint
            holds their sha256; by itself it sees no more than the module's weights and buffers.
        geometry: "native": images have the size of the network's input. "published": they have the size after the
            publisher's resize, and the centre of that is cropped.
        crops: 1, or 10: images have the size after the publisher's resize, and the probabilities of its four corners,
            its centre and their mirror images are averaged (Krizhevsky et al., NIPS 2012, section 4.1).
        imagenet_ids: the id in WordNet of each output, e.g. "n01440764", None for one that has none; () where nobody
            knows them. They say what classes mean, not how an image is scored, so the fingerprint leaves them out.
        autocast: what the network computes in where that is less than float32; see `with_arithmetic`.
    """

    KINDS: ClassVar[tuple[str, ...]] = OUTPUTS  # that `output` may be

    module: torch.nn.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    output: str = "logits"
    geometry: str = "native"
    spec: str = "live"
    family: str = "any"
    code_sha256: str = ""
    crops: int = 1
    imagenet_ids: tuple[str | None, ...] = ()
    autocast: torch.dtype | None = None
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.output not in self.KINDS:
            raise ConfigError(f"target.output: {self.output!r} is not logits, probabilities or log_probabilities.")
        object.__setattr__(self, "class_names", class_texts(self.class_names))
        if len(self.class_names) < 2:
            raise ConfigError("target: a target needs at least two classes; name them in class_names.")
        if len(self.imagenet_ids) not in (0, len(self.class_names)):
            raise ConfigError(
                f"target: {len(self.imagenet_ids)} imagenet_ids for {len(self.class_names)} classes; give one for "
                "each, or none."
            )
        if self.geometry == "published" and self.preprocessing.resize is None and self.preprocessing.crop is None:
            raise ConfigError(f"target.geometry: {self.spec} has no published geometry; say target.geometry=native.")
        if self.crops not in (1, 10):
            raise ConfigError(f"target.crops: is 1 or 10, not {self.crops}.")
        if self.crops == 10 and (self.preprocessing.crop is None or self.preprocessing.crop >= min(self.image_size)):
            raise ConfigError(
                f"target.crops: {self.spec} takes images no larger than its crop, so there is one only; say "
                "target.crops=1, or give its Preprocessing a resize that is larger than its crop."
            )
        refuse_no_network(self.module, self.spec)
        refuse_strays(self.module, self.spec)
        self.module.eval()
        if any(part.training for part in self.module.modules()):
            raise TargetError(f"{self.spec}: the network stays in training mode after eval(); mend its train() method.")
        for parameter in self.module.parameters():  # TorchScript has no requires_grad_ of its own
            parameter.detach_().requires_grad_(False)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images it takes."""
        p = self.preprocessing
        if p.resize is None or (self.geometry == "native" and self.crops == 1):
            return p.image_size
        return _resized(p.image_size, p.resize)

    @property
    def returns(self) -> str:
        """What `outputs` gives: averaged probabilities where there are several crops, else what the network returns."""
        return self.output if self.crops == 1 else "probabilities"

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self.preprocessing.channels

    @property
    def parts(self) -> tuple[Target, ...]:
        """The targets that it asks: itself; of an ensemble, the members."""
        return (self,)

    def fingerprint(self) -> str:
        """sha256 (hex) of weights and buffers, preprocessing, geometry, kind of output, class names and code."""
        digest = hashlib.sha256()
        for name, blob in contents_of(self.module, self.spec):
            digest.update(name.encode())
            digest.update(blob)
        fed = self.preprocessing.sha256()
        facts: list[object] = [fed, self.geometry, self.output, list(self.class_names), self.code_sha256]
        if self.crops != 1:
            facts.append(self.crops)
        if self.spec == "live":
            facts.append(repr(self.module))  # the weights alone do not tell what is done with them
        digest.update(json.dumps(facts).encode())
        return digest.hexdigest()

    def class_indices(self, classes: str | Sequence[str | int]) -> NDArray[np.int64]:
        """Output indices of `target.classes`: "all", or names and indices.

        Raises:
            ClassNotFound: a class that does not exist (with the nearest names).
            ConfigError: one that is listed twice, or whose name several outputs have.
        """
        if classes == "all":
            return np.arange(len(self.class_names))
        outputs: dict[str, list[int]] = {}
        for index, name in enumerate(self.class_names):
            outputs.setdefault(name, []).append(index)
        indices: list[int] = []
        for entry in classes:
            if isinstance(entry, int):
                meant = [entry] if 0 <= entry < len(self.class_names) else []
            else:
                meant = outputs.get(entry, [])
            if not meant:
                hint = nearest(str(entry), self.class_names, f"it has {len(self.class_names)}", cutoff=0.4)
                raise ClassNotFound(f"target.classes: {self.spec} has no class {entry!r}; {hint}.")
            if len(meant) > 1:
                raise ConfigError(f"target.classes: {entry!r} is the name of outputs {meant}; give the index.")
            indices += meant
        if len(set(indices)) < len(indices):
            raise ConfigError("target.classes: a class is listed twice.")
        return np.array(indices, dtype=np.int64)

    def to(self, device: str, memory_format: str) -> Target:
        """This target with its module on a device and in a memory format ("contiguous" or "channels_last")."""
        module = self.module.to(device)
        layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.dim() == 4:  # `module.to` would ask this of five dimensions as well, for which there is another
                tensor.data = tensor.data.to(memory_format=layout)
        return replace(self, module=module)

    def with_arithmetic(self, precision: str, compiled: str) -> Target:
        """This target with its network in another precision, or compiled; on its device already.

        Args:
            precision: "float32" or "tf32" (whose switch is torch's own), "bfloat16" or "float16" (by autocast).
            compiled: "none", or a mode of torch.compile.
        """
        module = self.module if compiled == "none" else torch.compile(self.module, mode=compiled, dynamic=False)
        autocast = getattr(torch, precision) if precision.endswith("float16") else None
        return replace(self, module=module, autocast=autocast)

    def outputs(self, images: torch.Tensor) -> NDArray[np.float32]:
        """The network's outputs for uint8 images.

        Args:
            images: (n, h, w, channels) uint8, on the module's device.

        Returns:
            (n, outputs) float32.

        Raises:
            TargetError: the network raises, or returns something else than (n, outputs) numbers.
            OutOfMemoryError, AcceleratorError (torch's): the device failed.
        """
        parts = [self._numbers(self.forward(view)) for view in self.views(images.to(torch.float32))]
        return parts[0] if self.crops == 1 else _mean_probabilities(parts, self.output)

    def views(self, pixels: torch.Tensor) -> Iterator[torch.Tensor]:
        """What the network is fed of images: one view of each, or as many as there are crops.

        Args:
            pixels: (n, h, w, channels) float32, 0 .. 255, on the module's device. They may be overwritten.

        Yields:
            (n, channels, height, width) float32, normalised.
        """
        p, x = self.preprocessing, pixels.movedim(-1, 1)
        if self.geometry == "published" or self.crops > 1:
            x = _resize(x, p)
        x = _normalised(x, p)
        if self.crops == 1:
            yield _centre(x, p) if self.geometry == "published" else x
        else:
            yield from _ten_crops(x, p.crop or 0)

    def forward(self, view: torch.Tensor) -> torch.Tensor:
        """The network's own result for a view, (n, outputs), of whatever type; raises as `outputs`."""
        weight = next((t for t in self.module.parameters() if t.dim() == 4), None)
        channels_last = weight is not None and weight.is_contiguous(memory_format=torch.channels_last)
        x = _laid_out(view, channels_last)
        try:
            with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
                result = self.module(x)
        except DEVICE_FAILURES:
            raise
        except Exception as error:
            if "does not have a deterministic implementation" in str(error):
                raise TargetError(
                    f"{self.spec}: torch has no deterministic implementation of {str(error).split()[0]}, which the "
                    "network uses, so scores could not be repeated; use another layer, of a quantised network its "
                    "form before it was quantised."
                ) from error
            raise TargetError(
                f"{self.spec}: the network raised {type(error).__name__} for images of shape {tuple(x.shape)}: "
                f"{(str(error).strip() or 'no message').splitlines()[0]}"
            ) from error
        is_array = isinstance(result, torch.Tensor) and not result.is_nested
        if not is_array or result.shape != (len(x), len(self.class_names)):
            shape = tuple(result.shape) if is_array else type(result).__name__
            raise TargetError(
                f"{self.spec}: the network returned {shape} for {len(x)} images, not scores of shape "
                f"{(len(x), len(self.class_names))}; check class_names and the network's last layer."
            )
        if result.is_complex():
            raise TargetError(f"{self.spec}: the network returned complex numbers; let it return, say, their abs().")
        return result

    def _numbers(self, result: torch.Tensor) -> NDArray[np.float32]:
        """What `forward` gave as (n, outputs) float32."""
        try:
            plain = result.dequantize() if result.is_quantized else result
            plain = plain if plain.layout is torch.strided else plain.to_dense()
            return plain.to(torch.float32).cpu().numpy()
        except DEVICE_FAILURES:
            raise
        except (RuntimeError, TypeError) as error:
            raise TargetError(
                f"{self.spec}: the network returned a {type(result).__name__} that has no plain numbers "
                f"({first_line(error)}); let it return a tensor of floats."
            ) from error

    def check_outputs(self, outputs: NDArray[np.float32]) -> None:
        """Refuse outputs that cannot be what `output` says.

        Args:
            outputs: (n, outputs), as `outputs` gives them.

        Raises:
            TargetError: no row is finite, or one of probabilities or their logarithms does not sum to 1.
        """
        finite = np.isfinite(outputs).all(axis=1)
        if not finite.any():
            raise TargetError(f"{self.spec}: every output of the network is NaN or infinite; are its weights loaded?")
        self.check_sums(outputs)

    def check_sums(self, outputs: NDArray[np.float32]) -> None:
        """Raise TargetError where a finite row, of (n, outputs), of probabilities or logarithms does not sum to 1."""
        if sums(outputs[np.isfinite(outputs).all(axis=1)], self.returns)[1].any():
            raise TargetError(
                f"{self.spec}: target.output is {self.output}, but the network's outputs do not sum to 1; "
                "say target.output=logits if they are raw scores."
            )


def class_texts(names: Iterable[object]) -> tuple[str, ...]:
    """Class names as texts; numbers become those.

    Raises:
        ConfigError: they are no list, or one of them is neither, or cannot be stored.
    """
    if isinstance(names, Mapping | Set) or not isinstance(names, Iterable):
        kind = type(names).__name__
        raise ConfigError(f"class_names: is a {kind}; give a list with a text for each output, in their order.")
    texts = []
    for number, name in enumerate(names):
        if not isinstance(name, str | int | np.integer) or isinstance(name, bool):
            raise ConfigError(f"class_names: class {number} is called {name!r}, which is no text; give texts.")
        texts.append(str(name))
        try:
            texts[-1].encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"class_names: class {number} is called {name!r}, which holds half a character (a lone surrogate) and "
                "cannot be stored; give another text."
            ) from None
    return tuple(texts)


def outputs_in_batches(target: Target, images: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """The outputs, (n, outputs), of a target on the CPU for (n, h, w, channels) images, so many in one forward pass."""
    with torch.inference_mode():
        parts = [target.outputs(torch.from_numpy(images[i : i + batch].copy())) for i in range(0, len(images), batch)]
    return np.concatenate(parts)


def _normalised(x: torch.Tensor, p: Preprocessing) -> torch.Tensor:
    """(x - mean) / std of each channel; may work in place."""
    mean, std = (torch.tensor(v, dtype=torch.float32, device=x.device) for v in (p.mean, p.std))
    pixels = x.movedim(1, -1)
    if len(mean) == 1 or not pixels.is_contiguous():
        return x.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))
    # By rows: where channels lie innermost, a loop over three numbers at a time takes six times as long.
    width = pixels.shape[2]
    pixels.flatten(2).sub_(mean.repeat(width)).div_(std.repeat(width))
    return x


def _laid_out(x: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """The same numbers, in strides that are a function of shape and format alone.

    A grey image is contiguous to torch whatever the stride of its one channel, and yet convolutions choose their
    algorithm, and so the last bits of a score, by that stride.
    """
    _, channels, height, width = x.shape
    image = channels * height * width
    strides = (image, 1, width * channels, channels) if channels_last else (image, height * width, width, 1)
    if x.stride() == strides:
        return x
    return torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)


def _resized(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """(height, width) with the shorter side given, the other rounded down as torchvision's Resize does."""
    height, width = size
    return (shorter * height // min(size), shorter * width // min(size))


def _resize(x: torch.Tensor, p: Preprocessing) -> torch.Tensor:
    """The publisher's resize, of images that do not have its size yet."""
    height, width = x.shape[-2:]
    if p.resize is None or min(height, width) == p.resize:
        return x
    return torch.nn.functional.interpolate(
        x, size=_resized((height, width), p.resize), mode=p.interpolation, antialias=True, align_corners=False
    )


def _centre(x: torch.Tensor, p: Preprocessing) -> torch.Tensor:
    """The publisher's centre crop."""
    if p.crop is None:
        return x
    top, left = (round((side - p.crop) / 2) for side in x.shape[-2:])  # as torchvision's CenterCrop
    return x[..., top : top + p.crop, left : left + p.crop]


def _ten_crops(x: torch.Tensor, side: int) -> Iterator[torch.Tensor]:
    """Corners and centre, then each of them mirrored left to right."""
    bottom, right = (length - side for length in x.shape[-2:])
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))]
    crops = [x[..., top : top + side, left : left + side] for top, left in corners]
    yield from crops
    yield from (crop.flip(-1) for crop in crops)


def _mean_probabilities(parts: list[NDArray[np.float32]], output: str) -> NDArray[np.float32]:
    """The mean over views of the probabilities that outputs stand for, float64 inside."""
    total = np.zeros(parts[0].shape)
    for part in parts:
        z = part.astype(np.float64)
        if output == "logits":
            with np.errstate(invalid="ignore"):  # a row that is not finite stays so, and is refused later
                z = np.exp(z - z.max(axis=1, keepdims=True))
                z /= z.sum(axis=1, keepdims=True)
        total += np.exp(z) if output == "log_probabilities" else z
    return (total / len(parts)).astype(np.float32)
