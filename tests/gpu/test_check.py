"""The check itself: that it reports whatever becomes of a step, and names what a machine lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from gpu import check, packages

STEPS = """
import json, os, subprocess, sys, time
name, device, folder = sys.argv[1:]
if name == "slow":
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, file=open("child", "w"), flush=True)
    time.sleep(60)
if name == "broken":
    sys.exit("this step has broken")
if name == "dead":
    os.kill(os.getpid(), 9)
facts = {"gpu": "a GPU" if os.environ.get("GPU") else "", "line": "this machine"}
print(json.dumps({"held": name != "wrong", "said": "as asked", "facts": facts}))
"""


def steps(*names: str, limit: int = 20) -> list[check.Step]:
    return [check.Step(name, "?", limit, needs_gpu=name == "of-gpu", alone=name == "alone") for name in names]


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> check.Check:
    (tmp_path / "steps.py").write_text(STEPS)
    monkeypatch.setattr(check, "HERE", tmp_path)
    monkeypatch.setenv("GPU", "1")
    monkeypatch.chdir(tmp_path)
    return check.Check(tmp_path, 60.0, False)


@pytest.mark.slow
def test_every_step_is_reported_whatever_becomes_of_it(
    checked: check.Check, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not checked.run([*steps("wrong", "broken", "dead", "alone", "of-gpu"), *steps("slow", limit=2)])
    states = {answer.step.name: answer.state for answer in checked.answers}
    assert states == {
        "wrong": "not held",
        "broken": "failed",
        "dead": "failed",
        "slow": "failed",
        "alone": "held",
        "of-gpu": "held",
    }
    out = capsys.readouterr().out
    assert "this step has broken" in out and "not done after 2 s" in out and "2 held, 1 not held, 3 failed" in out
    report = json.loads((checked.out / "report.json").read_text())
    assert [step["step"] for step in report["steps"]] == list(states) and report["machine"]["gpu"] == "a GPU"
    child = int((checked.out / "child").read_text())
    assert not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_text()


@pytest.mark.slow
def test_only_a_gpu_on_which_everything_held_is_proof(
    checked: check.Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checked.run(steps("one", "of-gpu", "alone"))
    assert not check.Check(tmp_path, 60.0, True).run(steps("one"))
    assert not check.Check(tmp_path, 0.1, False).run(steps("one"))  # no time was left
    monkeypatch.delenv("GPU")
    without = check.Check(tmp_path, 60.0, False)
    assert not without.run(steps("one", "of-gpu"))
    assert [(answer.state, answer.said) for answer in without.answers] == [("held", "as asked"), ("skipped", "no GPU")]


def test_what_a_machine_lacks_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["numpy", "no-such-package", "nor-this-one"]
    (tmp_path / "no_such_package-1.0-py3-none-any.whl").touch()
    assert packages.lacking(names) == names[1:]
    monkeypatch.setattr(packages, "NEEDED", names)
    assert [file.name for file in packages.missing(tmp_path)] == ["no_such_package-1.0-py3-none-any.whl"]
    assert "nor-this-one" in capsys.readouterr().err
    assert packages.minimum("pyarrow") == "26" and packages.minimum("six") == "0"
    monkeypatch.setattr(packages, "minimum", lambda name: "999.1")
    assert packages.lacking(["numpy"]) == ["numpy"]  # too old


def test_evofool_knows_its_version_without_being_installed(tmp_path: Path) -> None:
    packages.describe(tmp_path)
    code = "import evofool; print(evofool.__version__)"
    command = [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; {code}"]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == "0.1.0"
