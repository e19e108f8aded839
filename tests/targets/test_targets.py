"""Targets: files that are refused, what the fingerprint sees, what the network is fed, code of one's own, data sets
and the training of the LeNet.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from handmade import Do
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import evofool
from evofool.base.registry import FAMILIES
from evofool.base.source import Source
from evofool.config.sections import Config, EvaluationConfig
from evofool.errors import ConfigError, CorruptData, StorageError, TargetError
from evofool.evaluate.resolving import resolve_numerics
from evofool.targets.families import load_target
from evofool.targets.numerics import default_numerics
from evofool.targets.target import Preprocessing, Target, outputs_in_batches
from evofool.targets.training import train
from evofool.targets.training.datasets import LabelledImages, load_dataset, stratified_split
from evofool.targets.zoo import lenet

DIGITS = tuple(str(i) for i in range(10))
METADATA = {"format": "evofool.lenet.1", "class_names": json.dumps(DIGITS)}
GREY = Preprocessing((4, 6), 1, (10.0,), (20.0,))
COLOUR = Preprocessing((4, 6), 3, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


class Show(nn.Module):
    """Remembers what it is fed; the same scores for everybody."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.outputs, self.seen = outputs, torch.zeros(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        return torch.zeros(len(x), self.outputs)


def images_of(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def refusal(spec: str | Source, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_target(spec, **options)
    assert caught.value.exit_code == 2
    return caught.value.message


# ---------------------------------------------------------------------------------------------------------- specs


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("lennet:x", "did you mean lenet:"),
        ("pyhton:x", "did you mean python:"),
        ("zzz:x", "known are lenet:, "),
        ("x", "known are lenet:, "),
        ("lenet", "lenet"),
        ("lenet:", "lenet"),
        ("", "known are"),
        ("live", "known are"),
        ("lenet:a\0b", "lenet"),
    ],
)
def test_spec_that_names_no_target_is_refused(spec: str, words: str) -> None:
    assert words in refusal(spec)


def test_every_family_and_device_has_numerics_from_the_table() -> None:
    for device in ("cpu", "cuda"):
        for family in (*FAMILIES, "any", "unheard of"):
            numerics = default_numerics(device, family)
            assert numerics.device == device
            assert numerics.chunk % numerics.micro_batch == 0
            assert numerics.threads == 1
    assert default_numerics("cpu", "lenet") != default_numerics("cpu", "any")


# ---------------------------------------------------------------------------------------------------------- lenet


@pytest.fixture(scope="module")
def tensors(lenet_file: Path) -> dict[str, torch.Tensor]:
    return load_file(lenet_file)


def written(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> str:
    save_file(tensors, path, metadata)
    return f"lenet:{path}"


def test_lenet_has_the_layers_of_the_2015_code(lenet_file: Path, tensors: dict[str, torch.Tensor]) -> None:
    target = load_target(f"lenet:{lenet_file}")
    assert (target.image_size, target.channels, target.class_names) == ((28, 28), 1, DIGITS)
    assert (target.output, target.family, target.spec) == ("logits", "lenet", f"lenet:{lenet_file}")
    assert not target.module.training and not any(p.requires_grad for p in target.module.parameters())
    shapes = [tuple(tensor.shape) for tensor in target.module.state_dict().values()]
    assert shapes == [(20, 1, 5, 5), (20,), (50, 20, 5, 5), (50,), (500, 800), (500,), (10, 500), (10,)]
    assert all(torch.equal(tensor, target.module.state_dict()[name]) for name, tensor in tensors.items())


def test_lenet_file_that_is_missing_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    message = refusal(f"lenet:{tmp_path}/missing.safetensors")
    assert f"{tmp_path}/missing.safetensors" in message and "evofool targets train lenet" in message
    assert "cannot be read" in refusal(f"lenet:{tmp_path}")


@pytest.mark.parametrize("blob", [b"", b"\0" * 8, b"PK\3\4 a zip", b"\x80\x02pickle", b"{}", b"\xff" * 100], ids=repr)
def test_file_that_is_not_safetensors_is_refused(blob: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(blob)
    assert f"{path}: damaged, or not a safetensors file" in refusal(f"lenet:{path}")


def test_damaged_safetensors_are_refused(lenet_file: Path, tmp_path: Path) -> None:
    path, blob = tmp_path / "weights", lenet_file.read_bytes()
    for damaged in (blob[:-1], blob[: len(blob) // 2], blob[:20], b"\xff" + blob[1:], blob + b"\0"):
        path.write_bytes(damaged)
        assert str(path) in refusal(f"lenet:{path}")


class Sentinel:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_pickled_weights_are_refused_and_not_unpickled(tmp_path: Path) -> None:
    torch.save({"0.weight": Sentinel(tmp_path / "sentinel")}, tmp_path / "weights.pt")
    assert "not a safetensors file" in refusal(f"lenet:{tmp_path}/weights.pt")
    assert not (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"format": "evofool.lenet.2"}], ids=repr)
def test_safetensors_of_somebody_else_are_refused(
    metadata: dict[str, str] | None, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    message = refusal(written(tmp_path / "weights", tensors, metadata))
    assert "not written by `evofool targets train lenet`" in message and "python:FILE.py:callable" in message


@pytest.mark.parametrize("names", [None, "not json", "5", "null", '"abcdefghij"', json.dumps(list(range(10))), "[]"])
def test_class_names_that_are_none_are_refused(
    names: str | None, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    metadata = {"format": "evofool.lenet.1", **({} if names is None else {"class_names": names})}
    assert str(tmp_path) in refusal(written(tmp_path / "weights", tensors, metadata))


def test_weights_of_another_network_are_refused_key_by_key(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    cases: dict[str, dict[str, torch.Tensor]] = {
        "0.bias is missing": {k: v for k, v in tensors.items() if k != "0.bias"},
        "9.weight is not in the network": {**tensors, "9.weight": torch.zeros(2)},
        "5.bias is (499,) where the network has (500,)": {**tensors, "5.bias": torch.zeros(499)},
        "0.weight is (20, 3, 5, 5) where": {**tensors, "0.weight": torch.zeros(20, 3, 5, 5)},
    }
    for words, other in cases.items():
        assert words in refusal(written(tmp_path / "weights", other, METADATA))
    message = refusal(written(tmp_path / "weights", {"a": torch.zeros(1)}, METADATA))
    assert message.count("is missing") + message.count("is not in the network") == 3 and "(and 6 more)" in message
    fewer = {**METADATA, "class_names": json.dumps(DIGITS[:9])}
    assert "7.bias is (10,) where the network has (9,)" in refusal(written(tmp_path / "weights", tensors, fewer))


# ---------------------------------------------------------------------------------------------------- fingerprint


def lenet_target(tensors: dict[str, torch.Tensor], **changes: Any) -> Target:
    module = lenet.network()
    module.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()})
    return replace(lenet.build(module, DIGITS), **changes)


def test_fingerprint_does_not_see_where_the_file_lies(lenet_file: Path, tmp_path: Path) -> None:
    copy = shutil.copy(lenet_file, tmp_path / "other.safetensors")
    assert load_target(f"lenet:{lenet_file}").fingerprint() == load_target(f"lenet:{copy}").fingerprint()


def test_fingerprint_is_that_of_the_weights_whatever_their_layout(tensors: dict[str, torch.Tensor]) -> None:
    target = lenet_target(tensors, spec="here")
    expected = target.fingerprint()
    assert target.to("cpu", "channels_last").fingerprint() == expected
    assert lenet_target(tensors, spec="elsewhere", family="any").fingerprint() == expected


def test_live_modules_of_other_code_have_other_fingerprints() -> None:
    first, second = (Target(nn.Sequential(nn.Flatten(), last), GREY, ("a", "b")) for last in (nn.ReLU(), nn.Tanh()))
    assert first.fingerprint() != second.fingerprint()
    assert replace(first, spec="a.py").fingerprint() == replace(second, spec="a.py").fingerprint()  # their code tells


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "7.bias"])
def test_fingerprint_changes_with_the_last_bit_of_a_weight(name: str, tensors: dict[str, torch.Tensor]) -> None:
    changed = {key: tensor.clone() for key, tensor in tensors.items()}
    flat = changed[name].view(-1)
    flat[-1] = torch.nextafter(flat[-1], torch.tensor(9.0))
    assert lenet_target(changed).fingerprint() != lenet_target(tensors).fingerprint()


def test_fingerprint_changes_with_all_that_decides_scores(tensors: dict[str, torch.Tensor]) -> None:
    p = Preprocessing((28, 28), 1, (lenet.MEAN,), (lenet.STD,))
    changes: list[dict[str, Any]] = [
        {},
        {"preprocessing": replace(p, mean=(33.0,))},
        {"preprocessing": replace(p, std=(78.0,))},
        {"preprocessing": replace(p, resize=32)},
        {"preprocessing": replace(p, crop=24)},
        {"preprocessing": replace(p, image_size=(28, 29))},
        {"preprocessing": replace(p, resize=32, crop=28)},
        {"preprocessing": replace(p, resize=32, crop=28), "geometry": "published"},
        {"output": "probabilities"},
        {"class_names": ("zero", *DIGITS[1:])},
        {"class_names": (*DIGITS[1:], "0")},
        {"code_sha256": "0" * 64},
    ]
    prints = {lenet_target(tensors, **change).fingerprint() for change in changes}
    assert len(prints) == len(changes)
    assert lenet_target(tensors, preprocessing=p).fingerprint() in prints


def test_fingerprint_sees_names_shapes_types_and_buffers() -> None:
    def target(**buffers: torch.Tensor) -> str:
        module = Show()
        for name, tensor in buffers.items():
            module.register_buffer(name, tensor)
        return Target(module, GREY, ("a", "b")).fingerprint()

    prints = [
        target(),
        target(x=torch.zeros(4)),
        target(y=torch.zeros(4)),
        target(x=torch.zeros(2, 2)),
        target(x=torch.zeros(4, dtype=torch.int32)),
        target(x=torch.zeros(2, dtype=torch.float64)),
        target(x=torch.zeros(())),
        target(x=torch.zeros(0)),
        target(x=torch.zeros(4, dtype=torch.bfloat16)),
        target(x=torch.zeros(4, dtype=torch.bool)),
    ]
    assert len(set(prints)) == len(prints)


def test_target_is_put_into_eval_mode_without_gradients() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(24, 2), nn.Dropout(0.5)).train()
    target = Target(module, GREY, ("a", "b"))
    assert not any(part.training for part in target.module.modules())
    assert not any(p.requires_grad for p in target.module.parameters())
    images = images_of((3, 4, 6, 1))
    assert np.array_equal(target.outputs(images), target.outputs(images))


# --------------------------------------------------------------------------------------------------- preprocessing


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": (28,)},
        {"image_size": (28, 28, 1)},
        {"image_size": (0, 28)},
        {"image_size": (28, -1)},
        {"image_size": (28.5, 28)},
        {"channels": 2},
        {"channels": 0},
        {"mean": (0.0, 0.0)},
        {"mean": ()},
        {"std": (1.0, 1.0)},
        {"mean": (float("nan"),)},
        {"mean": (float("inf"),)},
        {"std": (0.0,)},
        {"std": (-1.0,)},
        {"std": (float("nan"),)},
        {"std": (float("inf"),)},
        {"resize": 0},
        {"resize": -8},
        {"crop": 0},
        {"crop": -8},
        {"crop": 29},
        {"resize": 20, "crop": 24},
    ],
    ids=repr,
)
def test_preprocessing_that_cannot_be_meant_is_refused(changes: dict[str, Any]) -> None:
    valid = {"image_size": (28, 28), "channels": 1, "mean": (0.0,), "std": (1.0,)}
    Preprocessing(**valid)
    with pytest.raises(ConfigError, match="preprocessing: "):
        Preprocessing(**{**valid, **changes})


def test_preprocessing_hash_changes_with_every_field() -> None:
    p = Preprocessing((28, 28), 1, (0.0,), (1.0,))
    others: list[dict[str, Any]] = [
        {"image_size": (28, 29)},
        {"channels": 3, "mean": (0.0,) * 3, "std": (1.0,) * 3},
        {"mean": (0.5,)},
        {"std": (1.5,)},
        {"resize": 32},
        {"crop": 24},
        {"interpolation": "bicubic"},
    ]
    assert {key for change in others for key in change} == {field.name for field in fields(Preprocessing)}
    assert len({p.sha256(), *(replace(p, **change).sha256() for change in others)}) == 8


UNSOUND: tuple[dict[str, Any], ...] = ({"output": "logit"}, {"class_names": ("one",)}, {"geometry": "published"})


@pytest.mark.parametrize("changes", UNSOUND, ids=repr)
def test_target_that_cannot_be_meant_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="target"):
        Target(**{"module": Show(), "preprocessing": GREY, "class_names": ("a", "b"), **changes})


def test_published_geometry_of_a_target_without_one_is_refused(lenet_file: Path) -> None:
    assert "target.geometry" in refusal(f"lenet:{lenet_file}", geometry="published")


def test_output_is_what_the_target_declares_unless_told(lenet_file: Path) -> None:
    assert load_target(f"lenet:{lenet_file}").output == "logits"
    assert load_target(f"lenet:{lenet_file}", output="log_probabilities").output == "log_probabilities"


# -------------------------------------------------------------------------------------------------------- classes

ANIMALS = Target(Show(4), GREY, ("cat", "dog", "3", "house cat"))


@pytest.mark.parametrize(
    ("classes", "indices"),
    [
        ("all", [0, 1, 2, 3]),
        (["dog"], [1]),
        (["house cat", "cat"], [3, 0]),
        ([2, "cat", 1], [2, 0, 1]),
        (["3"], [2]),
        ([3], [3]),
    ],
)
def test_classes_by_name_and_by_index(classes: Any, indices: list[int]) -> None:
    found = ANIMALS.class_indices(classes)
    assert found.tolist() == indices and found.dtype == np.int64


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["dgo"], "no class 'dgo'; nearest are dog"),
        (["House Cat"], "nearest are house cat"),
        (["zzzz"], "no class 'zzzz'; it has 4"),
        ([4], "no class 4"),
        ([-1], "no class -1"),
        (["cat", "dog", "cat"], "listed twice"),
        (["cat", 0], "listed twice"),
    ],
)
def test_classes_that_are_not_there_or_twice_are_refused(classes: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=r"target\.classes") as caught:
        ANIMALS.class_indices(classes)
    assert words in caught.value.message


# -------------------------------------------------------------------------------------------------------- outputs


@pytest.mark.parametrize("p", [GREY, COLOUR], ids=["grey", "colour"])
def test_network_is_fed_normalised_pixels(p: Preprocessing) -> None:
    target = Target(Show(), p, ("a", "b"))
    images = images_of((5, 4, 6, p.channels))
    assert target.outputs(images).shape == (5, 2)
    mean, std = (np.array(v, dtype=np.float32) for v in (p.mean, p.std))
    expected = ((images.numpy().astype(np.float32) - mean) / std).transpose(0, 3, 1, 2)
    assert np.array_equal(target.module.seen.numpy(), expected)
    assert target.module.seen.is_contiguous()


def test_lenet_outputs_are_those_of_the_layers_by_hand(lenet_file: Path, tensors: dict[str, torch.Tensor]) -> None:
    images = images_of((2, 28, 28, 1))
    w = {name: tensor.double().numpy() for name, tensor in tensors.items()}

    def convolve(x: NDArray[Any], kernel: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
        return np.einsum("nchwij,ocij->nohw", windows, kernel) + bias[:, None, None]

    def pool(x: NDArray[Any]) -> NDArray[Any]:
        n, c, height, width = x.shape
        return x.reshape(n, c, height // 2, 2, width // 2, 2).max(axis=(3, 5))

    x = (images.numpy().transpose(0, 3, 1, 2) - 33.3184) / 78.5675
    x = pool(convolve(x, w["0.weight"], w["0.bias"]))
    x = pool(convolve(x, w["2.weight"], w["2.bias"])).reshape(2, -1)
    x = np.maximum(x @ w["5.weight"].T + w["5.bias"], 0) @ w["7.weight"].T + w["7.bias"]
    np.testing.assert_allclose(load_target(f"lenet:{lenet_file}").outputs(images), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_memory_formats_give_the_same_scores_but_for_rounding(memory_format: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(40, 3))
    target = Target(net, COLOUR, ("a", "b", "c"))
    images = images_of((7, 4, 6, 3))
    expected = target.outputs(images)
    seen = []
    moved = target.to("cpu", memory_format)
    moved.module[0].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    found = moved.outputs(images)
    assert found.shape == (7, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    assert seen[0].is_contiguous(memory_format=layout)


def test_the_bits_of_a_score_do_not_depend_on_the_strides_of_the_image(lenet_file: Path, one_thread: None) -> None:
    # The one channel of a grey image may have any stride, and convolutions choose their algorithm by it.
    target = load_target(f"lenet:{lenet_file}")
    images = images_of((50, 28, 28, 1))
    odd = images.as_strided(images.shape, (784, 28, 1, 784))
    assert torch.equal(odd, images) and odd.is_contiguous() and odd.stride() != images.stride()
    with torch.inference_mode():
        assert np.array_equal(target.outputs(odd), target.outputs(images))


def views_of(image: NDArray[np.uint8], side: int) -> list[NDArray[np.uint8]]:
    """Four corners and the centre, and their mirror images, cut out one by one."""
    height, width, _ = image.shape
    starts = [(0, 0), (0, width - side), (height - side, 0), (height - side, width - side)]
    starts.append((round((height - side) / 2), round((width - side) / 2)))
    cut = [image[top : top + side, left : left + side] for top, left in starts]
    return cut + [view[:, ::-1] for view in cut]


@pytest.mark.parametrize("output", ["logits", "probabilities", "log_probabilities"])
def test_ten_crops_are_the_mean_of_the_probabilities_of_ten_images(output: str) -> None:
    last = {"logits": nn.Identity(), "probabilities": nn.Softmax(1), "log_probabilities": nn.LogSoftmax(1)}[output]
    torch.manual_seed(3)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5), last)
    p = Preprocessing((8, 8), 3, (100.0,) * 3, (60.0,) * 3, resize=12, crop=8)
    ten = Target(module, p, tuple("abcde"), output=output, crops=10)
    one = Target(module, p, tuple("abcde"), output=output)
    assert ten.image_size == (12, 12) and one.image_size == (8, 8)
    assert ten.returns == "probabilities" and one.returns == output
    images = images_of((4, 12, 12, 3))
    expected = []
    for image in images.numpy():
        values = one.outputs(torch.from_numpy(np.stack(views_of(image, 8)))).astype(np.float64)
        if output == "logits":
            values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        expected.append((np.exp(values) if output == "log_probabilities" else values).mean(axis=0))
    np.testing.assert_allclose(ten.outputs(images), expected, rtol=1e-5)
    ten.check_outputs(ten.outputs(images))
    assert ten.fingerprint() != one.fingerprint()


def test_ten_crops_of_an_image_no_larger_than_the_crop_are_refused() -> None:
    p = Preprocessing((8, 8), 3, (0.0,) * 3, (1.0,) * 3, resize=8, crop=8)
    with pytest.raises(ConfigError, match="no larger than its crop"):
        Target(Show(), p, ("a", "b"), crops=10)
    with pytest.raises(ConfigError, match="no larger than its crop"):
        Target(Show(), COLOUR, ("a", "b"), crops=10)


class Stubborn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout()

    def train(self, mode: bool = True) -> Stubborn:
        self.dropout.training = True
        return self


def test_a_network_that_stays_in_training_mode_is_refused() -> None:
    with pytest.raises(TargetError, match="stays in training mode after eval"):
        Target(Stubborn(), GREY, ("a", "b"), spec="mine")


def test_a_name_that_several_outputs_bear_is_refused_with_their_indices() -> None:
    target = Target(Show(4), GREY, ("crane", "kite", "crane", "owl"))
    with pytest.raises(ConfigError, match=r"'crane' is the name of outputs \[0, 2\]; give the index"):
        target.class_indices(["crane"])
    assert target.class_indices([2, "owl"]).tolist() == [2, 3]


@pytest.mark.slow  # to import torchvision takes its time
@pytest.mark.parametrize(
    ("size", "resize", "crop"),
    [
        ((256, 256), 232, 224),
        ((256, 256), 255, 240),
        ((60, 60), 55, 40),
        ((61, 47), 40, 33),
        ((100, 151), 64, 50),
        ((151, 100), 64, 50),
        ((20, 30), 40, 36),
        ((48, 48), None, 33),
        ((30, 41), 24, None),
        ((50, 33), 32, 32),
    ],
)
def test_published_geometry_is_that_of_torchvision(size: tuple[int, int], resize: int | None, crop: int | None) -> None:
    from torchvision.transforms import v2

    p = Preprocessing(size, 3, (100.0, 110.0, 120.0), (50.0, 60.0, 70.0), resize=resize, crop=crop)
    target = Target(Show(), p, ("a", "b"), geometry="published")
    images = images_of((2, *size, 3))
    steps: list[nn.Module] = [v2.Resize(resize, antialias=True)] if resize else []
    steps += [v2.CenterCrop(crop)] if crop else []
    transform = v2.Compose([*steps, v2.Normalize(list(p.mean), list(p.std))])
    expected = transform(images.movedim(-1, 1).to(torch.float32))
    target.outputs(images)
    assert target.module.seen.shape == expected.shape
    torch.testing.assert_close(target.module.seen, expected, rtol=1e-5, atol=1e-5)


def test_native_geometry_neither_resizes_nor_crops() -> None:
    target = Target(Show(), replace(COLOUR, resize=3, crop=2), ("a", "b"))
    target.outputs(images_of((1, 4, 6, 3)))
    assert target.module.seen.shape == (1, 3, 4, 6)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: 1 / 0, "raised ZeroDivisionError for images of shape (3, 1, 4, 6): division by zero"),
        (lambda x: nn.Linear(5, 2)(x), "raised RuntimeError for images of shape (3, 1, 4, 6): "),
        (lambda x: torch.zeros(3, 7), "returned (3, 7) for 3 images, not scores of shape (3, 2)"),
        (lambda x: torch.zeros(1, 2), "returned (1, 2) for 3 images"),
        (lambda x: torch.zeros(3), "returned (3,) for 3 images"),
        (lambda x: torch.zeros(3, 2, 1, 1), "returned (3, 2, 1, 1) for 3 images"),
        (lambda x: (torch.zeros(3, 2), None), "returned tuple for 3 images"),
        (lambda x: None, "returned NoneType for 3 images"),
    ],
    ids=["raises", "wrong layer", "classes", "rows", "vector", "maps", "tuple", "nothing"],
)
def test_network_that_does_not_give_scores_fails_as_the_target(function: Any, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        Target(Do(function), GREY, ("a", "b"), spec="mine").outputs(images_of((3, 4, 6, 1)))
    assert caught.value.exit_code == 6
    assert words in caught.value.message and caught.value.message.startswith("mine: ")


def test_network_that_raises_ends_a_run_with_exit_code_6(config: Config, tmp_path: Path) -> None:
    p = Preprocessing((28, 28), 1, (0.0,), (1.0,))
    with pytest.raises(TargetError) as caught:
        evofool.run(config, out=tmp_path / "run", target=Do(lambda x: 1 / 0), preprocessing=p, class_names=DIGITS)
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_outputs_are_float32_whatever_the_network_computes_in(dtype: torch.dtype) -> None:
    target = Target(Do(lambda x: torch.full((len(x), 2), 1.5, dtype=dtype)), GREY, ("a", "b"))
    outputs = target.outputs(images_of((3, 4, 6, 1)))
    assert outputs.dtype == np.float32 and (outputs == 1.5).all()


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("output", "rows", "sound"),
    [
        ("logits", [[5.0, -9.0]], True),
        ("logits", [[NAN, 0.0], [1.0, 2.0]], True),
        ("logits", [[NAN, 0.0], [INF, 2.0]], False),
        ("logits", [[-INF, 0.0]], False),
        ("probabilities", [[0.25, 0.75], [1.0, 0.0]], True),
        ("probabilities", [[0.25, 0.75], [0.5, 0.6]], False),
        ("probabilities", [[0.25, 0.7]], False),
        ("probabilities", [[1.5, -0.5]], False),
        ("probabilities", [[NAN, NAN]], False),
        ("probabilities", [[5.0, -9.0]], False),
        ("probabilities", [[NAN, 0.5], [0.5, 0.5]], True),
        ("log_probabilities", [[np.log(0.25), np.log(0.75)]], True),
        ("log_probabilities", [[0.25, 0.75]], False),
        ("log_probabilities", [[-1.0, -1.0]], False),
    ],
)
def test_outputs_that_cannot_be_what_they_are_said_to_be(output: str, rows: list[list[float]], sound: bool) -> None:
    target = Target(Show(), GREY, ("a", "b"), output=output)
    outputs = np.array(rows, dtype=np.float32)
    if sound:
        target.check_outputs(outputs)
        return
    with pytest.raises(TargetError) as caught:
        target.check_outputs(outputs)
    assert caught.value.exit_code == 6
    finite = np.isfinite(outputs).all(axis=1).any()
    assert ("target.output" if finite else "NaN or infinite") in caught.value.message


# --------------------------------------------------------------------------------------------------------- python

CODE = """
from pathlib import Path
import torch
import evofool

Path({sentinel!r}).touch()
CONSTANT = 3

def build():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 2, bias=False))
    torch.nn.init.ones_(net[1].weight)
    return evofool.Target(net, evofool.Preprocessing((4, 6), 1, (0.0,), (255.0,)), ("a", "b"))

def raises():
    raise KeyError("lost")

def something_else():
    return torch.nn.Identity()

def leaves():
    raise SystemExit(0)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A user's file. It leaves a sentinel when it runs, whose name makes the file another one in every test."""
    path = tmp_path / "mynet.py"
    path.write_text(CODE.format(sentinel=str(tmp_path / "sentinel")))
    return path


@pytest.fixture
def package(code: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same as an installed module."""
    site = code.parent / "site"
    name = f"package_{hashlib.sha256(str(code).encode()).hexdigest()[:12]}"
    (site / name).mkdir(parents=True)
    (site / name / "__init__.py").touch()
    shutil.copy(code, site / name / "nets.py")
    (site / name / "raising.py").write_text("raise ValueError('at import')\n")
    (site / name / "wrong.py").write_text("def (\n")
    monkeypatch.syspath_prepend(str(site))
    return f"{name}.nets"


def test_code_runs_only_where_it_is_allowed(code: Path, package: str) -> None:
    for place in (code, package):
        message = refusal(f"python:{place}:build")
        assert "--allow-code" in message and str(place) in message
        assert not (code.parent / "sentinel").exists()
        assert package not in sys.modules


def test_target_from_a_file_and_from_a_module(code: Path, package: str) -> None:
    prints = set()
    for place in (code, package):
        spec = f"python:{place}:build"
        target = load_target(spec, allow_code=True)
        assert (target.spec, target.family, target.class_names) == (spec, "any", ("a", "b"))
        assert target.code_sha256 == hashlib.sha256(code.read_bytes()).hexdigest()
        assert target.outputs(torch.full((1, 4, 6, 1), 255, dtype=torch.uint8)).tolist() == [[24.0, 24.0]]
        prints.add(target.fingerprint())
    assert len(prints) == 1, "the place does not matter, the code does"


def test_code_is_in_the_fingerprint_and_a_changed_file_is_run_anew(code: Path) -> None:
    spec = f"python:{code}:build"
    before = load_target(spec, allow_code=True)
    (code.parent / "sentinel").unlink()
    code.write_text(code.read_text() + "\n# a comment\n")
    after = load_target(spec, allow_code=True)
    assert (code.parent / "sentinel").exists()
    assert before.fingerprint() != after.fingerprint()


def test_source_carries_the_code_to_where_the_file_is_not(code: Path) -> None:
    source = Source(f"python:{code}:build", allow_code=True)
    here = load_target(source).fingerprint()
    code.unlink()
    assert load_target(source).fingerprint() == here


@pytest.mark.parametrize("name", ["bulid", "CONSTANT", "torch"])
def test_wrong_callable_is_refused_with_a_list_of_those_there_are(name: str, code: Path, package: str) -> None:
    for place in (code, package):
        message = refusal(f"python:{place}:{name}", allow_code=True)
        assert f"{place} has no callable {name!r}" in message
        assert all(there in message for there in ("build", "raises", "something_else"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "raises() raised KeyError: 'lost'"),
        ("something_else", "something_else() returned Identity, not evofool.Target"),
        ("leaves", "leaves() raised SystemExit"),
    ],
)
def test_factory_that_gives_no_target_fails_as_the_target(name: str, words: str, code: Path, package: str) -> None:
    for place in (code, package):
        with pytest.raises(TargetError) as caught:
            load_target(f"python:{place}:{name}", allow_code=True)
        assert caught.value.exit_code == 6
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / 0\n", "ZeroDivisionError"),
        ("def (\n", "SyntaxError"),
        ("import nothing_of_that_name\n", "ModuleNotFoundError"),
        ("raise SystemExit(0)\n", "SystemExit"),
    ],
)
def test_file_that_raises_fails_as_the_target_each_time(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    for _ in range(2):
        with pytest.raises(TargetError, match=words) as caught:
            load_target(f"python:{path}:build", allow_code=True)
        assert str(path) in caught.value.message


@pytest.mark.parametrize(("module", "words"), [("raising", "ValueError: at import"), ("wrong", "SyntaxError")])
def test_module_that_raises_fails_as_the_target(module: str, words: str, package: str) -> None:
    place = package.replace(".nets", f".{module}")
    with pytest.raises(TargetError, match=words) as caught:
        load_target(f"python:{place}:build", allow_code=True)
    assert place in caught.value.message


@pytest.mark.parametrize("argument", ["x", "x.py", ":build", "x.py:", "x.py:not a name", "x.py:a.b"])
def test_spec_that_is_no_place_and_name_is_refused(argument: str) -> None:
    assert "python:FILE.py:callable or python:package.module:callable" in refusal(f"python:{argument}", allow_code=True)


@pytest.mark.parametrize("place", ["no_such_module_anywhere", "json.nothing", ".relative", "..", "/tmp/missing.py"])
def test_place_that_is_not_there_is_refused(place: str) -> None:
    assert place in refusal(f"python:{place}:build", allow_code=True)


def test_current_directory_is_not_importable(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(code, code.with_name("evil_net_in_cwd.py"))
    monkeypatch.chdir(code.parent)
    assert "cannot be imported" in refusal("python:evil_net_in_cwd:build", allow_code=True)
    before = list(sys.path)
    load_target("python:mynet.py:build", allow_code=True)
    assert sys.path == before
    code.write_text("import evil_net_in_cwd\n")
    with pytest.raises(TargetError, match="ModuleNotFoundError"):
        load_target("python:mynet.py:build", allow_code=True)


# ------------------------------------------------------------------------------------------------------- data sets


@pytest.fixture(scope="module")
def mnist_5k() -> LabelledImages:
    return load_dataset("mnist-5k", seed=1)


@pytest.mark.slow
@pytest.mark.needs_mnist5k
def test_mnist_5k_is_split_into_disjoint_stratified_parts(mnist_5k: LabelledImages) -> None:
    data = mnist_5k
    assert (data.name, data.class_names) == ("mnist-5k", DIGITS)
    for part, rows in (("train", 4000), ("held_out", 1000)):
        images, labels, indices = (getattr(data, f"{part}_{what}") for what in ("images", "labels", "indices"))
        assert images.shape == (rows, 28, 28) and images.dtype == np.uint8
        assert labels.dtype == np.int64 and np.bincount(labels).tolist() == [rows // 10] * 10
        assert (np.diff(indices) > 0).all()
        assert images.max() == 255 and 20 < images.mean() < 50, "white digits on black"
    assert sorted([*data.train_indices, *data.held_out_indices]) == list(range(5000))


@pytest.mark.slow
@pytest.mark.needs_mnist5k
def test_split_is_a_function_of_the_seed(mnist_5k: LabelledImages) -> None:
    labels = np.zeros(5000, dtype=np.int64)
    for part in ("train", "held_out"):
        labels[getattr(mnist_5k, f"{part}_indices")] = getattr(mnist_5k, f"{part}_labels")
    for seed, same in ((1, True), (2, False)):
        train_indices, held_out = stratified_split(labels, 0.2, seed)
        assert np.array_equal(train_indices, mnist_5k.train_indices) == same
        assert np.array_equal(held_out, mnist_5k.held_out_indices) == same


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.floats(0, 1), st.integers(0, 9))
def test_stratified_split_holds_out_the_same_share_of_every_class(labels: list[int], share: float, seed: int) -> None:
    array = np.array(labels, dtype=np.int64)
    kept, held = stratified_split(array, share, seed)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert (np.diff(kept) > 0).all() and (np.diff(held) > 0).all()
    for label in set(labels):
        assert (array[held] == label).sum() == round(labels.count(label) * share)


def idx(array: NDArray[np.uint8]) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """A data set of 5 and 3 images; one of the files is packed."""
    for prefix, rows in (("train", 5), ("t10k", 3)):
        pixels = images_of((rows, 28, 28), rows).numpy()
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx(pixels))
        labels = idx(np.arange(rows, dtype=np.uint8))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return tmp_path


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx_files_are_read_packed_or_not(idx_folder: Path, name: str) -> None:
    data = load_dataset(name, 0, idx_folder)
    assert np.array_equal(data.train_images, images_of((5, 28, 28), 5).numpy())
    assert np.array_equal(data.held_out_images, images_of((3, 28, 28), 3).numpy())
    assert (data.train_labels.tolist(), data.held_out_labels.tolist()) == ([0, 1, 2, 3, 4], [0, 1, 2])
    assert (data.train_indices.tolist(), data.held_out_indices.tolist()) == ([0, 1, 2, 3, 4], [0, 1, 2])
    assert data.train_labels.dtype == np.int64 and data.train_images.dtype == np.uint8
    assert len(data.class_names) == 10 and (data.class_names == DIGITS) == (name == "mnist")


GOOD = idx(np.arange(3, dtype=np.uint8))


DAMAGED = {
    "empty": b"",
    "no dimensions": GOOD[:3],
    "no sizes": GOOD[:6],
    "short": GOOD[:-1],
    "long": GOOD + b"\0",
    "floats": b"\0\0\x0d" + GOOD[3:],
    "magic": b"\1" + GOOD[1:],
    "scalar": b"\0\0\x08\0" + b"\5",
    "too many dimensions": b"\0\0\x08\xff" + b"\xff" * 99,
    "absurd sizes": b"\0\0\x08\4" + b"\x7f\xff\xff\xff" * 4,
    "more labels than images": idx(np.arange(4, dtype=np.uint8)),
    "label of no class": idx(np.array([1, 10, 2], dtype=np.uint8)),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_idx_files_are_corrupt_data(idx_folder: Path, damage: str, packed: bool) -> None:
    blob = DAMAGED[damage]
    path = idx_folder / "t10k-labels-idx1-ubyte.gz"
    if packed:
        path.write_bytes(gzip.compress(blob))
    else:
        path.unlink()
        path.with_suffix("").write_bytes(blob)
    with pytest.raises(CorruptData, match=re.escape(str(idx_folder))):
        load_dataset("mnist", 0, idx_folder)


def test_damaged_gzip_is_corrupt_data_wherever_it_is_damaged(idx_folder: Path) -> None:
    path = idx_folder / "t10k-labels-idx1-ubyte.gz"
    blob = path.read_bytes()
    found = 0
    for damaged in (*(blob[:i] + bytes([blob[i] ^ 16]) + blob[i + 1 :] for i in range(len(blob))), blob[:-9], b"x"):
        path.write_bytes(damaged)
        try:
            labels = load_dataset("mnist", 0, idx_folder).held_out_labels
            assert labels.tolist() == [0, 1, 2], "some bytes of a gzip header mean nothing"
        except CorruptData:
            found += 1
    assert found > len(blob) / 2


def test_data_set_that_is_missing_is_refused(idx_folder: Path) -> None:
    (idx_folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ConfigError, match=r"neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte\.gz"):
        load_dataset("mnist", 0, idx_folder)
    with pytest.raises(ConfigError, match="no folder"):
        load_dataset("mnist", 0, idx_folder / "missing")
    with pytest.raises(ConfigError, match="known are mnist-5k, mnist, fashion-mnist"):
        load_dataset("mnits", 0)


# -------------------------------------------------------------------------------------------------------- training


def bars(rows: int = 128) -> LabelledImages:
    """Three classes that are easy to tell apart: a bright band at one of three heights, and noise."""
    generator = np.random.default_rng(5)
    labels = np.arange(rows) % 3
    images = generator.integers(0, 60, (rows, 28, 28), dtype=np.uint8)
    for row, label in enumerate(labels):
        images[row, 8 * label + 2 : 8 * label + 8] = 250
    indices, half = np.arange(rows) + 7, rows // 2
    parts = [array[rows] for rows in (slice(half, None), slice(None, half)) for array in (images, labels, indices)]
    return LabelledImages("bars", ("top", "middle", "low"), *parts)


def same_tensors(first: Path, second: Path) -> bool:
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_training_is_a_function_of_data_and_seed_and_loads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "EPOCHS", 1)
    data, threads, lines = bars(), torch.get_num_threads(), []
    told = train.train_lenet(data, 3, tmp_path / "new" / "a.safetensors", lines.append)
    torch.rand(5)  # torch's own generator must not matter
    train.train_lenet(data, 3, tmp_path / "b.safetensors", lines.append)
    train.train_lenet(data, 4, tmp_path / "c.safetensors", lines.append)
    assert same_tensors(tmp_path / "new" / "a.safetensors", tmp_path / "b.safetensors")
    assert not same_tensors(tmp_path / "b.safetensors", tmp_path / "c.safetensors")
    assert torch.get_num_threads() == threads
    assert len(lines) == 3 and lines[0].startswith("epoch  1/1")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["a.safetensors", "b.safetensors", "c.safetensors"]

    target = load_target(f"lenet:{tmp_path / 'b.safetensors'}")
    assert target.class_names == ("top", "middle", "low")
    assert target.fingerprint() == told["fingerprint"]
    with safe_open(tmp_path / "b.safetensors", "pt") as file:
        metadata = file.metadata()
    assert {**metadata, "fingerprint": told["fingerprint"]} == told
    for part, rows in (("train", range(71, 135)), ("held_out", range(7, 71))):
        expected = hashlib.sha256(np.array(rows, dtype="<i8").tobytes()).hexdigest()
        assert metadata[f"{part}_indices_sha256"] == expected
        assert metadata[f"{part}_images"] == "64"
    assert (metadata["dataset"], metadata["seed"], metadata["epochs"]) == ("bars", "3", "1")
    hits = outputs_in_batches(target, data.held_out_images[..., None], 7).argmax(axis=1) == data.held_out_labels
    assert metadata["held_out_accuracy"] == f"{hits.mean():.4f}"


def test_the_same_weights_and_metadata_are_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_train", lambda *arguments: zeros())
    for name in ("a", "b", "c"):
        train.train_lenet(bars(), 3, tmp_path / name, lambda line: None)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def zeros() -> nn.Module:
    """A LeNet for `bars` that knows nothing."""
    module = lenet.network(3)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


@pytest.mark.slow
def test_training_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "EPOCHS", 5)
    told = train.train_lenet(bars(256), 1, tmp_path / "a.safetensors", lambda line: None)
    assert float(told["held_out_accuracy"]) > 0.95


@pytest.mark.parametrize("batch", [1, 2, 3, 9])
def test_outputs_in_batches_are_those_of_all_at_once(batch: int) -> None:
    target = Target(Do(lambda x: x.flatten(1)[:, :2]), Preprocessing((1, 2), 1, (0.0,), (1.0,)), ("a", "b"))
    images = np.array([[9, 1], [1, 9], [9, 2]], dtype=np.uint8).reshape(3, 1, 2, 1)
    assert np.array_equal(outputs_in_batches(target, images, batch), [[9, 1], [1, 9], [9, 2]])


@pytest.mark.parametrize("place", ["below a file", "a folder", "a folder that is read-only"])
def test_place_that_cannot_be_written_is_found_before_training(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_train", lambda *arguments: pytest.fail("training began"))
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    out = {"below a file": tmp_path / "file" / "x", "a folder": tmp_path / "folder"}.get(place)
    if out is None:
        out = Path("/proc/x.safetensors")  # nobody, not even root, makes files there
    with pytest.raises(StorageError) as caught:
        train.train_lenet(bars(), 0, out, lambda line: None)
    assert caught.value.exit_code == 74
    assert f"--out: {out} cannot be written" in caught.value.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_disk_that_fills_while_training_is_a_storage_error_and_keeps_old_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "weights.safetensors"
    out.write_bytes(b"old")
    monkeypatch.setattr(train, "_train", lambda *arguments: zeros())

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError):
        train.train_lenet(bars(), 0, out, lambda line: None)
    assert out.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


# ------------------------------------------------------------------------------------------------- declared options


def lenet_outputs(precision: str = "float32", compiled: str = "none") -> NDArray[np.float32]:
    torch.manual_seed(1)
    images = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8))
    target = lenet.build(lenet.network(), tuple("0123456789"))
    with torch.inference_mode():
        return target.to("cpu", "contiguous").with_arithmetic(precision, compiled).outputs(images)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_less_precision_gives_nearly_the_same_float32_outputs(precision: str) -> None:
    plain, less = lenet_outputs(), lenet_outputs(precision)
    assert less.dtype == np.float32
    assert 0 < np.abs(less - plain).max() < 0.02 * np.abs(plain).max() + 0.02


def test_tf32_is_for_gpus() -> None:
    settings = EvaluationConfig(precision="tf32", device="cpu")
    with pytest.raises(ConfigError, match=r"evaluation\.precision: tf32 is arithmetic of GPUs"):
        resolve_numerics(settings, lenet.build(lenet.network(), tuple("0123456789")), False)


@pytest.mark.slow
def test_a_compiled_network_gives_nearly_the_same_outputs_or_says_why_not() -> None:
    if shutil.which("g++"):  # torch compiles for a CPU with a C++ compiler
        assert np.abs(lenet_outputs(compiled="default") - lenet_outputs()).max() < 1e-4
    else:
        with pytest.raises(TargetError, match="the network raised"):
            lenet_outputs(compiled="default")
