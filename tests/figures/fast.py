"""ImageNet networks of the figures through ONNX Runtime: `target.spec=python:tests/figures/fast.py:lite0`.

The same weights on the same images, two to three times as fast as torch on the 2 cores that the figures were made on,
so that studies of many runs end within hours; logits agree with torch's to 1e-5. Needs `pip install onnx onnxruntime`.
The first call writes weights/fast/NAME.onnx, which is a part of the fingerprint.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evofool import Target
from evofool.targets.families import load_target

PLACE = Path("weights/fast")
SQUEEZENET = "weights/squeezenet.safetensors"  # `evofool targets import` writes it


class Network(torch.nn.Module):
    """An ONNX file as a module; takes (n, 3, h, w) float32, returns (n, outputs) float32, image by image."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.session = str(path), None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """One image at a time, so that no image's score depends on its company."""
        if self.session is None:  # here, as an evaluator is told its threads after it has loaded the network
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            self.session: Any = onnxruntime.InferenceSession(self.path, options)
        return torch.stack(
            [torch.from_numpy(self.session.run(None, {"images": image[None]})[0][0]) for image in images.numpy()]
        )


def of(name: str, spec: str) -> Target:
    """The target of a spec, its network exported once."""
    target = load_target(spec)
    path = PLACE / f"{name}.onnx"
    if not path.is_file():
        PLACE.mkdir(parents=True, exist_ok=True)
        example = torch.zeros(1, target.channels, *target.preprocessing.image_size)
        part = path.with_suffix(".part")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the older exporter needs less, and says that it is old
            torch.onnx.export(target.module, (example,), part, dynamo=False, input_names=["images"])
        part.rename(path)
    return replace(target, module=Network(path), spec=f"fast:{name}", family="any", files=(str(path),))


def lite0() -> Target:
    """EfficientNet-lite0."""
    return of("lite0", "efficientnet-lite:0")


def lite1() -> Target:
    """EfficientNet-lite1."""
    return of("lite1", "efficientnet-lite:1")


def lite2() -> Target:
    """EfficientNet-lite2."""
    return of("lite2", "efficientnet-lite:2")


def squeezenet() -> Target:
    """SqueezeNet v1.0."""
    return of("squeezenet", f"torchvision:squeezenet1_0/{SQUEEZENET}")
