"""What a newcomer reads: every figure with its meaning, nothing twice, nothing late, and an error of the right kind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

import evofool
from evofool.base import registry
from evofool.config import load_config
from evofool.errors import ClassNotFound, ConfigError, RunNotFound
from evofool.evaluate.inline import open_inline
from evofool.runs.observers.progress import Lines, LiveTable

pytestmark = pytest.mark.slow  # whole runs: `make check` leaves them to `make test`


def settings(lenet_file: Path, name: str, **keys: object) -> evofool.Config:
    search = {"offspring": 40, "initial": 40, "generations": 5}
    target, evaluation = {"spec": f"lenet:{lenet_file}"}, {"pool": "inline"}
    return load_config({"name": name, "target": target, "search": search, "evaluation": evaluation, **keys})


@pytest.fixture(scope="module")
def stored(lenet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, which tests copy if they change them."""
    place = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        evofool.run(settings(lenet_file, "mnist-{seed}", seed=seed), out=place / f"mnist-{seed}")
    return place


@pytest.fixture
def runs(stored: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the two, which would be evaluated over Ray."""
    places = shutil.copytree(stored / "mnist-1", tmp_path / "a"), shutil.copytree(stored / "mnist-2", tmp_path / "b")
    for place in places:
        store = evofool.open_run(place).store
        evaluation = store.config.evaluation.model_copy(update={"pool": "ray"})
        store.update(config=store.config.model_copy(update={"evaluation": evaluation}))
    return places


# ------------------------------------------------------------------------------------------------------------ figures


def test_status_has_a_line_for_each_node_and_no_digits_that_nobody_reads(
    command: Command, runs: tuple[Path, Path]
) -> None:
    store = evofool.open_run(runs[0]).store
    nodes = [{"node": "a7c21a558fd1a857", "host": "one", "chunks": 12}, {"node": "b8", "host": "two", "chunks": 3}]
    store.update(sessions=[{**store.provenance["sessions"][-1], "nodes": nodes}])
    out = command("status", runs[0])[1]
    assert "one (a7c21a55), 12 chunks" in out and "two (b8), 3 chunks" in out
    assert not re.search(r"[\[{']|\.0*[1-9]\d{6}|None", out), out


def test_individuals_are_called_as_in_the_tables(command: Command, stored: Path) -> None:
    run = evofool.open_run(stored / "mnist-1")
    shown = re.findall(r"^\d .* (\w+)$", command("elites", run.path)[1], re.MULTILINE)
    assert shown == [str(identity) for identity in run.elites()["individual_id"]]
    lineage = run.lineage(int(run.elite("3")["individual_id"]))
    out = command("show", run.path, "3")[1]
    assert all(re.search(rf"\b{identity}\b", out) for identity in lineage["individual_id"])


def test_as_many_ancestors_are_listed_as_are_counted(command: Command, stored: Path) -> None:
    run = evofool.open_run(stored / "mnist-1")
    counted = set()
    for name in run.elites()["class_name"]:
        out = command("show", run.path, name)[1]
        head, _, rows = out.partition("newest first:\n")
        count = len(run.lineage(int(run.elite(name)["individual_id"]))) - 1
        said = f"{count} ancestor{'s' * (count > 1)}," if count else "no ancestors"
        assert said in head
        assert len(re.findall(r"^ *\d+ ", rows, re.MULTILINE)) == min(count, 20)
        counted.add(count)
    assert len(counted) > 1
    assert not re.search(r"\.0*[1-9]\d{6}", out)


def test_show_says_what_it_wrote(command: Command, stored: Path, tmp_path: Path) -> None:
    err = command("show", stored / "mnist-1", "3", "--png", tmp_path / "three.png", "--size", 40)[2]
    assert err == f"{tmp_path / 'three.png'}: 40 x 40 pixels\n"


# ------------------------------------------------------------------------------------------------------- nothing twice


def test_what_next_comes_once_after_several_seeds(
    command: Command, lenet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evofool.config import to_yaml

    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(to_yaml(settings(lenet_file, "s-{seed}")))
    out = command("run", "c.yaml", "search.generations=1", "--seeds", "1-2")[1]
    assert out.count("What next") == 1 and "evofool study compare runs/s-1 runs/s-2" in out


def test_groups_are_called_by_their_name_and_said_once(command: Command, stored: Path, tmp_path: Path) -> None:
    out = command("study", "compare", stored / "mnist-1", stored / "mnist-2", "--out", tmp_path)[1]
    assert "{seed}" not in out
    table = out.partition("group")[2].partition("One group")[0]
    assert len(re.findall(r"^mnist ", table, re.MULTILINE)) == 1 and "minimum_at" in table


def test_a_test_stands_beside_the_groups_that_it_is_of(
    command: Command, runs: tuple[Path, Path], lenet_file: Path, tmp_path: Path
) -> None:
    evofool.run(settings(lenet_file, "other", seed=3, search={"generations": 1}), out=tmp_path / "c")
    out = command("study", "compare", *runs, tmp_path / "c", "--out", tmp_path / "studies")[1]
    assert re.search(r"^mnist +other +p_median ", out, re.MULTILINE)


def test_groups_of_one_name_stay_apart() -> None:
    from evofool.studies.compare import _shown

    groups = ["mnist_cppn-{seed} (4281d1)", "mnist_cppn-{seed} (77aa00)", "{seed}_direct (123456)", "{seed} (0a0a0a)"]
    shown = _shown(groups)
    assert list(shown.values()) == ["mnist_cppn (4281d1)", "mnist_cppn (77aa00)", "direct", "{seed} (0a0a0a)"]


# --------------------------------------------------------------------------------------------------------- nothing late


SPECS = {
    "lennet:x": "did you mean lenet:",
    "lenet:nowhere.safetensors": "no file nowhere.safetensors",
    "efficientnet-lite:7": "is unknown; there are",
    "python:nowhere.py:build": "add --allow-code",
    "python:nowhere.py": "is not python:FILE.py:callable",
}
COMMANDS = ("run", "cluster plan", "cluster tune", "cluster bench")
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["ray"] = None  # importing them is an error
from evofool import cli
for line in sys.argv[1:]:
    sys.argv = ["evofool", *line.split()]
    try:
        cli.main()
    except SystemExit as end:
        print(end.code, file=sys.stderr)
"""


def test_what_is_wrong_with_a_spec_is_said_before_torch_loads(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    lines = {f"run c.yaml target.spec={spec}": words for spec, words in SPECS.items()}
    lines |= {f"{name} c.yaml target.spec=lennet:x": SPECS["lennet:x"] for name in COMMANDS}
    lines |= {"targets check lenet:nowhere": "no file nowhere"}
    lines |= {
        "study transfer r --to lennet:x": "--to: 'lennet:x'",
        "study score p --target lenet:no": "--target: no file",
    }
    lines |= {"run c.yaml --allow-code target.spec=python:nowhere.py:build": "no file nowhere.py"}
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *lines], capture_output=True, text=True, cwd=tmp_path
    ).stderr.splitlines()
    assert said[1::2] == ["2"] * len(lines), said
    for line, words, text in zip(lines, lines.values(), said[::2]):
        assert words in text, line


def opens_inline(*arguments: Any, **options: Any) -> AbstractContextManager[Any]:
    return open_inline(*arguments, **options)


def refuses(*arguments: Any, **options: Any) -> AbstractContextManager[Any]:
    raise ConfigError("Ray was asked for")


@pytest.mark.parametrize("progress", [Lines, LiveTable])
def test_a_start_of_ray_is_announced(
    progress: Any,
    lenet_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(registry.POOLS, "ray", f"{__name__}:opens_inline")
    search = {"offspring": 5, "initial": 5, "generations": 1}
    config = settings(lenet_file, "r", evaluation={"pool": "ray"}, search=search)
    evofool.run(config, out=tmp_path / "run", observers=[progress()])
    announced, _, rest = capsys.readouterr().err.partition("new run")
    assert "starting evaluators over Ray" in announced and rest
    evofool.resume(tmp_path / "run", observers=[progress()])
    evofool.resume(tmp_path / "run", ["search.generations=2", "evaluation.pool=inline"], observers=[progress()])
    assert "starting" not in capsys.readouterr().err


def test_a_few_images_are_merged_without_starting_ray(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.POOLS, "ray", f"{__name__}:refuses")
    merged = evofool.merge(runs, tmp_path / "both")
    assert merged.config.evaluation.pool == "ray"  # of the run itself, when it goes on
    assert len(merged.elites()) == 10
    with pytest.raises(ConfigError, match="Ray was asked for"):
        evofool.merge(runs, tmp_path / "more", pool="ray")
    with pytest.raises(ConfigError, match="Ray was asked for"):
        evofool.merge(runs, tmp_path / "more", address="local")
    with pytest.raises(ConfigError, match="there are inline, ray"):
        evofool.merge(runs, tmp_path / "more", pool="dask")
    monkeypatch.setattr("evofool.runs.runner.FEW", 19)
    with pytest.raises(ConfigError, match="Ray was asked for"):
        evofool.merge(runs, tmp_path / "more")


# -------------------------------------------------------------------------------------------------------------- errors


def test_what_is_not_there_is_an_error_of_its_own(stored: Path, lenet_file: Path, tmp_path: Path) -> None:
    run = evofool.open_run(stored / "mnist-1")
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(RunNotFound):
            evofool.open_run(path)
    with pytest.raises(RunNotFound):
        evofool.run(settings(lenet_file, "x"), out=tmp_path / "x", resume="must")
    for ask in (lambda: run.elite("eleven"), lambda: run.image(11)):
        with pytest.raises(ClassNotFound):
            ask()
    with pytest.raises(ClassNotFound):
        evofool.load_target(f"lenet:{lenet_file}").class_indices(["eleven"])
    assert RunNotFound.exit_code == ClassNotFound.exit_code == ConfigError.exit_code == 2
