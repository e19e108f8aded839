"""`evofool tune`: what it measures, what it concludes, and what it may write."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Command

from evofool.base.source import Source
from evofool.config import Config, differences, load_config, to_yaml
from evofool.errors import ConfigError
from evofool.evaluate.opening import resolve_numerics
from evofool.evaluate.pool import chunks
from evofool.machines import tune
from evofool.machines.sweep import whole_chunk
from evofool.machines.tune import Choice, Tuning, share_used, with_keys
from evofool.records import Numerics

pytestmark = pytest.mark.slow  # `make check` leaves them to `make test`

BEST = Numerics("cpu", 64, 32, 2, "channels_last")
LINES = "evaluation:\n  threads: 2\n  micro_batch: 32\n  chunk: 64\n  memory_format: channels_last"


# ---------------------------------------------------------------------------------------------- how rows are counted


@pytest.mark.parametrize(
    ("micro", "chunk", "evaluators", "lag", "share"),
    [
        (50, 50, 2, 2, 1.0),  # 4 whole chunks
        (64, 64, 2, 2, 200 / 256),  # the last one is 8 of 64
        (8, 48, 2, 2, 1.0),  # 4 chunks of 48, one of 8
        (200, 200, 2, 1, 0.5),  # one evaluator has nothing
        (200, 200, 2, 2, 1.0),  # it has the next generation's
        (200, 200, 8, 2, 0.25),
        (50, 50, 3, 1, 4 / 6),  # two turns of three for four chunks
    ],
)
def test_padding_and_waiting_are_counted(micro: int, chunk: int, evaluators: int, lag: int, share: float) -> None:
    assert share_used(Numerics("cpu", chunk, micro, 1, "contiguous"), evaluators, 200, lag) == pytest.approx(share)


@pytest.mark.parametrize("micro", [1, 7, 32, 64, 128, 256])
def test_the_fitted_micro_batch_does_the_same_passes_with_less_padding(micro: int) -> None:
    present = Numerics("cpu", 50, 50, 1, "contiguous")
    choice = Choice(Numerics("cpu", whole_chunk(micro, present), micro, 1, "contiguous"), 2)
    exact = tune._fitted(choice, 200, present).numerics
    assert exact.micro_batch <= micro and exact.chunk % exact.micro_batch == 0

    def passes(n: Numerics) -> int:
        return sum(-(-(part.stop - part.start) // n.micro_batch) for part in chunks(200, n.chunk))

    assert passes(exact) <= -(-200 // micro) + 200 // exact.chunk + 1
    assert share_used(exact, 1, 200, 2) >= share_used(choice.numerics, 1, 200, 2)


def choice(rounds: list[float], numerics: Numerics = BEST) -> Choice:
    return Choice(numerics, 2, 0.0, rounds)


@pytest.mark.parametrize(
    ("best", "worth_it"),
    [
        ([110, 112, 108, 111], True),
        ([102, 103, 102, 103], False),  # too little
        ([150, 150, 90, 90], False),  # too unsure
        ([150, 150, 90, 150, 150], True),
    ],
)
def test_only_a_gain_that_stands_out_is_worth_it(best: list[float], worth_it: bool) -> None:
    present = choice([100] * len(best), Numerics("cpu", 50, 50, 1, "contiguous"))
    new = choice(best)
    ratios = [a / b for a, b in zip(new.rounds, present.rounds)]
    assert Tuning(present, new, [new, present], ratios, "").worth_it is worth_it
    assert not Tuning(present, present, [present], [1.0] * 4, "").worth_it


# ------------------------------------------------------------------------------------------------------ into the file


TEXTS = {
    "none": "# head\ntarget: {spec: lenet:x}  # it\nseed: 3\n",
    "no end": "target: {spec: lenet:x}",
    "block": "target:\n  spec: lenet:x\nevaluation:   # where\n  # pool first\n  pool: inline # here\n\nseed: 3 # x\n",
    "indent": "evaluation:\n     pool: inline\n     threads: 1 # one\n     chunk: auto\ntarget: {spec: lenet:x}\n",
    "all there": (
        "target: {spec: lenet:x}\nevaluation:\n  micro_batch: 8 # a\n  threads: 1\n  chunk: 16\n  memory_format: auto\n"
    ),
    "windows": "target: {spec: lenet:x}\r\nevaluation:\r\n  pool: inline\r\n# end\r\n",
    "comment between": "evaluation:\n  pool: inline\n# not indented\n  evaluators: 2\ntarget: {spec: lenet:x}\n",
    "tags": "%YAML 1.1\n---\ntarget: {spec: lenet:x}\nevaluation:\n  threads: 4\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_only_the_four_keys_change_and_every_comment_stays(name: str, tmp_path: Path) -> None:
    text = TEXTS[name]
    new = with_keys(text, BEST)
    (tmp_path / "old.yaml").write_text(text, newline="")
    (tmp_path / "new.yaml").write_text(new, newline="")
    old_config, new_config = load_config(tmp_path / "old.yaml"), load_config(tmp_path / "new.yaml")
    assert {k.split(".")[1] for k in differences(old_config, new_config)} <= set(tune.KEYS)
    assert [getattr(new_config.evaluation, key) for key in tune.KEYS] == [2, 32, 64, "channels_last"]
    left = [line for line in text.splitlines() if not any(f"{key}:" in line for key in tune.KEYS)]
    there = new.splitlines()
    assert [line for line in there if line in left] == left and ("\r\n" in new) == ("\r\n" in text)
    for comment in ("# it", "# where", "# pool first", "# here", "# x", "# one", "# a", "# end"):
        assert text.count(comment) == new.count(comment)
    assert with_keys(new, BEST) == new


@pytest.mark.parametrize(
    "text",
    [
        "target: {spec: lenet:x}\nevaluation: {pool: inline}\n",
        "target: {spec: lenet:x}\nevaluation:\n  {pool: inline}\n",
        "target: {spec: lenet:x}\nevaluation:\n  micro_batch:\n    8\n",
        'target: {spec: lenet:x}\n"evaluation":\n  pool: inline\n',
        "{target: {spec: lenet:x}}\n",
        "target: {spec: lenet:x}\n...\n",
        "name: |\n  x\nevaluation:\n  threads: 1\n",
    ],
)
def test_a_file_laid_out_otherwise_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--write: .* paste the lines"):
        with_keys(text, BEST)


def test_an_edit_that_would_change_another_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tune._edited
    monkeypatch.setattr(tune, "_edited", lambda text, n: (real(text, n) or "").replace("seed: 3", "seed: 4"))
    with pytest.raises(ConfigError, match="would change more than these keys"):
        with_keys(TEXTS["none"], BEST)


def test_writing_keeps_mode_and_links_and_refuses_a_file_that_changed(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text(TEXTS["block"])
    real.chmod(0o640)
    link.symlink_to(real)
    before = load_config(link)
    tune.write(link, before, BEST)
    assert link.is_symlink() and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert load_config(real).evaluation.micro_batch == 32
    with pytest.raises(ConfigError, match="was changed meanwhile"):
        tune.write(link, before, BEST)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.yaml", "real.yaml"]


# -------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, config: Config) -> Callable[[float], None]:
    """Puts a measured result in place of measuring."""

    def put(ratio: float) -> None:
        present = choice([100.0] * 4, Numerics("cpu", 50, 50, 1, "contiguous"))
        new = choice([100 * ratio] * 4)
        result = Tuning(present, new, [new, present], [ratio] * 4, "micro-batches from 64 on were left out")
        monkeypatch.setattr(tune, "tune", lambda *_, **__: result)

    return put


def test_lines_are_printed_and_written_only_when_asked(
    command: Command, config: Config, tmp_path: Path, found: Callable[[float], None]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("# mine\n" + to_yaml(config))
    before = file.read_bytes()
    found(1.2)
    code, out, _ = command("tune", file)
    assert code == 0 and LINES in out and "1.200 times the present choice" in out and "exit code 3" in out
    assert "from 64 on were left out" in out and file.read_bytes() == before
    code, out, _ = command("tune", file, "--write")
    assert code == 0 and f"written into {file}" in out and LINES in out
    assert list(differences(config, load_config(file))) == [
        "evaluation.chunk",
        "evaluation.micro_batch",
        "evaluation.threads",
        "evaluation.memory_format",
    ]
    assert file.read_text().startswith("# mine\n") and [p.name for p in tmp_path.iterdir()] == ["c.yaml"]


def test_no_gain_writes_nothing(
    command: Command, config: Config, tmp_path: Path, found: Callable[[float], None]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(config))
    before = file.read_bytes()
    found(1.02)
    code, out, _ = command("tune", file, "--write")
    assert code == 0 and "nothing gains more than 3 %" in out and "evaluation:" not in out
    data = json.loads(command("tune", file, "--write", "--json")[1])
    assert data["written"] is False and data["lines"] == [] and file.read_bytes() == before


def test_what_cannot_be_edited_is_printed_and_exits_2(
    command: Command, config: Config, tmp_path: Path, found: Callable[[float], None]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"target: {{spec: '{config.target.spec}'}}\nevaluation: {{pool: inline}}\n")
    found(1.2)
    code, out, err = command("tune", file, "--write")
    assert code == 2 and LINES in out and "paste the lines" in err and "say --write" in out


def test_wrong_configs_are_refused_before_measuring(command: Command, config: Config, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(config))
    assert command("tune", tmp_path / "none.yaml")[0] == 2
    code, _, err = command("tune", file, "target.spec=python:evil.py:build")
    assert code == 2 and "--allow-code" in err
    code, _, err = command("tune", file, "target.classes=[zebra]")
    assert code == 2 and "no class 'zebra'" in err


@pytest.mark.slow
def test_measuring_finds_that_one_row_at_a_time_is_slow(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_config(config, ["evaluation.micro_batch=1", "evaluation.chunk=4", "search.offspring=64"])
    result = tune.tune(settings, seconds=4.0)
    assert result.worth_it and result.gain > 1.3 and result.best.numerics.micro_batch > 1
    numerics = resolve_numerics(
        settings.evaluation, tune.opened_problem(settings, Source(settings.target.spec)).target.family, False
    )
    assert result.present.numerics == numerics and result.present.evaluators == 1
    assert 3 <= len(result.present.rounds) == len(result.ratios) and result.choices[0] is result.best
    again = load_config(settings, [f"evaluation.{k}={getattr(result.best.numerics, k)}" for k in tune.KEYS])
    assert again.evaluation.chunk == result.best.numerics.chunk
    assert capsys.readouterr() == ("", "")
