"""What users bring of their own: objectives, activations, operators (also DEAP's); and the built-in objectives."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import evofool
from evofool.archive.objectives import MARGIN, TOP1_REQUIRED, Readings
from evofool.archive.scores import log_odds
from evofool.base.registry import OBJECTIVES
from evofool.base.source import Source
from evofool.base.usercode import load_callable
from evofool.config import Config, load_config
from evofool.encoding import variation
from evofool.encoding.cppn import activations
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import Graphs
from evofool.encoding.drawing import reference, render
from evofool.encoding.kinds import make_encoding
from evofool.errors import ConfigError, IncompatibleRun, InvalidGenome

pytestmark = pytest.mark.slow  # `make check` leaves them to `make test`

MINE = """
import numpy as np
import evofool

def swirl(p, xp):
    return xp.sin(p * xp.abs(p))

def wide(p, xp):
    return xp.concatenate([p, p])

def numpy_only(p, xp):
    return np.sin(np.asarray(p)).astype(np.float64)

def second_best(readings):
    odds = readings.log_odds[:, readings.classes]
    order = np.sort(readings.log_odds, axis=1)
    return np.where(odds == order[:, -2:-1], odds, -np.inf)

def doubled(readings):
    return 2 * readings.log_odds[:, readings.classes]

def too_few(readings):
    return readings.log_odds[:, 0]

def blackout(seed, generation, genomes):
    changed = evofool.rng.uniforms(seed, "blackout", generation, (len(genomes),)) < 0.5
    return np.where(changed[:, None, None, None], 0.5 * genomes, genomes), changed

def first_elite(seed, generation, archive, count):
    elites = archive.elites[archive.filled]
    return np.full((count, 2), elites[0])

def nobody(seed, generation, archive, count):
    return np.full((count, 2), 7)

def swap(seed, generation, first, second):
    return second, np.ones(len(first), dtype=bool)

def short(seed, generation, genomes):
    return genomes[:3], np.ones(3, dtype=bool)

def broken(*arguments):
    raise ValueError("no luck")

from deap import tools
gaussian = evofool.deap_mutation(tools.mutGaussian, mu=0.0, sigma=0.2, indpb=0.05)
blend = evofool.deap_crossover(tools.cxBlend, rate=0.5, alpha=0.3)
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_registered", {})


def direct(config: Config, **variation: Any) -> Config:
    return load_config({**config.model_dump(), "encoding": {"kind": "direct"}, "variation": variation})


def refusal(config: Config, path: Path, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        evofool.run(config, out=path, **options)
    assert caught.value.exit_code == 2
    return caught.value.message


# --------------------------------------------------------------------------------------------------------- objectives


def slow_margin(z: NDArray[np.float64], cell: int) -> float:
    return float(z[cell] - max(v for j, v in enumerate(z) if j != cell))


def test_margin_is_the_distance_to_the_best_other_logit() -> None:
    z = np.random.Generator(np.random.PCG64(1)).normal(0, 5, (50, 7))
    cells = np.array([6, 0, 3])
    found = MARGIN(Readings(log_odds(z, "logits"), cells))
    expected = [[slow_margin(row, cell) for cell in cells] for row in z]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert ((found > 0) == (z.argmax(axis=1)[:, None] == cells)).all()


def test_margin_does_not_saturate() -> None:
    z = np.array([[60.0, 0.0, -1.0], [61.0, 0.0, -1.0]])
    first, second = MARGIN(Readings(log_odds(z, "logits"), np.array([0])))[:, 0]
    assert (first, second) == (pytest.approx(60, abs=1e-3), pytest.approx(61, abs=1e-3))


def test_top1_required_lets_only_the_networks_own_answer_in() -> None:
    z = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 5.0]])
    odds = log_odds(z, "logits")
    found = TOP1_REQUIRED(Readings(odds, np.array([0, 1, 2])))
    assert found[0].tolist() == [odds[0, 0], -np.inf, -np.inf]
    assert found[1].tolist() == [-np.inf, odds[1, 1], -np.inf]  # the first of equals, as everywhere


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_ranks_its_cells_by_the_objective(name: str, config: Config, tmp_path: Path) -> None:
    run = evofool.run(config, [f"search.objective={name}"], out=tmp_path / "run")
    placements, elites = run.placements(), run.elites()
    for _, cell in placements.groupby("class_index"):
        assert (np.diff(cell["objective"]) > 0).all()
    if name == "log_odds":
        assert (elites["objective"] == elites["log_odds"]).all()
    if name == "top1_required":
        assert (elites["top1_class_index"] == elites["class_index"]).all()
    if name == "margin":
        assert ((elites["objective"] > 0) == (elites["top1_class_index"] == elites["class_index"])).all()
    evofool.verify(run.path)


@pytest.mark.parametrize("name", ["margin", "top1_required"])
def test_a_run_with_another_objective_resumes_to_the_same_archive(name: str, config: Config, tmp_path: Path) -> None:
    whole = evofool.run(config, [f"search.objective={name}"], out=tmp_path / "whole")
    evofool.run(config, [f"search.objective={name}", "search.generations=3"], out=tmp_path / "parts")
    parts = evofool.resume(tmp_path / "parts", ["search.generations=6"])
    assert parts.archive_hash == whole.archive_hash
    assert whole.archive_hash != evofool.run(config, out=tmp_path / "default").archive_hash


def test_an_objective_of_ones_own_ranks_the_cells(config: Config, mine: Path, tmp_path: Path) -> None:
    spec = f"search.objective=python:{mine}:doubled"
    run = evofool.run(config, [spec], out=tmp_path / "run", allow_code=True)
    plain = evofool.run(config, out=tmp_path / "plain")
    assert (run.elites()["objective"] == 2 * run.elites()["log_odds"]).all()
    assert run.archive_hash == plain.archive_hash  # twice as much is the same order
    other = evofool.run(config, [spec.replace("doubled", "second_best")], out=tmp_path / "other", allow_code=True)
    assert (other.elites()["top1_class_index"] != other.elites()["class_index"]).all()


def test_an_objective_whose_code_changed_is_another_run(config: Config, mine: Path, tmp_path: Path) -> None:
    evofool.run(config, [f"search.objective=python:{mine}:doubled"], out=tmp_path / "run", allow_code=True)
    mine.write_text(MINE + "\n# changed\n")
    with pytest.raises(IncompatibleRun, match="is not what it was; put the old file back"):
        evofool.resume(tmp_path / "run", ["search.generations=9"], allow_code=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("too_few", "returned shape (50,) for 50 individuals and 10 classes, not (50, 10)"),
        ("broken", "raised ValueError: no luck"),
        ("nothing", "has no callable 'nothing'"),
    ],
)
def test_an_objective_that_is_none_is_refused(
    name: str, words: str, config: Config, mine: Path, tmp_path: Path
) -> None:
    settings = load_config(config, [f"search.objective=python:{mine}:{name}"])
    assert words in refusal(settings, tmp_path / "run", allow_code=True)


def test_code_runs_only_where_it_is_allowed(config: Config, mine: Path, tmp_path: Path) -> None:
    for override in (
        f"search.objective=python:{mine}:doubled",
        f"encoding.activations=['python:{mine}:swirl']",
        f"variation.operators={{mutate: 'python:{mine}:blackout'}}",
    ):
        key = override.partition("=")[0]
        message = refusal(load_config(config, [override]), tmp_path / "run")
        assert message.startswith(f"{key}: ") and "add --allow-code" in message
        assert not (tmp_path / "run").exists()


# -------------------------------------------------------------------------------------------------------- activations


def test_an_own_activation_draws_the_same_in_both_renderers(mine: Path) -> None:
    spec = f"python:{mine}:swirl"
    code = activations.load_activations((Source(spec, allow_code=True),))
    encoding = CppnEncoding(16, 16, "hsv", activations=(spec, "gaussian"), code=tuple(code.items()))
    genomes = variation.initial(encoding, 1, 0, 20)
    assert set(genomes.activations.ravel().tolist()) == {activations.FIRST_OWN, 3}
    images = render.render(encoding, genomes).astype(int)
    for row in range(20):
        assert (np.abs(images[row] - reference.render(encoding, genomes, row)) <= 1).mean() > 0.99
    sines = CppnEncoding(16, 16, "hsv", activations=("sine", "gaussian"))
    codes = np.where(genomes.activations == activations.FIRST_OWN, 1, genomes.activations).astype(np.uint8)
    plain = render.render(sines, Graphs(genomes.node_ids, codes, *genomes.arrays()[2:]))
    assert not np.array_equal(images, plain)


def test_a_run_with_an_own_activation_resumes_verifies_and_draws(config: Config, mine: Path, tmp_path: Path) -> None:
    override = f"encoding.activations=['python:{mine}:swirl', gaussian]"
    whole = evofool.run(config, [override], out=tmp_path / "whole", allow_code=True)
    evofool.run(config, [override, "search.generations=3"], out=tmp_path / "parts", allow_code=True)
    activations._registered.clear()
    parts = evofool.resume(tmp_path / "parts", ["search.generations=6"], allow_code=True)
    assert parts.archive_hash == whole.archive_hash
    activations._registered.clear()
    with pytest.raises(ConfigError, match="add --allow-code"):
        evofool.verify(whole.path)
    with pytest.raises(ConfigError, match="add --allow-code"):
        whole.image(0, size=64)
    assert whole.image(0).shape == (28, 28, 1)  # the archived picture needs no code
    genome = whole.elites()["genome_json"][0]
    if "swirl" in genome:
        with pytest.raises(InvalidGenome, match="which is unknown here"):
            evofool.render(genome)
    evofool.verify(whole.path, allow_code=True)
    assert whole.image(0, size=64, allow_code=True).shape == (64, 64, 1)
    assert evofool.render(genome, size=28).shape == (28, 28, 1)


SHOWN = """
import torch, evofool

def build():
    preprocessing = evofool.Preprocessing((40, 40), 1, (0.0,), (255.0,))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1600, 10))
    torch.nn.init.constant_(net[1].weight, 0.01), torch.nn.init.zeros_(net[1].bias)
    return evofool.Target(net, preprocessing, tuple("0123456789"))
"""


def test_a_file_that_changed_is_refused_wherever_its_code_would_run(config: Config, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(SHOWN)
    code = {"encoding.activations": f"['python:{mine}:swirl', gaussian]", "search.objective": f"python:{mine}:doubled"}
    run = evofool.run(config, [f"{k}={v}" for k, v in code.items()], out=tmp_path / "run", allow_code=True)
    mutation = f"variation.operators={{mutate: 'python:{mine}:blackout'}}"
    bred = evofool.run(config, ["encoding.kind=direct", mutation], out=tmp_path / "bred", allow_code=True)
    picture = run.image(3, size=40, allow_code=True)

    mine.write_text(MINE.replace("xp.abs(p)", "p") + "raise SystemExit('this ran')")
    assert np.array_equal(run.image(3, size=40, allow_code=True), picture), "the old function is still known"
    attempts: dict[str, Callable[[], Any]] = {
        "image": lambda: run.image(3, size=40, allow_code=True),
        "verify": lambda: evofool.verify(run.path, allow_code=True),
        "replay": lambda: evofool.verify(bred.path, replay=2, allow_code=True),
        "resume": lambda: evofool.resume(run.path, ["search.generations=9"], allow_code=True),
        "study": lambda: evofool.transfer(run.path, f"python:{tmp_path / 'shown.py'}:build", allow_code=True),
    }
    for name, attempt in attempts.items():
        activations._registered.clear()
        with pytest.raises(IncompatibleRun, match=rf"{re.escape(str(mine))}.*put the old file back"):
            attempt()
            raise AssertionError(name)
    mine.write_text(MINE)
    assert np.array_equal(run.image(3, size=40, allow_code=True), picture)
    for attempt in attempts.values():
        activations._registered.clear()
        attempt()


def test_two_runs_whose_files_have_one_name_do_not_share_a_function(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["encoding.activations=['python:mine.py:swirl', gaussian]"]
    runs = {}
    for name, text in (("first", MINE), ("second", MINE.replace("xp.abs(p)", "p"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(text)
        monkeypatch.chdir(tmp_path / name)
        runs[name] = evofool.run(config, keys, out=tmp_path / name / "run", allow_code=True)
        before = [runs[n].image(3, size=30, allow_code=True) for n in runs]
    assert runs["first"].archive_hash != runs["second"].archive_hash
    for name in runs:
        monkeypatch.chdir(tmp_path / name)
        other = keys[0].replace("mine.py", str(tmp_path / name / "mine.py"))
        activations._registered.clear()
        alone = evofool.run(config, [other], out="alone", allow_code=True)
        assert alone.archive_hash == runs[name].archive_hash
        assert np.array_equal(runs[name].image(3, size=30, allow_code=True), before[list(runs).index(name)])


def test_a_registered_activation_needs_no_file(config: Config, tmp_path: Path) -> None:
    evofool.register_activation("cosine", lambda p, xp: xp.cos(p))
    run = evofool.run(config, ["encoding.activations=[cosine]"], out=tmp_path / "run")
    assert "cosine" in run.elites()["genome_json"][0]


def test_an_unknown_activation_is_refused_with_those_there_are(config: Config) -> None:
    with pytest.raises(ConfigError, match="'cosine' is unknown; known are sine, sigmoid, gaussian, linear"):
        make_encoding(config.encoding.model_copy(update={"activations": ["cosine"]}), (28, 28), 1)


@pytest.mark.parametrize(("name", "words"), [("wide", "shape"), ("numpy_only", "float64"), ("broken", "no luck")])
def test_what_is_no_activation_is_refused(name: str, words: str, mine: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        activations.load_activations((Source(f"python:{mine}:{name}", allow_code=True, key="encoding.activations"),))


# ---------------------------------------------------------------------------------------------------------- operators


def test_an_own_mutation_takes_the_place_of_the_built_in_one(config: Config, mine: Path, tmp_path: Path) -> None:
    settings = direct(config, operators={"mutate": f"python:{mine}:blackout"})
    run = evofool.run(settings, out=tmp_path / "run", allow_code=True)
    names = {name for row in run.placements()["operators"] for name in row}
    assert names == {"initial", "own"}
    # Halving is all that happens, so the brightest pixel of an image is 255 / 2**n of the brightest there ever was.
    assert evofool.resume(run.path, ["search.generations=9"], allow_code=True).status()["generation"] == 8
    evofool.verify(run.path)


def test_own_operators_give_the_same_archive_stopped_or_not(config: Config, mine: Path, tmp_path: Path) -> None:
    operators = {"mutate": f"python:{mine}:gaussian", "mate": f"python:{mine}:blend"}
    settings = direct(config, operators=operators)
    whole = evofool.run(settings, out=tmp_path / "whole", allow_code=True)
    random.seed(5)  # whatever else draws from the global generators
    evofool.run(settings, ["search.generations=3"], out=tmp_path / "parts", allow_code=True)
    random.seed(6)
    parts = evofool.resume(tmp_path / "parts", ["search.generations=6"], allow_code=True)
    assert parts.archive_hash == whole.archive_hash


def test_deaps_operators_leave_the_global_generators_as_they_were(mine: Path) -> None:
    gaussian, _ = load_callable(Source(f"python:{mine}:gaussian", allow_code=True))
    genomes = np.random.Generator(np.random.PCG64(1)).random((30, 6, 6, 3)).astype(np.float32)
    random.seed(1)
    expected = random.random()
    random.seed(1)
    children, changed = gaussian(3, 4, genomes)
    again, _ = gaussian(3, 4, genomes)
    assert random.random() == expected
    assert np.array_equal(children, again) and not np.array_equal(children, gaussian(3, 5, genomes)[0])
    assert children.dtype == np.float32 and children.min() >= 0 and children.max() <= 1
    moved = (children != genomes).reshape(30, -1)
    assert np.array_equal(changed, moved.any(axis=1))
    assert moved.mean() == pytest.approx(0.05, abs=0.015)


def test_own_selection_and_crossover_decide_who_breeds(config: Config, mine: Path, tmp_path: Path) -> None:
    settings = direct(config, operators={"select": f"python:{mine}:first_elite", "mate": f"python:{mine}:swap"})
    run = evofool.run(settings, out=tmp_path / "run", allow_code=True)
    parents = {tuple(row) for row in run.placements()["parent_ids"] if len(row)}
    assert parents and all(len(set(pair)) == 1 for pair in parents)


@pytest.mark.parametrize(
    ("operators", "words"),
    [
        ({"select": "nobody"}, "must return (50, 2) ids of current elites"),
        ({"mutate": "short"}, "returned [3, 3] rows where [50, 50] are wanted"),
        ({"mate": "broken"}, "raised ValueError: no luck"),
    ],
)
def test_an_operator_that_gives_something_else_is_refused(
    operators: dict[str, str], words: str, config: Config, mine: Path, tmp_path: Path
) -> None:
    settings = direct(config, operators={k: f"python:{mine}:{v}" for k, v in operators.items()})
    assert words in refusal(settings, tmp_path / "run", allow_code=True)


def test_ask_and_tell_takes_own_code_too(config: Config, mine: Path) -> None:
    search = evofool.make_search(
        direct(config, operators={"mutate": f"python:{mine}:blackout"}),
        [f"search.objective=python:{mine}:doubled"],
        image_size=(8, 8),
        channels=3,
        class_names=["a", "b", "c"],
        allow_code=True,
    )
    for _ in range(4):
        images = search.ask()
        search.tell(images.reshape(len(images), -1)[:, :3] / 50.0, output="logits")
    assert (search.archive.objective == 2 * search.archive.log_odds).all()
