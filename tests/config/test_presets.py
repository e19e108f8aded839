"""Presets: configurations that go by name from any folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT, Command

from evofool.cli.config.presets import WEIGHTS
from evofool.config import fingerprint, load_config, preset_about, preset_named, preset_names, preset_text
from evofool.errors import ConfigError


def refusal(source: str | Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(source)
    return caught.value.message


def test_a_preset_goes_by_its_name_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert preset_names() == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    for name in preset_names():
        assert load_config(name) == load_config(Path(name)) == load_config(ROOT / "configs" / f"{name}.yaml")
    assert load_config("quickstart", ["seed=7"]).seed == 7


def test_what_the_presets_search_for_changes_only_on_purpose(request: pytest.FixtureRequest) -> None:
    """Another fingerprint is another archive: such a commit, and CHANGELOG.md, say result-changing."""
    golden = ROOT / "tests" / "golden" / "presets.json"
    found = {name: fingerprint(load_config(name)) for name in preset_names()}
    found["what a configuration leaves out"] = fingerprint(load_config({"target": {"spec": "lenet:x"}}))
    if request.config.getoption("--bless"):
        golden.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(golden.read_text())
    torch_sine = [name for name in preset_names() if load_config(name).encoding.arithmetic == "torch"]
    assert torch_sine == [name for name in preset_names() if name.startswith("nguyen2015")]


def test_a_file_always_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mnist_cppn").mkdir()  # a folder is no file
    assert preset_named("mnist_cppn") == "mnist_cppn"
    Path("quickstart").write_text("{seed: 9, target: {spec: x}}")
    assert load_config("quickstart").seed == 9 and preset_named("quickstart") is None
    assert preset_named(tmp_path / "mnist_cppn") is None and preset_named({"seed": 1}) is None


def test_what_is_neither_is_said_with_what_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = refusal("quickstrat")
    assert said.startswith("quickstrat: neither a file here nor a preset; did you mean quickstart?")
    assert "`evofool config presets`" in said
    assert all(name in refusal("zzz") for name in preset_names())
    assert "goes by its name alone: quickstart." in refusal("configs/quickstart.yaml")
    assert "no such config file" in refusal("quickstrat.yaml") and "no such config file" in refusal("a/quickstrat")


def test_each_preset_says_what_it_is_in_its_first_line() -> None:
    said = [preset_about(name) for name in preset_names()]
    assert len(set(said)) == len(said)
    for name, text in zip(preset_names(), said):
        assert text.endswith(".") and len(text) > 40, name
        config = load_config(name)
        assert ("CPPN" in text) == (config.encoding.kind == "cppn"), name
        assert config.target.spec.startswith("lenet") == ("LeNet" in text), name
        assert config.target.spec.startswith("torchvision:alexnet") == ("AlexNet" in text), name
        if "generations of" in text:
            generations, _, offspring = text.replace(",", "").replace(".", "").partition(" generations of ")
            assert int(generations.split()[-1]) == config.search.generations, name
            assert int(offspring.split()[0]) == config.search.offspring, name


def test_the_command_lists_them_and_prints_one(command: Command) -> None:
    code, out, _ = command("config", "presets")
    assert code == 0 and all(f"{name} " in out and preset_about(name) in out for name in preset_names())
    listed = json.loads(command("config", "presets", "--json")[1])
    assert [row["preset"] for row in listed] == preset_names()
    assert {row["network"].partition(":")[0] for row in listed} == WEIGHTS.keys()
    assert command("config", "presets", "quickstart")[1] == preset_text("quickstart")
    assert json.loads(command("config", "presets", "quickstart", "--json")[1])["text"] == preset_text("quickstart")
    code, _, err = command("config", "presets", "quickstar")
    assert code == 2 and "quickstar: is no preset; did you mean quickstart?" in err
