"""Targets of torchvision and timm: published weights and a user's own files, what the network is fed, all refusals.

Networks are small and random, and nothing is ever fetched.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.targets.checking.photographs import fit
from evofool.targets.families import load_target
from evofool.targets.target import Target
from evofool.targets.zoo import imagenet, timm_networks, torchvision_networks

pytestmark = pytest.mark.slow  # `make check` leaves them to `make test`

SMALL = "shufflenet_v2_x0_5"


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty TORCH_HOME, an empty hub cache, and no way out."""
    from huggingface_hub import constants

    def refuse(*arguments: Any, **options: Any) -> None:
        raise urllib.error.URLError("no internet here")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def settled(module: Any) -> Any:
    """A network whose batch normalisations have met some pictures, so that its outputs depend on what it is fed."""
    module.eval().requires_grad_(False)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.momentum = None
        part.train()
    generator = torch.Generator().manual_seed(3)
    levels = torch.linspace(-2, 2, 4).view(4, 1, 1, 1)
    module(levels + torch.randn((4, 3, 160, 160), generator=generator))
    return module.eval()


def network(name: str, **options: Any) -> Any:
    from torchvision import models

    torch.manual_seed(5)
    return settled(models.get_model(name, weights=None, **options))


def weights_of(name: str) -> Any:
    from torchvision import models

    return models.get_model_weights(name)["DEFAULT"]


def publish(state: dict[str, torch.Tensor], name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a state dict where published weights lie, under a name that carries its sha256."""
    folder = Path(torch.hub.get_dir(), "checkpoints")
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "new")
    digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
    path = (folder / "new").rename(folder / f"{name}-{digest[:8]}.pth")
    monkeypatch.setattr(weights_of(name).value, "url", f"https://example.invalid/models/{path.name}")
    return path


def refusal(spec: str | Source) -> str:
    with pytest.raises(ConfigError) as caught:
        load_target(spec)
    assert caught.value.exit_code == 2
    return caught.value.message


def images_for(target: Target) -> torch.Tensor:
    """A dark picture and a bright one that is a little red."""
    noise = np.random.default_rng(1).integers(0, 60, (2, *target.image_size, 3), dtype=np.uint8)
    noise[1] += np.array([190, 150, 120], dtype=np.uint8)
    return torch.from_numpy(noise)


def agree(found: Any, expected: Any) -> None:
    """Equal but for rounding, measured by what the two pictures' outputs differ by."""
    spread = np.abs(expected[0] - expected[1]).max()
    assert spread > 1e-3 * np.abs(expected).max(), "a network that sees no difference proves nothing"
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3 * spread)


def fed_with(target: Target, photo: Image.Image) -> torch.Tensor:
    """What arrives at the network for a photograph."""
    fed: list[torch.Tensor] = []
    target.module.register_forward_pre_hook(lambda module, given: fed.append(given[0]))
    image = fit(target, photo)
    assert image.shape == (*target.image_size, 3)
    target.outputs(torch.from_numpy(image[None].copy()))
    return fed[0][0]


def expected_outputs(target: Target, bare: nn.Module, images: torch.Tensor, mean: Any, std: Any) -> Any:
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))
    with torch.inference_mode():
        return bare((images.movedim(-1, 1) / 255 - mean) / std).numpy()


# ---------------------------------------------------------------------------------------------- torchvision: published


def test_published_weights_give_the_bare_networks_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = network(SMALL)
    path = publish(bare.state_dict(), SMALL, monkeypatch)
    source = Source(f"torchvision:{SMALL}")
    target = load_target(source)
    assert (target.image_size, target.channels, target.output) == ((224, 224), 3, "logits")
    assert (target.family, target.class_names) == ("torchvision", imagenet.class_names())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in target.module.modules()), "folded"
    images, transform = images_for(target), weights_of(SMALL).transforms()
    expected = expected_outputs(target, bare, images, transform.mean, transform.std)
    agree(target.outputs(images), expected)

    again = load_target(f"torchvision:{SMALL}/IMAGENET1K_V1")
    assert again.fingerprint() == target.fingerprint()
    path.unlink()  # as on a machine that has no such file
    assert load_target(source).fingerprint() == target.fingerprint()


@pytest.mark.parametrize("size", [(300, 421), (431, 257)])
def test_published_geometry_is_that_of_the_weights(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    publish(network(SMALL).state_dict(), SMALL, monkeypatch)
    pixels = np.random.default_rng(2).integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    expected = weights_of(SMALL).transforms()(photo)
    for geometry in ("native", "published"):
        target = load_target(f"torchvision:{SMALL}", geometry=geometry)
        torch.testing.assert_close(fed_with(target, photo), expected, rtol=0, atol=1e-4)


def test_interpolation_sizes_and_units_are_those_of_the_weights() -> None:
    p = torchvision_networks._preprocessing(weights_of("efficientnet_b1"))
    assert (p.image_size, p.resize, p.crop, p.interpolation) == ((240, 240), 255, 240, "bilinear")
    assert torchvision_networks._preprocessing(weights_of("convnext_base")).interpolation == "bilinear"
    assert torchvision_networks._preprocessing(weights_of("swin_t")).interpolation == "bicubic"
    assert p.mean == pytest.approx((123.675, 116.28, 103.53)) and p.std == pytest.approx((58.395, 57.12, 57.375))


@pytest.mark.slow
def test_old_names_of_densenets_parts_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = network("densenet121")
    old = {}
    for key, tensor in bare.state_dict().items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            if "denselayer" in key:
                key = key.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        if not key.endswith("num_batches_tracked"):
            old[key] = tensor
    publish(old, "densenet121", monkeypatch)
    target = load_target("torchvision:densenet121")
    images, transform = images_for(target), weights_of("densenet121").transforms()
    expected = expected_outputs(target, bare, images, transform.mean, transform.std)
    agree(target.outputs(images), expected)


def test_every_network_that_is_listed_has_a_size_and_is_not_on_this_machine() -> None:
    rows = torchvision_networks.catalogue()
    assert {"name": "resnet50", "weights": "IMAGENET1K_V2", "image_size": 224, "on_disk": False} in rows
    assert "IMAGENET1K_FEATURES" not in {row["weights"] for row in rows}
    assert {row["name"] for row in rows} == set(torchvision_networks.names())


def test_weights_that_cannot_be_fetched_are_refused_with_their_place(tmp_path: Path) -> None:
    message = refusal("torchvision:resnet18")
    place = tmp_path / "home" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    assert f"put https://download.pytorch.org/models/resnet18-f37072fd.pth at {place}" in message
    assert "no internet here" in message and "torchvision:resnet18/FILE" in message


def test_weights_are_downloaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    path = publish(network(SMALL).state_dict(), SMALL, monkeypatch)
    kept, calls = path.rename(path.with_name("elsewhere")), []

    def fetch(url: str, place: str, **options: Any) -> None:
        calls.append(url)
        shutil.copy(kept, place)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    for _ in range(2):
        load_target(f"torchvision:{SMALL}")
    assert calls == [f"https://example.invalid/models/{path.name}"]


def test_damaged_published_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = publish(network(SMALL).state_dict(), SMALL, monkeypatch)
    path.write_bytes(path.read_bytes()[:-1])
    message = refusal(f"torchvision:{SMALL}")
    assert str(path) in message and "damaged" in message and "remove it" in message


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("resnet81", "no classification network 'resnet81'; nearest are resnet"),
        ("zzzz", "`evofool targets list torchvision`"),
        ("deeplabv3_resnet50", "no classification network"),
        ("resnet50/IMAGENET1K_V3", "there are IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT, or a file"),
        ("resnet50/", "no weights ''"),
        ("resnet50/weights.h5", "a file that ends in .safetensors"),
        ("vgg16/IMAGENET1K_FEATURES", "there are IMAGENET1K_V1, DEFAULT"),
        ("resnet50/missing.safetensors", "no file missing.safetensors; say torchvision:resnet50"),
    ],
)
def test_names_that_torchvision_does_not_have_are_refused(argument: str, words: str) -> None:
    assert words in refusal(f"torchvision:{argument}")


# ---------------------------------------------------------------------------------------------- torchvision: own files


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
def test_own_file_gives_the_bare_networks_outputs(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"mine{suffix}"
    classes = 3 if suffix == ".safetensors" else 1000
    bare = network(SMALL, num_classes=classes)
    if suffix == ".safetensors":
        save_file(bare.state_dict(), path, {"class_names": json.dumps(["cat", "dog", "eel"])})
    else:
        torch.save(bare.state_dict(), path)
    source = Source(f"torchvision:{SMALL}/{path}")
    target = load_target(source)
    assert target.class_names == (("cat", "dog", "eel") if classes == 3 else imagenet.class_names())
    images, transform = images_for(target), weights_of(SMALL).transforms()
    expected = expected_outputs(target, bare, images, transform.mean, transform.std)
    agree(target.outputs(images), expected)
    path.unlink()
    assert load_target(source).fingerprint() == target.fingerprint()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "heads"), [("googlenet", True), ("googlenet", False), ("inception_v3", True)])
def test_auxiliary_heads_go_and_the_input_is_normalised_as_published(name: str, heads: bool, tmp_path: Path) -> None:
    options = {"num_classes": 2, "transform_input": True, "init_weights": False}
    bare = network(name, aux_logits=True, **options)
    state = bare.state_dict()
    if not heads:
        state = {key: t.clone() for key, t in state.items() if not key.startswith(("aux", "AuxLogits"))}
    save_file(state, tmp_path / "mine.safetensors", {"class_names": '["a", "b"]'})
    target = load_target(f"torchvision:{name}/{tmp_path / 'mine.safetensors'}")
    assert not any(key.lower().startswith("aux") for key in target.module.state_dict())
    images, transform = images_for(target), weights_of(name).transforms()
    expected = expected_outputs(target, bare, images, transform.mean, transform.std)
    agree(target.outputs(images), expected)


class Sentinel:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_files_that_hold_more_or_less_than_weights_are_refused(tmp_path: Path) -> None:
    state = {"fc.weight": torch.zeros(2)}
    cases: dict[str, tuple[Any, str]] = {
        "hostile.pth": ({"fc.weight": Sentinel(tmp_path / "sentinel")}, "cannot be read as weights alone"),
        "checkpoint.pth": ({"state_dict": state, "epoch": 3}, "holds a dict of state_dict, epoch, not the tensors"),
        "empty.pt": ({}, "is missing"),
        "list.pt": ([torch.zeros(2)], "holds list, not the tensors"),
        "other.pth": (state, "weights of another network"),
    }
    for name, (content, words) in cases.items():
        torch.save(content, tmp_path / name)
        message = refusal(f"torchvision:{SMALL}/{tmp_path / name}")
        assert words in message and str(tmp_path / name) in message
    assert not (tmp_path / "sentinel").exists()
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("no weights")
        assert str(tmp_path / name) in refusal(f"torchvision:{SMALL}/{tmp_path / name}")


def test_other_classes_need_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    state = network(SMALL, num_classes=3).state_dict()
    save_file(state, path)
    message = refusal(f"torchvision:{SMALL}/{path}")
    assert (
        "fc.bias is (3,) where the network has (1000,)" in message and '{"class_names": json.dumps(NAMES)}' in message
    )
    for names in ("no json", "3", '["one"]', "[1, 2, 3]"):
        save_file(state, path, {"class_names": names})
        assert "not a JSON list of at least two names" in refusal(f"torchvision:{SMALL}/{path}")
    save_file(state, path, {"class_names": '["a", "b"]'})
    message = refusal(f"torchvision:{SMALL}/{path}")
    assert "fc.bias is (3,) where the network has (2,)" in message and "json.dumps" not in message


# ----------------------------------------------------------------------------------------------------------------- timm


def timm_network(name: str, **options: Any) -> Any:
    timm = pytest.importorskip("timm")
    torch.manual_seed(6)
    return settled(timm.create_model(name, pretrained=False, **options))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit.r160_in1k"])
def test_timm_file_gives_the_bare_networks_outputs(name: str, tmp_path: Path) -> None:
    import timm

    bare = timm_network(name, num_classes=3)
    path = tmp_path / "mine.safetensors"
    save_file(bare.state_dict(), path, {"class_names": '["cat", "dog", "eel"]'})
    source = Source(f"timm:{name}/{path}")
    target = load_target(source)
    config = timm.data.resolve_model_data_config(bare)
    assert (target.family, target.class_names) == ("timm", ("cat", "dog", "eel"))
    assert target.image_size == tuple(config["input_size"][1:])
    assert target.preprocessing.resize == int(config["input_size"][1] / config["crop_pct"])
    assert target.preprocessing.interpolation == config["interpolation"]
    images = images_for(target)
    expected = expected_outputs(target, bare, images, config["mean"], config["std"])
    agree(target.outputs(images), expected)
    path.unlink()
    assert load_target(source).fingerprint() == target.fingerprint()


def test_timm_published_geometry_is_that_of_its_transform(tmp_path: Path) -> None:
    import timm

    bare = timm_network("test_resnet")
    torch.save(bare.state_dict(), tmp_path / "mine.pth")
    photo = Image.fromarray(np.random.default_rng(3).integers(0, 256, (33, 57, 3), dtype=np.uint8)).resize((430, 250))
    expected = timm.data.create_transform(**timm.data.resolve_model_data_config(bare), is_training=False)(photo)
    target = load_target(f"timm:test_resnet/{tmp_path / 'mine.pth'}", geometry="published")
    assert target.class_names == imagenet.class_names()
    torch.testing.assert_close(fed_with(target, photo), expected, rtol=0, atol=1e-4)


def test_timm_published_weights_are_loaded_named_and_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = timm_network("test_resnet", num_classes=3)
    folder = tmp_path / "published"
    folder.mkdir()
    save_file(bare.state_dict(), folder / "model.safetensors")
    config = {"label_names": ["cat", "dog", "eel"], "input_size": [3, 96, 96], "mean": [0.5] * 3, "std": [0.25] * 3}
    description = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": {**config, "num_classes": 3}}
    (folder / "config.json").write_text(json.dumps(description))
    source = Source(f"timm:local-dir:{folder}")
    target = load_target(source)
    assert (target.class_names, target.image_size) == (("cat", "dog", "eel"), (96, 96))
    images = images_for(target)
    expected = expected_outputs(target, bare, images, config["mean"], config["std"])
    agree(target.outputs(images), expected)
    (folder / "model.safetensors").unlink()  # the weights are in the source
    assert load_target(source).fingerprint() == target.fingerprint()
    assert "cannot be loaded or fetched" in refusal(f"timm:local-dir:{folder}")


def test_timm_names_of_classes_come_from_imagenets_lists_or_not_at_all() -> None:
    import timm

    named = {
        classes: timm_networks._classes(timm, timm_network("test_resnet", num_classes=classes))[0] for classes in (7, 0)
    }
    assert named == {7: (), 0: ()}
    many, ids = timm_networks._classes(timm, timm_network("test_resnet", num_classes=21843))
    assert len(many) == len(ids) == 21843 and any("tabby" in name for name in many)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("resnte18", "timm has no network 'resnte18'; nearest are"),
        ("zzzz", "`evofool targets list timm`"),
        ("resnet18.nothing_in1k", "timm has no weights 'nothing_in1k' of resnet18; there are "),
        ("test_vit4", "timm has no published weights of test_vit4; say timm:test_vit4/FILE"),
        ("test_resnet", "timm:test_resnet cannot be loaded or fetched"),
        ("test_resnet.r160_in1k", "timm:test_resnet.r160_in1k/FILE"),
        ("hf-hub:timm/test_resnet.r160_in1k", "cannot be loaded or fetched"),
        ("hf-hub:timm/test_resnet.r160_in1k/missing.pth", "no file missing.pth"),
        ("resnet18/folder/missing.safetensors", "no file folder/missing.safetensors"),
        ("ftp:what", "cannot be loaded or fetched"),
    ],
)
def test_timm_refuses(argument: str, words: str) -> None:
    pytest.importorskip("timm")
    message = refusal(f"timm:{argument}")
    assert words in message and "\n" not in message


def test_timm_file_of_other_classes_needs_names(tmp_path: Path) -> None:
    torch.save(timm_network("test_resnet", num_classes=3).state_dict(), tmp_path / "mine.pth")
    message = refusal(f"timm:test_resnet/{tmp_path / 'mine.pth'}")
    assert "where the network has (1000," in message and "class_names" in message


def test_hub_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    begun = time.monotonic()
    assert "timm:test_resnet/FILE" in refusal("timm:test_resnet")
    assert time.monotonic() - begun < 15
    assert constants.HF_HUB_OFFLINE is False, "as it was"


def test_without_timm_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    assert "pip install 'evofool[timm]'" in refusal("timm:resnet18")
