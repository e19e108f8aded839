"""`evofool cluster tune`: what it measures, and what it concludes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import Command

from evofool.base.source import Source
from evofool.config import Config, load_config, to_yaml
from evofool.evaluate.pool import chunks
from evofool.evaluate.resolving import resolve_numerics
from evofool.machines import tune
from evofool.machines.probe import opened_problem
from evofool.machines.sweep import Choice, share_used, whole_chunk
from evofool.machines.tune import Tuning
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


@pytest.mark.parametrize(("ratio", "sentence"), [(1.2, "1.200 times the present"), (1.02, "nothing gains more")])
def test_lines_to_paste_are_printed_where_they_gain(
    command: Command, config: Config, tmp_path: Path, found: Callable[[float], None], ratio: float, sentence: str
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(config))
    found(ratio)
    code, out, _ = command("cluster", "tune", file)
    assert code == 0 and sentence in out and "from 64 on were left out" in out
    assert (LINES in out) is ("exit code 3" in out) is (ratio > tune.LEAST_GAIN)
    lines = json.loads(command("cluster", "tune", file, "--json")[1])["lines"]
    assert lines == (LINES.splitlines() if ratio > tune.LEAST_GAIN else [])
    if lines:  # they are YAML that means the choice
        pasted = load_config({"target": {"spec": "lenet:x"}, **yaml.safe_load(LINES)}).evaluation
        assert [getattr(pasted, key) for key in tune.KEYS] == [2, 32, 64, "channels_last"]
    assert [p.name for p in tmp_path.iterdir()] == ["c.yaml"]


def test_wrong_configs_are_refused_before_measuring(command: Command, config: Config, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(config))
    assert command("cluster", "tune", tmp_path / "none.yaml")[0] == 2
    code, _, err = command("cluster", "tune", file, "target.spec=python:evil.py:build")
    assert code == 2 and "--allow-code" in err
    code, _, err = command("cluster", "tune", file, "target.classes=[zebra]")
    assert code == 2 and "no class 'zebra'" in err


@pytest.mark.slow
def test_measuring_finds_that_one_row_at_a_time_is_slow(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_config(config, ["evaluation.micro_batch=1", "evaluation.chunk=4", "search.offspring=64"])
    result = tune.tune(settings, seconds=4.0)
    assert result.worth_it and result.gain > 1.3 and result.best.numerics.micro_batch > 1
    problem = opened_problem(settings, Source(settings.target.spec))
    numerics = resolve_numerics(settings.evaluation, problem.target.family, False)
    assert result.present.numerics == numerics and result.present.evaluators == 1
    assert 3 <= len(result.present.rounds) == len(result.ratios) and result.choices[0] is result.best
    again = load_config(settings, [f"evaluation.{k}={getattr(result.best.numerics, k)}" for k in tune.KEYS])
    assert again.evaluation.chunk == result.best.numerics.chunk
    assert capsys.readouterr() == ("", "")
