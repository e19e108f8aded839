"""Readouts: units of a network whose numbers are known; and `evofool targets layers`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from evofool.errors import ConfigError, TargetError
from evofool.evaluate.evaluator import Evaluator
from evofool.records import Cells, Numerics, Unit
from evofool.targets.checking.filters import draw_filters, first_filters
from evofool.targets.readout import LayerReading, ReadoutReading, layers_of, readouts_of
from evofool.targets.target import Preprocessing, Target

NAMES = tuple("abcd")
TEMPLATE = torch.tensor([[-1.0, 2.0, -1.0]] * 3)  # a bright vertical line


class Net(nn.Module):
    """A convolution whose second channel is the template, a ReLU in place, and layers that cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Conv2d(1, 2, 3, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.twice = nn.Identity()
        self.unused = nn.Identity()
        self.pair = nn.LSTM(36, 3, batch_first=True)  # gives a tuple
        self.out = nn.Linear(72, len(NAMES))
        with torch.no_grad():
            self.seen.weight.copy_(torch.stack([-TEMPLATE, TEMPLATE])[:, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        maps = self.act(self.seen(x))
        self.pair(maps.flatten(2))
        return self.out(self.twice(self.twice(maps)).flatten(1))


def target() -> Target:
    torch.manual_seed(0)
    return Target(Net(), Preprocessing((8, 8), 1, (0.0,), (255.0,)), NAMES)


def pictures(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(256, size=(n, 8, 8, 1), dtype=np.uint8)


def correlated(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, 6, 6) what the template's channel gives, by numpy."""
    x, template = images[..., 0] / 255.0, TEMPLATE.numpy()
    views = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    found: NDArray[np.float64] = (views * template).sum(axis=(3, 4))
    return found


def test_a_whole_layer_is_what_it_gave_whatever_works_in_place_after_it() -> None:
    images, net = pictures(5), target()
    reading = LayerReading(net, "seen")
    with reading.reading():
        net.outputs(torch.from_numpy(images))
        values = reading.values(5)
    assert np.allclose(values[:, 1], correlated(images), atol=1e-5)


def test_a_readout_is_the_number_of_its_unit_whatever_works_in_place() -> None:
    images, net = pictures(5), target()
    maps = correlated(images)
    expected = {
        "seen:1": maps.mean(axis=(1, 2)),
        "seen:1@2,4": maps[:, 2, 4],
        "seen:1:relu": np.maximum(maps, 0).mean(axis=(1, 2)),
        "act:1": np.maximum(maps, 0).mean(axis=(1, 2)),
        "act:1:before": maps.mean(axis=(1, 2)),
        "act:1@0,5:before": maps[:, 0, 5],
        "seen:0": -maps.mean(axis=(1, 2)),
    }
    readouts = readouts_of(net, list(expected))
    assert [str(readout) for readout in readouts] == list(expected)
    reading = ReadoutReading(net, readouts)
    with reading.reading():
        outputs = net.outputs(torch.from_numpy(images))
        values = reading.values(5)
    assert np.allclose(values.numpy(), np.stack(list(expected.values()), axis=1), atol=1e-6)
    assert np.array_equal(outputs, net.outputs(torch.from_numpy(images))), "reading changes no score"
    assert [str(r) for r in readouts_of(net, ["out:2", "seen:*"])] == ["out:2", "seen:0", "seen:1"]


def test_gradients_flow_through_a_readout() -> None:
    net = target()
    reading = ReadoutReading(net, readouts_of(net, ["seen:1", "seen:1@2,4"]))
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    with reading.reading():
        net.module(x)
        mean, place = reading.values(1)[0]
    (of_place,) = torch.autograd.grad(place, x, retain_graph=True)
    assert torch.equal(of_place[0, 0, 2:5, 4:7], TEMPLATE) and of_place.abs().sum() == TEMPLATE.abs().sum()
    (of_mean,) = torch.autograd.grad(mean, x)
    assert torch.isclose(of_mean.sum(), TEMPLATE.sum(), atol=1e-6) and of_mean[0, 0, 0, 1] * 36 == TEMPLATE[0, :2].sum()


@pytest.mark.parametrize("n", [1, 4, 9])
def test_an_evaluator_scores_units_with_the_same_bits_in_any_company(n: int, one_thread: None) -> None:
    names = ["seen:1", "out:3"]
    cells = Cells(np.arange(2), units=tuple(Unit(*name.split(":"), name) for name in names))  # type: ignore[arg-type]
    numerics = Numerics(device="cpu", chunk=4, micro_batch=4, threads=1, memory_format="contiguous")
    evaluator = Evaluator(target(), None, cells, numerics)
    images = pictures(n)
    scores = evaluator.score_images(images)
    assert scores.objective.dtype == np.float32 and np.array_equal(scores.objective, scores.log_odds)
    assert np.allclose(scores.objective[:, 0], correlated(images).mean(axis=(1, 2)), atol=1e-6)
    alone = np.concatenate([evaluator.score_images(image[None]).objective for image in images])
    whole = np.zeros((4 * n, 8, 8, 1), dtype=np.uint8)
    whole[::4] = images  # each at the first place of its pass, among others
    assert np.array_equal(evaluator.score_images(whole).objective[::4], alone)
    assert scores.top_classes[:, 0].max() < len(NAMES), "the network's answer is among its classes still"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sean:1", r"key: it reads the layer 'sean', which live does not have; it has 6, among them seen"),
        ("seen:2", r"key: seen:2 is of channel 2, and seen of live has 2, from 0 to 1\."),
        ("seen:0@6,0", r"key: seen:0@6,0 is of a place that seen does not have, which gives a map of 6 x 6"),
        ("out:0@0,0", r"which gives no map: \(4,\) an image\."),
        ("unused:0", r"key: unused of live is not used in a forward pass"),
        ("twice:0", r"key: twice of live is used 2 times in a forward pass; name a layer that is used once"),
        ("pair:0", r"key: pair of live gives no single tensor, which has no channels to read"),
        ("seen", r"key: 'seen' is no readout: write LAYER:CHANNEL"),
        ("seen:-1", r"is no readout"),
        ("seen:1:after", r"is no readout"),
        ("seen:1@2", r"in a list of YAML put quotes around one that has a comma"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        readouts_of(target(), [text], key="key")


def test_readouts_come_once_and_not_of_torchscript() -> None:
    with pytest.raises(ConfigError, match=r"seen:1 is listed twice"):
        readouts_of(target(), ["seen:*", "seen:1"])
    with pytest.warns(FutureWarning):
        scripted = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    with pytest.raises(TargetError, match=r"its layer '0' cannot be read .* not TorchScript"):
        layers_of(Target(scripted, target().preprocessing, NAMES))


def test_layers_are_listed_as_a_pass_finds_them() -> None:
    layers = {layer.name: layer for layer in layers_of(target())}
    told = {name: (layer.kind, layer.uses, layer.gives, layer.channels) for name, layer in layers.items()}
    assert told == {
        "seen": ("Conv2d", 1, (2, 6, 6), 2),
        "act": ("ReLU", 1, (2, 6, 6), 2),
        "twice": ("Identity", 2, (2, 6, 6), 2),
        "unused": ("Identity", 0, None, None),
        "pair": ("LSTM", 1, None, None),
        "out": ("Linear", 1, (4,), 4),
    }
    assert layers["act"].given == (2, 6, 6)


def test_the_first_filters_are_drawn_with_0_as_mid_grey() -> None:
    net = target()
    name, weights = first_filters(net, layers_of(net))
    assert name == "seen" and weights.shape == (2, 3, 3, 1)
    pixels = np.asarray(draw_filters(weights))
    assert (pixels[8 + 10, 8 + 31] == 0).all(), "-2, the largest of the first filter"
    assert (pixels[8 + 10, 8 + 72 + 31] == 255).all() and (pixels[8 + 10, 8 + 72 + 5] == 64).all(), "2 and -1"
    flat = Target(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), net.preprocessing, NAMES)
    with pytest.raises(ConfigError, match=r"--png: live has no convolution that is given a picture"):
        first_filters(flat, layers_of(flat))


def test_the_command_lists_layers_and_writes_the_filters(command: Command, lenet_file: Path, tmp_path: Path) -> None:
    code, out, err = command("targets", "layers", f"lenet:{lenet_file}", "--png", tmp_path / "f.png")
    assert code == 0 and ["2", "Conv2d", "50", "x", "8", "x", "8", "50"] in [line.split() for line in out.splitlines()]
    assert "the 20 filters of 0" in err and Image.open(tmp_path / "f.png").format == "PNG"
    code, out, _ = command("targets", "layers", f"lenet:{lenet_file}", "--json")
    assert code == 0 and json.loads(out)[5] | {"given": None} == {
        "name": "5", "kind": "Linear", "uses": 1, "given": None, "gives": [500], "parts": 0, "channels": 500,
    }  # fmt: skip
    code, _, err = command("targets", "layers", f"lenet:{lenet_file}", "--png", tmp_path / "no" / "f.png")
    assert code == 74 and "cannot be written" in err
    code, _, err = command("targets", "layers", "lenet:nowhere.safetensors")
    assert code == 2 and "SPEC: no file nowhere.safetensors" in err
