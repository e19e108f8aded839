"""What every family of networks offers: each row of the table FAMILIES."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from evofool.base.registry import FAMILIES, load
from evofool.base.source import Source
from evofool.config import load_config
from evofool.errors import ConfigError
from evofool.machines import launch
from evofool.targets.families import family_of, load_target, unfolded
from evofool.targets.family import Family
from evofool.targets.numerics import default_numerics
from evofool.targets.target import Target
from evofool.targets.zoo.weights import described

ROOT = Path(__file__).parents[2]
NAMES = ("cat", "dog", "eel")
PYTHON = """
import torch, evofool

def build():
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3), torch.nn.Softmax(1))
    preprocessing = evofool.Preprocessing((2, 2), 3, (0.0,) * 3, (255.0,) * 3)
    return evofool.Target(module, preprocessing, ("cat", "dog", "eel"), output="probabilities")
"""


def untrained(make: Callable[..., torch.nn.Module], **options: Any) -> torch.nn.Module:
    """A network whose batch normalisations do something."""
    torch.manual_seed(3)
    module = make(**options)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.5, 2)
    return module


def torchvision_file(folder: Path) -> str:
    from torchvision import models

    module = untrained(models.squeezenet1_1, num_classes=3, weights=None)
    save_file(module.state_dict(), folder / "mine.safetensors", {"class_names": json.dumps(NAMES)})
    return f"torchvision:squeezenet1_1/{folder / 'mine.safetensors'}"


def timm_file(folder: Path) -> str:
    import timm

    module = untrained(timm.create_model, model_name="test_resnet", num_classes=3)
    save_file(module.state_dict(), folder / "mine.safetensors", {"class_names": json.dumps(NAMES)})
    return f"timm:test_resnet/{folder / 'mine.safetensors'}"


def trained(name: str, folder: Path, file: str = "mine") -> str:
    from evofool.targets.training.train import NETWORKS

    facts = {"format": f"evofool.{name}.1", "class_names": json.dumps(NAMES)}
    path = folder / f"{file}.safetensors"
    save_file(untrained(NETWORKS[name], classes=3).state_dict(), path, facts)
    return f"{name}:{path}"


def head(folder: Path) -> str:
    """Over a LeNet, whose file it needs as well."""
    base = trained("lenet", folder, "base")
    facts = {"format": "evofool.head.1", "head": "logistic", "class_names": json.dumps(NAMES)}
    facts |= {"base": base, "base_fingerprint": load_target(base).fingerprint()}
    save_file(
        untrained(torch.nn.Linear, in_features=500, out_features=3).state_dict(), folder / "mine.safetensors", facts
    )
    return f"head:{folder / 'mine.safetensors'}"


def python(folder: Path) -> str:
    (folder / "net.py").write_text(PYTHON)
    return f"python:{folder / 'net.py'}:build"


# A network of a family, in files of a folder. Of a family without a row here: weights/NAME.safetensors if that is
# there, else the smallest of its catalogue that is on this machine.
EXAMPLES: dict[str, Callable[[Path], str]] = {
    **{name: functools.partial(trained, name) for name in ("lenet", "mlp", "resnet", "bagnet")},
    "head": head,
    "torchvision": torchvision_file,
    "timm": timm_file,
    "python": python,
}


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def family(name: str) -> Family:
    return family_of(name)


@pytest.fixture
def source(name: str, family: Family, tmp_path: Path) -> Source:
    if name in EXAMPLES:
        return Source(EXAMPLES[name](tmp_path), allow_code=True)
    if (file := ROOT / "weights" / f"{name}.safetensors").is_file():
        return Source(f"{name}:{file}")
    on_disk = [entry for entry in family.catalogue() if entry.get("on_disk")] if family.catalogue else []
    if not on_disk:
        pytest.skip(f"no network of {name} is here: write weights/{name}.safetensors, or add a row to EXAMPLES")
    return Source(f"{name}:{min(on_disk, key=lambda entry: entry['image_size'])['name']}")


def images_for(target: Target, n: int = 3) -> torch.Tensor:
    height, width = target.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (n, height, width, target.channels), dtype=np.uint8)
    return torch.from_numpy(pixels)


def outputs_of(target: Target) -> np.ndarray:
    with torch.inference_mode():
        return target.outputs(images_for(target))


def refusal(spec: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_target(spec, allow_code=True)
    assert "\n" not in caught.value.message and caught.value.message.endswith(".")
    return caught.value.message


# ------------------------------------------------------------------------------------------------------- what it says


def test_its_form_begins_with_its_name_and_its_extra_is_there(name: str, family: Family) -> None:
    assert all(form.startswith(f"{name}:") for form in family.form.split(" or "))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not family.extra or family.extra in extras


def test_its_numerics_are_those_of_its_networks(name: str, family: Family) -> None:
    for device in ("cpu", "cuda"):
        numerics = default_numerics(device, name)
        assert numerics.device == device and numerics.chunk % numerics.micro_batch == 0
        assert numerics == family.numerics.get(device, default_numerics(device, "any"))


@pytest.mark.slow
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    name: str, family: Family, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "evofool.targets.family.find_spec", lambda package: None if package == family.package else find(package)
    )
    install = f"pip install 'evofool[{family.extra}]'" if family.extra else f"pip install {family.package}"
    message = refusal(f"{name}:whatever")
    assert message.startswith("target.spec: ") and message.endswith(f"{install}.")
    code, _, said = command("targets", "list", name)
    assert code == 2 and install in said
    code, listed, _ = command("targets", "list", "--json")
    entry = next(entry for entry in json.loads(listed) if entry["kind"] == name)
    assert code == 0 and (entry["installed"], entry["state"], entry["networks"]) == (False, install, None)


@pytest.mark.slow
def test_its_file_is_imported_without_its_package(name: str, family: Family) -> None:
    if not family.extra:  # evofool itself needs the package
        return
    code = f"import sys; sys.modules[{family.package!r}] = None; import {FAMILIES[name].partition(':')[0]}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_argument_that_names_nothing_is_refused_in_a_sentence(name: str) -> None:
    assert "no such network" in refusal(f"{name}:no such network")
    assert name in refusal(f"{name}:")


def test_its_catalogue_names_networks_that_load(name: str, family: Family, command: Any) -> None:
    code, listed, _ = command("targets", "list", name, "--json")
    assert code == 0
    if family.catalogue is None:
        assert json.loads(listed) == []
        return
    entries = family.catalogue()
    assert json.loads(listed) == entries and entries
    assert all(entry["name"] and entry["image_size"] > 0 for entry in entries)
    here = [entry for entry in entries if entry.get("on_disk")]
    if here:
        entry = min(here, key=lambda entry: entry["image_size"])
        assert load_target(f"{name}:{entry['name']}").image_size[1] == entry["image_size"]


# ------------------------------------------------------------------------------------------------------- what it loads


def test_its_network_gives_what_it_says_and_the_same_every_time(source: Source, one_thread: None) -> None:
    target = load_target(source)
    outputs = outputs_of(target)
    assert outputs.shape == (3, len(target.class_names)) and target.spec == source.spec
    target.check_outputs(outputs)
    assert np.ptp(outputs, axis=0).max() > 0, "it looks at the images"
    again = load_target(Source(source.spec, allow_code=True))
    assert again.fingerprint() == target.fingerprint()
    np.testing.assert_array_equal(outputs_of(again), outputs)


def test_the_files_it_names_are_those_that_it_reads_and_no_others(
    name: str, family: Family, source: Source, tmp_path: Path
) -> None:
    fingerprint = load_target(source).fingerprint()
    named = family.files(source.argument)
    assert named == [file for file in source.files if Path(file).exists()]
    config = load_config({"target": {"spec": source.spec}})
    assert launch.named_files(config) == [Path(file) for file in named]
    for file in named:
        if Path(file).is_relative_to(tmp_path):
            Path(file).unlink()  # as on another machine, where they came with the source
    assert load_target(source).fingerprint() == fingerprint
    assert family.files("no such network") in ([], ["no such network"])


def test_unfolded_it_gives_the_same_outputs(family: Family, source: Source, one_thread: None) -> None:
    target, whole = load_target(source), unfolded(source)
    if family.fold is None:
        assert whole is None
        return
    assert whole is not None
    np.testing.assert_allclose(
        outputs_of(replace(target, module=whole)), outputs_of(target), rtol=1e-3, atol=1e-3, err_msg=source.spec
    )


def test_metadata_of_its_file_take_the_place_of_its_defaults(
    name: str, family: Family, source: Source, tmp_path: Path
) -> None:
    named = family.files(source.argument)
    if not named or not named[0].endswith(".safetensors"):
        return
    before, file = load_target(source), tmp_path / "described.safetensors"
    channels, ids = before.channels, ["n02123045", None, *["n02084071"] * len(before.class_names)]
    ids = ids[: len(before.class_names)]
    facts = metadata_of(Path(named[0])) | {
        "image_size": json.dumps(list(before.preprocessing.image_size)),
        "mean": json.dumps([11.5] * channels),
        "std": json.dumps([22] * channels),
        "class_names": json.dumps(list(before.class_names)),
        "imagenet_ids": json.dumps(ids),
    }
    spec = source.spec.replace(named[0], str(file))

    def written(**changes: str) -> str:
        save_file(load_file(named[0]), file, {**facts, **changes})
        return spec

    target = load_target(written())
    assert target.preprocessing == replace(before.preprocessing, mean=(11.5,) * channels, std=(22.0,) * channels)
    assert (target.class_names, target.imagenet_ids) == (before.class_names, tuple(ids))
    assert load_target(written(imagenet_ids="[]")).fingerprint() == target.fingerprint() != before.fingerprint()
    for key, value in {
        "image_size": "[0, 28]",
        "mean": '["grey"]',
        "std": "{}",
        "class_names": '["cat"]',
        "imagenet_ids": '["tabby"]',
    }.items():
        message = refusal(written(**{key: value}))
        assert str(file) in message and key in message
    assert str(file) in refusal(written(std=json.dumps([0] * channels)))
    assert str(file) in refusal(written(imagenet_ids='["n02123045"]'))


def metadata_of(path: Path) -> dict[str, str]:
    from evofool.targets.zoo.weights import metadata

    return dict(metadata(path.read_bytes()))


# ---------------------------------------------------------------------------------------------------------- metadata


@pytest.mark.parametrize("network", [pytest.param("torchvision", marks=pytest.mark.slow), "timm"])
def test_a_network_for_another_size_of_image_says_so_in_its_metadata(network: str, tmp_path: Path) -> None:
    if network == "timm":
        import timm

        module = untrained(timm.create_model, model_name="test_vit", num_classes=3, img_size=(96, 96))
        spec, size = f"timm:test_vit/{tmp_path / 'a.safetensors'}", 96
    else:
        from torchvision import models

        module = untrained(models.vit_b_32, weights=None, num_classes=3, image_size=64)
        spec, size = f"torchvision:vit_b_32/{tmp_path / 'a.safetensors'}", 64
    facts = {"class_names": json.dumps(NAMES), "image_size": f"[{size}, {size}]"}
    save_file(module.state_dict(), tmp_path / "a.safetensors", facts)
    target = load_target(spec)
    assert target.image_size == (size, size) and outputs_of(target).shape == (3, 3)
    with pytest.raises(ConfigError, match="has no published geometry"):
        load_target(spec, geometry="published")


def test_a_file_that_alone_says_what_its_network_is_fed(tmp_path: Path) -> None:
    def said(**facts: str) -> Any:
        save_file({"weight": torch.zeros(2)}, tmp_path / "a.safetensors", facts)
        return described((tmp_path / "a.safetensors").read_bytes(), "a.safetensors")

    fed = said(image_size="[4, 6]", mean="[1, 2, 3]", std="[4, 5, 6.5]").preprocessing()
    assert (fed.image_size, fed.channels, fed.mean, fed.std) == ((4, 6), 3, (1, 2, 3), (4, 5, 6.5))
    with pytest.raises(ConfigError, match=r"a\.safetensors: its metadata lack mean, std; give each as JSON"):
        said(image_size="[4, 6]").preprocessing()
    with pytest.raises(ConfigError, match=r"a\.safetensors: its metadata do not fit: .* each of 1 channels"):
        said(image_size="[4, 6]", mean="[1]", std="[4, 5, 6]").preprocessing()


def test_every_family_is_a_record_at_the_end_of_its_file() -> None:
    for place in FAMILIES.values():
        assert isinstance(load(place), Family)
