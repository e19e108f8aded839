"""A preset's LeNet is trained where it is missing, and no other network is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Command

import evofool
from evofool.config import load_config
from evofool.errors import ConfigError
from evofool.targets.training import datasets, provision, train
from evofool.targets.training.datasets import LabelledImages
from evofool.targets.zoo import lenet

SMALL = ["evaluation.pool=inline", "search.generations=2", "search.offspring=20", "search.initial=20"]
WEIGHTS = Path("weights/lenet.safetensors")


def digits(name: str, seed: int) -> LabelledImages:
    """In place of mnist-5k: ten classes, 128 images."""
    assert (name, seed) == ("mnist-5k", 1)
    labels, generator = np.arange(128) % 10, np.random.default_rng(seed)
    images = generator.integers(0, 255, (128, 28, 28), dtype=np.uint8)
    part = images, labels, np.arange(128)
    return LabelledImages("mnist-5k", tuple("0123456789"), *part, *part)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder; training takes a moment, on images of no digits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "EPOCHS", 1)
    monkeypatch.setattr(datasets, "load_dataset", digits)
    monkeypatch.setattr(provision, "find_spec", lambda package: package)


@pytest.mark.slow
def test_a_run_by_name_is_that_of_the_file_with_a_network_trained_before(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = command("run", "quickstart", *SMALL)
    said = "weights/lenet.safetensors is missing; training it on mnist-5k first, as `evofool targets train lenet "
    assert code == 0 and err.startswith(said) and err.count("missing") == 1
    trained = WEIGHTS.read_bytes()
    assert [path.name for path in Path("weights").iterdir()] == [WEIGHTS.name]
    by_name = evofool.open_run("runs/quickstart")

    by_file = evofool.run(ROOT / "configs" / "quickstart.yaml", [*SMALL, "storage.path=others"])
    assert by_name.archive_hash == by_file.archive_hash
    assert evofool.run("quickstart", SMALL).path == Path("runs/quickstart")  # nothing to do, and nothing to train
    assert capsys.readouterr().err == ""
    WEIGHTS.unlink()
    assert evofool.run("quickstart", [*SMALL, "search.generations=3"]).archive_hash  # the same network, so it goes on
    assert capsys.readouterr().err.startswith(said) and WEIGHTS.read_bytes() == trained


def test_only_what_is_a_presets_own_is_trained() -> None:
    def file(source: Any, *overrides: str) -> Path | None:
        return provision.to_be_trained(source, load_config(source, list(overrides)))

    assert file("mnist_direct", "seed=3") == file(Path("quickstart")) == WEIGHTS
    assert file("quickstart", "target.spec=lenet:weights/other.safetensors") is None
    assert file("imagenet_cppn") is None and file("imagenet_cppn", f"target.spec=lenet:{WEIGHTS}") is None
    assert file(ROOT / "configs" / "quickstart.yaml") is None and file(load_config("quickstart")) is None
    WEIGHTS.parent.mkdir()
    WEIGHTS.touch()
    assert file("quickstart") is None
    with pytest.raises(ConfigError, match="make one with `evofool targets train lenet"):
        evofool.run(ROOT / "configs" / "quickstart.yaml", ["target.spec=lenet:none.safetensors"])


def test_without_the_images_nothing_is_begun(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provision, "find_spec", lambda package: find_spec("nothing_of_this_name"))
    for words in (("run",), ("cluster", "plan"), ("cluster", "tune"), ("cluster", "bench")):
        code, _, err = command(*words, "quickstart", *SMALL)
        assert code == 2 and err.count("\n") == 1, err
        assert f"{WEIGHTS} is missing" in err and "pip install 'evofool[mnist5k]'" in err
    code, out, _ = command("cluster", "doctor", "quickstart")
    assert code == 1 and "pip install 'evofool[mnist5k]'" in out
    with pytest.raises(ConfigError, match="mnist5k"):
        evofool.run("quickstart", SMALL)
    assert list(Path().iterdir()) == []


def test_doctor_says_that_it_will_be_trained_and_leaves_it(command: Command) -> None:
    out = command("cluster", "doctor", "quickstart")[1]
    assert f"{WEIGHTS} is missing; `evofool run quickstart` trains it first" in out and not WEIGHTS.exists()


def test_two_at_once_both_end_with_the_whole_file(monkeypatch: pytest.MonkeyPatch) -> None:
    both, read = threading.Barrier(2), []
    write: Callable[..., int] = Path.write_bytes

    def slowly(path: Path, data: bytes) -> int:
        """Both have begun to write before either has ended."""
        write(path, data[:100])
        both.wait(60)
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", slowly)
    monkeypatch.setattr(train, "_train", lambda *arguments: lenet.network())

    def one() -> None:
        provision.provide("quickstart", load_config("quickstart"), lambda text: None)
        read.append(len(WEIGHTS.read_bytes()))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 2 and read[0] == read[1] > 1_000_000
    assert [path.name for path in WEIGHTS.parent.iterdir()] == [WEIGHTS.name]
