"""Designs of experiments: which runs they are, and what is refused in a sentence before any is made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Command

from evofool.config.designs import Design, load_design, parse_seeds
from evofool.errors import ConfigError

MODES = {"search.mode": ["map_elites", "single_class", "random"]}
SINE = {"sine": {"with": {}, "without": {"encoding": {"activations": ["sigmoid", "linear"]}}}}
GOOD: dict[str, Any] = {"name": "d", "config": "quickstart", "factors": {**MODES, **SINE}, "seeds": [3, 1]}


def written(folder: Path, **changes: Any) -> Path:
    """A design file: GOOD with changes; None leaves a key out."""
    data = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    path = folder / "design.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def design_of(folder: Path, *overrides: str, **changes: Any) -> Design:
    design = load_design(written(folder, **changes), list(overrides))
    design.trials()
    return design


def test_every_combination_is_a_configuration_with_each_seed(tmp_path: Path) -> None:
    design = design_of(tmp_path, "search.offspring=7", overrides={"search.generations": 5})
    trials = design.trials()
    assert [(t.levels["search.mode"], t.levels["sine"], t.seed) for t in trials[:5]] == [
        ("map_elites", "with", 3),
        ("map_elites", "with", 1),
        ("map_elites", "without", 3),
        ("map_elites", "without", 1),
        ("single_class", "with", 3),
    ]
    assert len(trials) == len({t.run_name for t in trials}) == 3 * 2 * 2
    last = trials[-1].config
    assert (last.search.mode, last.encoding.activations, last.seed) == ("random", ["sigmoid", "linear"], 1)
    assert all((t.config.search.generations, t.config.search.offspring) == (5, 7) for t in trials)
    assert str(design.folder) == "runs/d" and last.storage.path == "runs/d"

    one_by_one = design_of(tmp_path, layout="one_at_a_time")
    assert [tuple(levels.values()) for levels in one_by_one.combinations()] == [
        ("map_elites", "with"),
        ("single_class", "with"),
        ("random", "with"),
        ("map_elites", "without"),
    ]


def test_a_run_keeps_its_name_when_the_design_grows(tmp_path: Path) -> None:
    """So its folder is found again; what levels set has a name of its own, even if it changes no archive."""
    before = {t.run_name for t in design_of(tmp_path).trials()}
    more = {**GOOD["factors"], "commits": {"often": {"storage.commit_every": 1}, "as ever": {}}}
    after = {t.run_name for t in design_of(tmp_path, factors=more, seeds="1-3").trials()}
    assert len(after) == 6 * 2 * 3 and before < after
    longer = {t.run_name for t in design_of(tmp_path, overrides={"search.generations": 9}, seeds="1-3").trials()}
    assert before < longer


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": None}, "seeds: missing"),
        ({"seeds": []}, "seeds: missing, or empty"),
        ({"seeds": [1, 2, 1]}, "seeds: 1 is there twice"),
        ({"seeds": "1-x"}, "seeds: '1-x' is not a list of seeds"),
        ({"seeds": [True]}, "is not a list of seeds"),
        ({"factors": {}}, "factors: missing, or empty"),
        ({"factors": {"f": {}}}, "factors: f: a factor has two levels or more"),
        ({"factors": {"f": {"one": {}}}}, "factors: f: a factor has two levels or more"),
        ({"factors": {"sine": ["with", "without"]}}, "factors: sine: a list is of values of a key"),
        ({"factors": {"search.mod": ["random"]}}, r"this is none: did you mean search.mode\?"),
        ({"factors": {"search.mode": ["map_elites", "randm"]}}, "at search.mode randm: search.mode='randm'.*'random'"),
        ({"factors": {"search.mode": ["random", "random"]}}, "the level random is there twice"),
        ({"factors": {"f": {"a": {}, "b": {"search.mod": "x"}}}}, r"at f b: .*unknown key; did you mean search.mode\?"),
        ({"factors": {"f": {"a": {}, "b": {"search.mode": "map_elites"}}}}, "f: a and b are the same configuration"),
        ({"factors": {"f": {"a": {}, True: {"seed": 2}}}}, "True is no name"),
        ({"factors": {"f": {"a": {}, "b": {"seed": 2}}}}, "seed: the design says this itself"),
        ({"factors": {"f": {"a": {}, "b": "x"}}}, "f: b: a mapping from keys to values"),
        (
            {"factors": {**SINE, "few": {"no": {}, "yes ": {"encoding.activations": ["sine"]}}}},
            "sine and few both set encoding.activations",
        ),
        ({"overrides": {"name": "x"}}, "overrides: name: the design says this itself"),
        ({"overrides": {"search.generation": 5}}, r"unknown key; did you mean search.generations\?"),
        ({"overrides": {"search.max_time": 5.0}}, "search.max_time: runs that stop by the clock"),
        ({"overrides": {"search.generations": None}}, "a run would never end"),
        ({"name": "../up"}, "name: '../up' is not"),
        ({"layout": "latin"}, "layout: 'latin' is not full_factorial or one_at_a_time"),
        ({"factor": {}}, r"factor: unknown key of a design; did you mean factors\?"),
        ({"config": "quickstar"}, "quickstar: neither a file here nor a preset"),
        ({"overrides": {"storage.path": "s3://bucket"}}, "a folder of this machine"),
        ({"seeds": "1-9999"}, "over 10000 runs"),
    ],
)
def test_what_is_no_design_is_refused_in_a_sentence(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        design_of(tmp_path, **changes)
    assert refused.value.message.count("\n") == 0 and refused.value.message.endswith((".", "?", ")"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "1-2"], "--seeds: .*has its own seeds"),
        (["seed=2"], "seed: .* itself says this of each of its runs"),
        (["name=x"], "name: .* itself says this"),
        (["search.mode=random"], "search.mode: .* itself says this"),
        (["quickstart"], "quickstart: .* names its configuration itself"),
        (["--resume", "never"], "--resume: a design goes on"),
    ],
)
def test_what_contradicts_a_design_on_the_command_line_is_refused(
    tmp_path: Path, command: Command, arguments: list[str], words: str
) -> None:
    code, _, said = command("run", "--design", written(tmp_path), *arguments)
    assert code == 2 and len(said.splitlines()) == 1
    assert re.search(words, said), said


def test_the_examples_are_designs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    examples = {path.stem: load_design(path) for path in (ROOT / "configs" / "designs").iterdir()}
    assert {name: len(design.trials()) for name, design in examples.items()} == {"controls": 60, "cppn": 30}
    assert all(design.name == name for name, design in examples.items())


def test_a_run_needs_a_config_or_a_design(tmp_path: Path, command: Command) -> None:
    code, _, said = command("run")
    assert code == 2 and "CONFIG" in said and "--design" in said
    code, _, said = command("run", "--design", tmp_path / "none.yaml")
    assert code == 2 and "no such design" in said


def test_seeds_are_numbers_and_ranges() -> None:
    assert parse_seeds("1-3,8") == [1, 2, 3, 8]
    for wrong in ("", "3-1", "a", "1,,2"):
        with pytest.raises(ValueError, match=r"."):
            parse_seeds(wrong)
