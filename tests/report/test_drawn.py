"""A CPPN as a program: run alone, with numpy only, it draws the picture of its genome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Command
from handmade import genomes_by_hand
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from PIL import Image

import evofool
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import reference
from evofool.encoding.kinds import draw
from evofool.errors import ConfigError, InvalidGenome
from evofool.machines.bench.genomes import grown
from evofool.report.drawn import python_text

FIXTURES = ROOT / "tests" / "fixtures"
ENCODINGS = [
    CppnEncoding(9, 7, "hsv"),
    CppnEncoding(7, 9, "hls2015", "raw", "absolute", quantisation="truncate"),
    CppnEncoding(8, 8, "grey", arithmetic="portable"),
    CppnEncoding(9, 7, "hsv", "raw", arithmetic="portable"),
]
ALONE = """
import runpy, sys
import numpy as np
for name in sys.argv[1:]:
    np.save(name + ".npy", runpy.run_path(name)["picture"]())
assert not {"evofool", "torch", "PIL", "numba"} & set(sys.modules)
"""


def drawn(encoding: CppnEncoding, genomes: Any, row: int) -> NDArray[np.uint8]:
    """The picture that the program has to give: an evaluator's where arithmetic is portable."""
    if encoding.arithmetic == "portable":
        return draw(encoding, encoding.take(genomes, slice(row, row + 1)))[0]
    return reference.render(encoding, genomes, row)


def text_of(encoding: CppnEncoding, genomes: Any, row: int, **arguments: Any) -> str:
    return python_text(encoding.to_json(genomes, row), is_portable=encoding.arithmetic == "portable", **arguments)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(genomes_by_hand(ENCODINGS))
def test_the_program_draws_what_evofool_draws(case: tuple[CppnEncoding, Any]) -> None:
    encoding, genomes = case
    for row in range(len(genomes)):
        scope: dict[str, Any] = {"__name__": "program"}
        exec(compile(text_of(encoding, genomes, row), "program", "exec"), scope)
        assert np.array_equal(scope["picture"](), drawn(encoding, genomes, row))


@pytest.mark.slow
def test_it_needs_numpy_alone(tmp_path: Path) -> None:
    cases = [(encoding, grown(encoding, 2, 25, seed)) for seed, encoding in enumerate(ENCODINGS)]
    files = [tmp_path / f"{i}{row}.py" for i in range(len(cases)) for row in (0, 1)]
    for file in files:
        encoding, genomes = cases[int(file.stem[0])]
        file.write_text(text_of(encoding, genomes, int(file.stem[1])))
    subprocess.run([sys.executable, "-I", "-c", ALONE, *map(str, files)], cwd=tmp_path, check=True)
    for file in files:
        encoding, genomes = cases[int(file.stem[0])]
        assert np.array_equal(np.load(f"{file}.npy"), drawn(encoding, genomes, int(file.stem[1])))


@pytest.mark.slow
def test_show_prints_the_archived_picture_in_every_format(tmp_path: Path, command: Command) -> None:
    run = evofool.open_run(FIXTURES / "cppn")
    name = str(run.elites()["class_name"][0])
    code, program, _ = command("show", run.path, name, "--format", "python")
    (tmp_path / "program.py").write_text(program)
    subprocess.run([sys.executable, "-I", "program.py", "own.png"], cwd=tmp_path, check=True)
    shown = [sys.executable, "-m", "evofool", "show", str(run.path), name, "--format", "png"]
    printed = subprocess.run(shown, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}).stdout
    for picture in (Image.open(tmp_path / "own.png"), Image.open(BytesIO(printed))):
        assert np.array_equal(np.atleast_3d(np.asarray(picture)), run.image(name))
    assert code == 0 and command("show", run.path, name, "--format", "svg")[1].startswith("<svg")
    larger = command("show", run.path, name, "--format", "python", "--size", "300")[1]
    assert "HEIGHT, WIDTH = 300, 300" in larger


def test_names_cannot_get_out_of_their_comment() -> None:
    hostile = 'tench"""\nimport os; os.abort()\r\u2028x = 1 # \u202e{about}'
    encoding = ENCODINGS[0]
    text = text_of(encoding, grown(encoding, 1, 2), 0, about=hostile)
    assert text.splitlines()[0].startswith("# tench") and "import os" in text.splitlines()[0]
    compile(text, "program", "exec")


def test_what_is_no_formula_is_refused_in_a_sentence(command: Command) -> None:
    direct = DirectEncoding(2, 2, "grey")
    with pytest.raises(ConfigError, match="pixels and no formula: --format png"):
        python_text(direct.to_json(np.zeros((1, 2, 2, 1), dtype=np.float32), 0), is_portable=False)
    encoding = ENCODINGS[0]
    genome = json.loads(json.dumps(encoding.to_json(grown(encoding, 1, 1), 0)))
    genome["nodes"][0]["activation"] = "python:mine.py:swirl"
    with pytest.raises(ConfigError, match=r"of your own \(python:mine.py:swirl\)"):
        python_text(genome, is_portable=False)
    for damaged in (
        "{",
        "[]",
        '{"encoding": "cppn"}',
        json.dumps(genome).replace("python:mine.py:swirl", "sine")[:-40],
    ):
        with pytest.raises(InvalidGenome):
            python_text(damaged, is_portable=False)
    for kind in ("svg", "python"):
        code, _, said = command("show", FIXTURES / "direct", "0", "--format", kind)
        assert code == 2 and "--format png" in said and said.count("\n") == 1
    code, _, said = command("show", FIXTURES / "cppn", "0", "--format", "jpg")
    assert code == 2 and "png, svg, python" in said
    code, _, said = command("show", FIXTURES / "cppn", "0", "--format", "svg", "--png", "picture.png")
    assert code == 2 and "leave out --json and --png" in said
