"""The command line as a user meets it: every command, its JSON, wrong input with the right exit code, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Command
from PIL import Image

import evofool
from evofool import cli
from evofool.cli import output
from evofool.config import Config, key_table, to_yaml
from evofool.evaluate import evaluator

pytestmark = pytest.mark.slow  # whole runs: `make check` leaves them to `make test`

EXECUTABLE = str(Path(sys.executable).with_name("evofool"))


@pytest.fixture
def config_file(config: Config, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    return path


# ------------------------------------------------------------------------------------------------------ what it does


def test_run_prints_the_table_and_what_next(command: Command, config_file: Path, tmp_path: Path) -> None:
    code, out, err = command("run", config_file, "search.generations=3", "--out", tmp_path / "run")
    assert code == 0
    assert re.search(r"class +confidence +log-odds +generation +nodes +connections", out)
    assert len(re.findall(r"^\d +\S", out, flags=re.MULTILINE)) == 10
    for hint in ("pandas", "evofool show", "evofool export", "evofool resume", "python:mynet.py:build"):
        assert hint in out
    assert "new run, cppn, 10 classes" in err and "3 generations done" in err

    code, out, err = command("run", config_file, "search.generations=3", "--out", tmp_path / "run")
    assert code == 0 and "nothing to do" in err
    code, out, err = command("resume", tmp_path / "run", "search.generations=4")
    assert code == 0 and "resuming after generation 2" in err and "in 4 generations" in out


def test_seeds_make_a_run_each(command: Command, config_file: Path, tmp_path: Path) -> None:
    keys = ["name=s{seed}", f"storage.path={tmp_path / 'runs'}", "search.generations=2"]
    assert command("run", config_file, *keys, "--seeds", "1-2,5")[0] == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["s1", "s2", "s5"]
    hashes = {evofool.open_run(tmp_path / "runs" / name).archive_hash for name in ("s1", "s2", "s5")}
    assert len(hashes) == 3
    keys = ["--out", tmp_path / "out"]
    code, out, _ = command("study", "compare", *(tmp_path / "runs" / n for n in ("s1", "s2", "s5")), "--json", *keys)
    data = json.loads(out)
    assert code == 0 and data["rows"] == 3 and {row["n"] for row in data["summary"]} == {3}
    code, out, _ = command("study", "compare", *(tmp_path / "runs" / n for n in ("s1", "s2")), *keys)
    assert code == 0 and str(tmp_path / "runs" / "s2") in out and "s5" not in out


def test_table_compares_groups(command: Command, config_file: Path, tmp_path: Path) -> None:
    for kind in ("cppn", "direct"):
        keys = [f"name={kind}-{{seed}}", f"encoding.kind={kind}", f"storage.path={tmp_path / 'runs'}"]
        assert command("run", config_file, *keys, "search.generations=2", "--seeds", "1-2")[0] == 0
    runs = sorted((tmp_path / "runs").iterdir())
    data = json.loads(command("study", "compare", *runs, "--json", "--out", tmp_path / "out")[1])
    tests = {row["figure"]: row["value"] for row in data["summary"] if row.get("against")}
    assert {row["group"].split("-")[0] for row in data["summary"]} == {"cppn", "direct"}
    assert 0 < tests["p_median"] <= 1 and tests["p_median_at"] == 1.0  # nobody got there: all ranks tie
    never = {row["figure"]: row for row in data["summary"] if "never" in row}
    assert never["median_at"]["never"] == 2 and never["median_at"]["value"] is None


def test_reading_commands_agree_with_the_archive(command: Command, small_run: evofool.Run, tmp_path: Path) -> None:
    path, elites = small_run.path, small_run.elites()
    status = json.loads(command("status", path, "--json")[1])
    assert status["generation"] == 5 and status["archive_hash"] == small_run.archive_hash
    assert status["last_session"]["driver_peak_rss_mib"] > 0
    assert command("status", path)[0] == 0

    rows = json.loads(command("elites", path, "--json", "--sort", "confidence", "--limit", 3)[1])
    best = elites.sort_values("confidence", ascending=False, kind="stable")["class_name"][:3]
    assert [row["class_name"] for row in rows] == list(best)

    code, out, _ = command("show", path, "7", "--json", "--png", tmp_path / "seven.png", "--size", 64)
    data = json.loads(out)
    assert code == 0 and data["class_name"] == "7" and data["genome"]["encoding"] == "cppn"
    assert data["lineage"][0]["individual_id"] == data["individual_id"]
    assert Image.open(tmp_path / "seven.png").size == (64, 64)
    assert re.search(r"^\d+ ancestors?, newest first:$", command("show", path, "7")[1], re.MULTILINE)

    result = json.loads(command("verify", path, "--json")[1])
    assert result["bit_for_bit"] == 10 and result["archive_hash"] == small_run.archive_hash
    assert "10 bit for bit" in command("verify", path)[1]


def test_export_writes_pictures_that_are_the_archive(command: Command, small_run: evofool.Run, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    assert command("export", small_run.path, "--out", out)[0] == 0
    assert len(list(out.glob("0*.png"))) == 10
    pixels = np.asarray(Image.open(out / "0003_3.png"))
    assert np.array_equal(pixels, small_run.image(3)[:, :, 0])
    genomes = [json.loads(line) for line in (out / "genomes.jsonl").read_text().splitlines()]
    assert len(genomes) == 10
    assert np.array_equal(evofool.render(genomes[3])[:, :, 0], pixels)
    assert (out / "elites.csv").read_text().count("\n") == 11
    assert Image.open(out / "contact_sheet.png").width > 1000
    assert command("export", small_run.path, "--out", tmp_path / "large", "--size", 100)[0] == 0
    assert Image.open(tmp_path / "large" / "0003_3.png").size == (100, 100)


def test_a_csv_cell_never_begins_as_a_formula(tmp_path: Path) -> None:
    import pandas as pd

    output.write_csv(
        tmp_path / "x.csv", pd.DataFrame({"class_name": ["=1+1", "@x", "-3", "cat"], "value": [-1.0, 2, 3, 4]})
    )
    assert (tmp_path / "x.csv").read_text().splitlines()[1:] == ["'=1+1,-1.0", "'@x,2.0", "'-3,3.0", "cat,4.0"]


def test_merge_command(command: Command, config_file: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        assert command("run", config_file, f"seed={seed}", "search.generations=2", "--out", tmp_path / name)[0] == 0
    code, out, _ = command("merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "m")
    assert code == 0 and "10 of 10 classes filled" in out
    assert command("merge", tmp_path / "a", "--out", tmp_path / "n")[0] == 2


def test_config_show_lists_every_key_and_schema_is_json(command: Command, config_file: Path) -> None:
    out = command("config", "show", config_file, "seed=42")[1]
    assert "seed: 42   # semantic:" in out
    for key, (kind, _, description) in key_table().items():
        assert f"{key.rpartition('.')[2]}: " in out and f"# {kind}: {description}" in out
    assert json.loads(command("config", "show", config_file, "--json")[1])["evaluation"]["pool"] == "inline"
    assert json.loads(command("config", "schema")[1])["additionalProperties"] is False


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*.yaml")), ids=lambda p: p.stem)
def test_the_shipped_configs_are_valid(command: Command, path: Path) -> None:
    assert command("config", "show", path)[0] == 0


def test_doctor(command: Command, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code, out, _ = command("cluster", "doctor", config_file, "--json")
    levels = {finding["subject"]: finding["level"] for finding in json.loads(out)}
    assert code == 0 and levels["target"] == "ok" and levels["storage"] == "ok"
    for storage, level in (("here", "ok"), ("here/runs", "ok"), ("here/does/not/exist", "warning")):
        (tmp_path / "here").mkdir(exist_ok=True)
        code, out, _ = command("cluster", "doctor", "--storage", tmp_path / storage, "--json")
        found = next(finding for finding in json.loads(out) if finding["subject"] == "storage")
        assert code == 0 and found["level"] == level
        assert level == "ok" or f"mkdir -p {tmp_path / storage}" in found["fix"]
    assert not (tmp_path / "here" / "runs").exists()
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    code, out, _ = command("cluster", "doctor")
    assert code == 1 and "Jobs API" in out


def test_without_a_command_the_first_day_is_shown(command: Command) -> None:
    code, out, _ = command()
    shown = re.findall(r"^  evofool (.*?)  ", out, re.MULTILINE)
    assert code == 0 and len(shown) == 6
    for line in shown:
        names = line.split()[: 2 if line.startswith("targets") else 1]
        assert command(*names, "--help")[0] == 0


def test_a_command_is_in_the_file_of_its_name(command: Command) -> None:
    for name in cli.COMMANDS:
        assert command(*name.split("."), "--help")[0] == 0
        assert (ROOT / "evofool" / "cli" / f"{name.replace('.', '/')}.py").is_file()


def test_help_is_quick_and_version_prints_the_stack() -> None:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([EXECUTABLE, "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    heavy = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "evofool", "--help"], capture_output=True, text=True, check=True
    ).stderr
    assert not re.search(r"\| +(torch|ray|numpy|pandas|pyarrow|pydantic)$", heavy, flags=re.MULTILINE)
    assert min(times) < 5  # a hang, not a benchmark: docs/results.md has the figure
    version = subprocess.run([EXECUTABLE, "--version"], capture_output=True, text=True, check=True).stdout
    assert "evofool" in version and "torch" in version


# ------------------------------------------------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["search.offsprng=3"], 2, "search.offsprng: unknown key; did you mean search.offspring?"),
        (["serach={}"], 2, "serach: unknown key; did you mean search?"),
        (["search.offspring=many"], 2, "search.offspring: "),
        (["variation.mutation_rate=-0.1"], 2, "variation.mutation_rate: "),
        (["search.offspring=0"], 2, "search.offspring: "),
        (["evaluation.chunk=10", "evaluation.micro_batch=4"], 2, "evaluation.chunk (10) must be a multiple of"),
        (["evaluation.chunk=30"], 2, "evaluation.chunk (30) must be a multiple of micro_batch (50)"),
        (["search"], 2, "an override is KEY=VALUE"),
        (
            ["target.spec=lenet:missing.safetensors"],
            2,
            "no file missing.safetensors; make one with `evofool targets train",
        ),
        (["target.spec=lenett:x"], 2, "did you mean lenet:"),
        (["target.spec=python:evil.py:build"], 2, "add --allow-code"),
        (["target.classes=['sevn']"], 2, "has no class 'sevn'"),
        (["encoding.colour=hsv"], 2, "does not fit a target with 1 channel"),
        (["encoding.activations=[sin]"], 2, "encoding.activations: 'sin' is unknown; known are sine"),
        (["name=../x"], 2, "name: a name has 1 to 64 letters"),
        (["--seeds", "1-2"], 2, "--seeds needs {seed} in the name"),
        (["--seeds", "a-b", "name=x{seed}"], 2, "'a-b' is not a list of seeds"),
        (["--resume", "maybe"], 2, "'maybe' is not auto, must or never"),
        (["--resume", "must"], 2, "there is no run to go on with"),
        (["evaluation.device=cuda"], 3, "there is no GPU here"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(
    command: Command,
    config_file: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('sentinel', 'w')")
    before = sorted(tmp_path.iterdir())
    result, out, err = command("run", config_file, *arguments)
    assert (result, out) == (code, "")
    assert words in err and "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before or sorted(p.name for p in (tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("verb", ["status", "elites", "verify", "resume"])
def test_reading_what_is_no_run(command: Command, tmp_path: Path, verb: str) -> None:
    assert command(verb, tmp_path / "nothing")[::2] == (2, f"evofool: {tmp_path / 'nothing'}: no such run.\n")
    assert command(verb, tmp_path)[0] == 2


def test_a_class_or_column_that_is_not_there(command: Command, small_run: evofool.Run) -> None:
    assert "no elite of class 'eleven'" in command("show", small_run.path, "eleven")[2]
    assert "no column 'beauty'" in command("elites", small_run.path, "--sort", "beauty")[2]


def test_a_changed_semantic_key_is_shown_as_a_diff(command: Command, config_file: Path, small_run: evofool.Run) -> None:
    code, _, err = command("run", config_file, "search.lag=3", "seed=8", "--out", small_run.path)
    assert code == 3
    assert "seed: 1 -> 8" in err and "search.lag: 2 -> 3" in err and f"--seed-from {small_run.path}" in err


def test_other_weights_are_another_run(
    command: Command, small_run: evofool.Run, lenet_file: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(lenet_file)
    tensors["7.bias"] += 0.01
    metadata = {"format": "evofool.lenet.1", "class_names": json.dumps([str(i) for i in range(10)])}
    save_file(tensors, str(tmp_path / "other.safetensors"), metadata)
    code, _, err = command("resume", small_run.path, f"target.spec=lenet:{tmp_path / 'other.safetensors'}")
    assert code == 3 and "not the one the run was made with" in err
    # The same weights elsewhere are the same target.
    (tmp_path / "moved.safetensors").write_bytes(lenet_file.read_bytes())
    keys = [f"target.spec=lenet:{tmp_path / 'moved.safetensors'}", "search.generations=7"]
    assert command("resume", small_run.path, *keys)[0] == 0


def test_a_strangers_run_does_not_run_its_code(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "net.py"
    source.write_text(
        "import evofool, torch, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'sentinel')!r}).touch()\n"
        "def build():\n"
        "    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))\n"
        "    torch.nn.init.ones_(net[1].weight); torch.nn.init.zeros_(net[1].bias)\n"
        "    return evofool.Target(net, evofool.Preprocessing((8, 8), 1, (0.,), (255.,)), ('a', 'b', 'c'))\n"
    )
    config = tmp_path / "c.yaml"
    config.write_text(
        f"target: {{spec: 'python:{source}:build'}}\nsearch: {{generations: 2}}\nevaluation: {{pool: inline}}\n"
    )
    assert command("run", config, "--out", tmp_path / "run", "--allow-code")[0] == 0
    (tmp_path / "sentinel").unlink()
    sys.modules.pop(next(name for name in sys.modules if name.startswith("evofool_user_")))
    for verb in ("resume", "verify"):
        code, _, err = command(verb, tmp_path / "run")
        assert code == 2 and "--allow-code" in err
    for verb in ("status", "elites"):
        assert command(verb, tmp_path / "run")[0] == 0
    assert not (tmp_path / "sentinel").exists()


# ------------------------------------------------------------------------------------------------------------ verify


INDEPENDENT = """
import json, sys
from pathlib import Path
import numpy as np, torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

# The bare network, written out again; no evofool here.
net = nn.Sequential(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
                    nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))
net.load_state_dict(load_file(sys.argv[1]))
net.eval()
scores = {}
for path in sorted(Path(sys.argv[2]).glob("0*.png")):
    pixels = torch.from_numpy(np.asarray(Image.open(path)).astype("float32"))
    with torch.no_grad():
        scores[int(path.name[:4])] = torch.softmax(net(((pixels - 33.3184) / 78.5675)[None, None]), 1)[0].tolist()
assert not any(name.split(".")[0] == "evofool" for name in sys.modules)
print(json.dumps(scores))
"""


def test_another_program_finds_the_archived_confidences(
    command: Command, small_run: evofool.Run, lenet_file: Path, tmp_path: Path
) -> None:
    assert command("export", small_run.path, "--out", tmp_path / "p")[0] == 0
    arguments = [sys.executable, "-c", INDEPENDENT, str(lenet_file), str(tmp_path / "p")]
    scores = json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
    elites = small_run.elites().set_index("class_index")
    assert len(scores) == len(elites) == 10
    for index, values in scores.items():
        assert abs(values[int(index)] - elites.loc[int(index), "confidence"]) < 1e-4


def damage(run: evofool.Run, change: Callable[[dict[str, object]], None]) -> None:
    """Rewrites the view with one row changed, as valid Parquet."""
    from evofool.store import schemas
    from evofool.store.view import read_view

    store = run.store
    rows = read_view(store).to_pylist()
    change(rows[4])
    (run.path / "elites" / "elites.parquet").write_bytes(schemas.to_parquet(rows, schemas.ELITES))


def flip_pixel(row: dict[str, object]) -> None:
    from evofool.base.png import decode_png, encode_png

    image = decode_png(row["image"]["bytes"], "").copy()  # type: ignore[index]
    image[13, 5] ^= 1
    row["image"] = {"bytes": encode_png(image), "path": None}


def flip_confidence_bit(row: dict[str, object]) -> None:
    (bits,) = struct.unpack("<I", struct.pack("<f", row["confidence"]))
    row["confidence"] = struct.unpack("<f", struct.pack("<I", bits ^ 1))[0]


@pytest.mark.parametrize(("change", "words"), [(flip_pixel, "a pixel differs"), (flip_confidence_bit, "confidence is")])
def test_one_flipped_pixel_or_bit_is_named(
    command: Command, small_run: evofool.Run, change: Callable[[dict[str, object]], None], words: str
) -> None:
    damage(small_run, change)
    code, _, err = command("verify", small_run.path)
    assert code == 4 and "class 4" in err and words in err
    # The view is only a view: resuming writes it again from the commits.
    assert command("resume", small_run.path, "search.generations=7")[0] == 0
    assert command("verify", small_run.path)[0] == 0


def test_an_archive_that_the_target_does_not_confirm(
    command: Command, small_run: evofool.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, shown = evaluator.Evaluator.score_images, small_run.elite("4")["image_sha256"]

    def off_by_one_bit(self: evaluator.Evaluator, images: np.ndarray) -> object:
        scores = real(self, images)
        hit = [bytes(sha256).hex() == shown for sha256 in scores.image_sha256]
        scores.log_odds[hit, 4] = np.nextafter(scores.log_odds[hit, 4], np.float32(np.inf))
        return scores

    verb = evaluator.VERBS["score_images"]
    monkeypatch.setitem(evaluator.VERBS, "score_images", replace(verb, perform=off_by_one_bit))
    code, _, err = command("verify", small_run.path)
    assert code == 4 and "class 4: its image scores" in err


# ----------------------------------------------------------------------------------------------------------- signals


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "code"), [((signal.SIGINT,), 130), ((signal.SIGTERM,), 143), ((signal.SIGINT,) * 2, 130)]
)
def test_a_signal_ends_a_run_after_a_clean_commit(
    config_file: Path, tmp_path: Path, signals: tuple[int, ...], code: int
) -> None:
    arguments = ["run", str(config_file), "search.generations=null", "--out", str(tmp_path / "run")]
    process = subprocess.Popen([EXECUTABLE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "run" / "_evofool").glob("commits/*.json")) and process.poll() is None:
        time.sleep(0.05)
    for number in signals:
        process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "Traceback" not in err
    run = evofool.open_run(tmp_path / "run")
    generation = run.status()["generation"]
    if len(signals) == 1:
        assert f"everything up to generation {generation} is committed" in err
        assert f"go on with: evofool resume {tmp_path / 'run'}" in err
    whole = evofool.run(config_file, [f"search.generations={generation + 3}"], out=tmp_path / "whole")
    again = evofool.resume(tmp_path / "run", [f"search.generations={generation + 3}"])
    assert again.archive_hash == whole.archive_hash


@pytest.mark.slow
def test_a_killed_driver_loses_nothing_committed(config_file: Path, tmp_path: Path) -> None:
    arguments = ["run", str(config_file), "search.generations=null", "--out", str(tmp_path / "run")]
    process = subprocess.Popen([EXECUTABLE, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list((tmp_path / "run" / "_evofool").glob("commits/*.json"))) < 3 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    generation = evofool.open_run(tmp_path / "run").status()["generation"]
    again = evofool.resume(tmp_path / "run", [f"search.generations={generation + 4}"])
    whole = evofool.run(config_file, [f"search.generations={generation + 4}"], out=tmp_path / "whole")
    assert again.archive_hash == whole.archive_hash


@pytest.mark.slow
def test_a_run_in_use_is_refused_with_its_owner(config_file: Path, tmp_path: Path, command: Command) -> None:
    arguments = ["run", str(config_file), "search.generations=null", "--out", str(tmp_path / "run")]
    process = subprocess.Popen([EXECUTABLE, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not list((tmp_path / "run" / "_evofool").glob("commits/*.json")) and process.poll() is None:
            time.sleep(0.05)
        code, _, err = command("resume", tmp_path / "run")
        assert code == 5 and f"in use by process {process.pid} on" in err
        assert command("status", tmp_path / "run")[0] == 0
    finally:
        process.terminate()
        process.wait(timeout=30)


# ----------------------------------------------------------------------------------------------------------- studies


def test_study_lists_every_question_and_loads_none(command: Command) -> None:
    from evofool.base.registry import STUDIES

    code, out, _ = command("study")
    assert code == 0 and all(name in out and question in out for name, (question, _) in STUDIES.items())
    heavy = "[m for m in ('pandas', 'pyarrow', 'torch', 'ray') if m in sys.modules]"
    for arguments in (["study"], ["study", "--help"], ["--help"]):
        code_text = (
            f"import sys; sys.argv[1:] = {arguments}\nfrom evofool import cli\ntry: cli.main()\nfinally: print({heavy})"
        )
        said = subprocess.run([sys.executable, "-c", code_text], capture_output=True, text=True)
        assert said.stdout.splitlines()[-1] == "[]", said


def test_a_study_of_another_name_and_a_senseless_limit(command: Command, small_run: evofool.Run) -> None:
    code, _, err = command("study", "trasnfer", small_run.path)
    assert code == 2 and "did you mean transfer?" in err
    code, _, err = command("study", "phrenology", small_run.path)
    assert code == 2 and "transfer, compare, siblings, ascend" in err
    assert command("study", "compare", small_run.path, "--limit", "0")[0] == 2
    assert not (small_run.path / "_studies").exists()


def test_a_study_of_one_run_lies_in_it(command: Command, small_run: evofool.Run) -> None:
    code, out, _ = command("study", "compare", small_run.path)
    files = [str(small_run.path / "_studies" / f"compare.{kind}") for kind in ("parquet", "svg", "json")]
    assert code == 0 and out.splitlines()[-3:] == files and "of 1 run," in out
