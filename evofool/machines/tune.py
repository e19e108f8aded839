"""`evofool tune`: which shapes, layout and threads score most images a second here, measured over the whole machine.

Nothing timed ever chooses numerics at run time; this measures on request, and the user puts the choice into the
configuration, by hand or with --write.
"""

from __future__ import annotations

import math
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evofool.base.source import Source
from evofool.config import Config, differences, load_config
from evofool.errors import ConfigError, StorageError
from evofool.evaluate.memory import gpus
from evofool.evaluate.opening import resolve_numerics
from evofool.machines.probe import opened_problem
from evofool.machines.sweep import SLOW, Choice, Machine, alternated, coarse, share_used, whole_chunk
from evofool.records import Numerics
from evofool.store import files

__all__ = ["KEYS", "LEAST_GAIN", "Choice", "Tuning", "lines_of", "share_used", "tune", "with_keys", "write"]

KEYS = ("threads", "micro_batch", "chunk", "memory_format")
LEAST_GAIN = 1.03
FINALISTS = 3
ROUNDS = (3, 15)  # of the final, at least and at most


@dataclass
class Tuning:
    """What was measured."""

    present: Choice
    best: Choice
    choices: list[Choice]  # all of them, the fastest first
    ratios: list[float]  # best to present, round by round
    not_measured: str  # why larger micro-batches were left out, or ""

    @property
    def gain(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def worth_it(self) -> bool:
        """Whether the best is another than the present one, over 3 % faster, and in three rounds of four."""
        ordered = sorted(self.ratios)
        lower_quartile = ordered[(len(ordered) - 1) // 4]
        return self.best is not self.present and self.gain > LEAST_GAIN and lower_quartile > 1


def tune(
    config: Config, *, seconds: float = 60.0, allow_code: bool = False, tell: Callable[[str], None] = lambda text: None
) -> Tuning:
    """Measure this machine for a configuration's target and encoding: coarsely, then the best few in turns.

    Args:
        seconds: about how long, after the processes have started.
        tell: receives a sentence now and then.

    Raises:
        EvofoolError: the target cannot be built, or fails.
    """
    source = Source(config.target.spec, allow_code)
    problem = opened_problem(config, source)
    settings, search = config.evaluation, config.search
    numerics = resolve_numerics(settings, problem.target.family, gpus() > 0)
    machine = Machine(config, source, numerics.device)
    present = Choice(numerics, machine.evaluators(numerics.threads))
    try:
        machine.start()
        if machine.rate(present, 0.0) is None:
            raise ConfigError("evaluation.micro_batch: the present choice does not fit into memory; lower it.")
        started = time.monotonic()
        choices, why = coarse(machine, present, seconds / 2)
        choices.sort(key=lambda choice: -choice.coarse)
        finalists: list[Choice] = []
        for choice in [c for c in choices if c.coarse > SLOW * choices[0].coarse][:FINALISTS]:
            exact = _fitted(choice, search.offspring, numerics)
            if exact.numerics not in [numerics, *(f.numerics for f in finalists)]:
                finalists.append(exact)
        tell(f"{len(choices)} choices measured once; the best {len(finalists)} and the present one again, in turns.")
        _final(machine, [present, *finalists], started + seconds)
    finally:
        machine.close()
    best = max([present, *finalists], key=lambda choice: choice.per_second)
    ratios = [new / old for new, old in zip(best.rounds, present.rounds)]
    again = {choice.numerics for choice in (present, *finalists)}
    rest = [choice for choice in choices if choice.numerics not in again]
    ranked = sorted([present, *finalists], key=lambda choice: -choice.per_second)
    return Tuning(present, best, [*ranked, *rest], ratios, why)


def _final(machine: Machine, choices: list[Choice], deadline: float) -> None:
    """Measure in turns."""
    for number in range(ROUNDS[1]):
        left = deadline - time.monotonic()
        if number >= ROUNDS[0] and left <= 0:
            return
        share = max(0.2, left / (len(choices) * max(1, 6 - number)))
        for choice in alternated(choices, number):
            choice.rounds.append(machine.rate(choice, share / 2) or 0.0)


def _fitted(choice: Choice, offspring: int, present: Numerics) -> Choice:
    """The smallest micro-batch that takes as many forward passes for a generation: the same work, less padding."""
    n = choice.numerics
    micro = math.ceil(offspring / math.ceil(offspring / n.micro_batch))
    exact = replace(n, chunk=whole_chunk(micro, present), micro_batch=micro)
    return Choice(exact, choice.evaluators, choice.coarse)


# ------------------------------------------------------------------------------------------------ into the config


def lines_of(numerics: Numerics) -> list[str]:
    """The YAML lines of a choice."""
    return ["evaluation:", *(f"  {key}: {getattr(numerics, key)}" for key in KEYS)]


def with_keys(text: str, numerics: Numerics) -> str:
    """The text of a YAML configuration with a choice in its section `evaluation`, all else as it was.

    Raises:
        ConfigError: the text is not laid out so that lines can be changed safely, or would not mean the same.
    """
    new = _edited(text, numerics)
    old_config, new_config = _parsed(text), _parsed(new) if new else None
    wanted = {f"evaluation.{key}": getattr(numerics, key) for key in KEYS}
    if old_config is None or new_config is None:
        raise ConfigError("--write: this file's section evaluation cannot be edited line by line; paste the lines.")
    changed = {key: value for key, (_, _, value) in differences(old_config, new_config).items()}
    values = {f"evaluation.{key}": getattr(new_config.evaluation, key) for key in KEYS}
    if values != wanted or not changed.keys() <= wanted.keys():
        raise ConfigError("--write: editing this file would change more than these keys; paste the lines.")
    return new or ""


def write(path: Path, before: Config, numerics: Numerics) -> None:
    """Put a choice into a configuration file.

    Args:
        before: the file as it was when measuring began, without overrides.

    Raises:
        ConfigError: the file has changed since, or cannot be edited line by line; nothing is written then.
        StorageError: it cannot be written.
    """
    place = path.resolve()  # a link stays one
    with files.guard(place, "read"):
        text, mode = place.read_bytes().decode("utf-8"), place.stat().st_mode
    if _parsed(text) != before:
        raise ConfigError(f"--write: {path} was changed meanwhile; paste the lines, or tune again.")
    new = with_keys(text, numerics)
    if not os.access(place, os.W_OK):
        raise StorageError(f"--write: {path} is write-protected; paste the lines.")
    files.put(place, new.encode("utf-8"))
    with files.guard(place):
        place.chmod(mode)


def _parsed(text: str) -> Config | None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "config.yaml"
        copy.write_bytes(text.encode("utf-8"))
        try:
            return load_config(copy)
        except ConfigError:
            return None


def _edited(text: str, numerics: Numerics) -> str | None:
    """The text with lines of the section changed or added; None where it is no plain block."""
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if re.match(r"evaluation\s*:", line)]
    if not heads:
        return end.join([*lines, *lines_of(numerics)]) + end
    if len(heads) > 1 or not re.fullmatch(r"evaluation\s*:\s*(#.*)?", lines[heads[0]]):
        return None
    first = heads[0] + 1
    body = list(_body(lines, first))
    if not body:
        return end.join([*lines[:first], *lines_of(numerics)[1:], *lines[first:]]) + end
    indent = re.match(r"\s*", lines[body[0]])[0]  # type: ignore[index]
    missing = []
    for key in KEYS:
        entry = re.compile(rf"({re.escape(indent)}{key}\s*:\s+)([^\s#]+)(\s*(?:\s#.*)?)")
        there = [i for i in body if entry.fullmatch(lines[i])]
        if there:
            lines[there[0]] = entry.sub(rf"\g<1>{getattr(numerics, key)}\g<3>", lines[there[0]])
        else:
            missing.append(f"{indent}{key}: {getattr(numerics, key)}")
    after = body[-1] + 1
    return end.join([*lines[:after], *missing, *lines[after:]]) + end


def _body(lines: list[str], first: int) -> Iterator[int]:
    """Line numbers of a block's content: indented, neither empty nor a comment."""
    for i in range(first, len(lines)):
        stripped: Any = lines[i].strip()
        if not stripped or stripped.startswith("#"):
            continue
        if not lines[i].startswith((" ", "\t")):
            return
        yield i
