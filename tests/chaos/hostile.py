"""What strangers send: configurations, genomes, Parquet files and pictures that mean no good, by the thousand.

Each must be accepted, or refused with one of evofool's own errors. Refusing takes SECONDS of processor at most, and
SECONDS_PER_MIB more for what is sent or honestly unpacked; neither takes more than MOST_MIB of memory.
"""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from chaos.forks import Child
from chaos.outcome import Outcome
from evofool.config import key_table, load_config
from evofool.encoding import variation
from evofool.encoding.exchange import from_json
from evofool.encoding.kinds import make_encoding
from evofool.errors import EvofoolError

__all__ = ["MIB", "Case", "noisy", "trial_configs", "trial_genomes", "try_all"]

MIB = 1 << 20
SECONDS, SECONDS_PER_MIB = 0.1, 0.4
TRIES = 3  # to be quick enough: on a busy machine processor seconds are longer
MOST_MIB = 500
LONGEST = 5000  # characters of a sentence that a person is to read
Case = tuple[str, float, Callable[[], Any]]  # what it is, of how many MiB, and the door it knocks at


def _measured(cases: Iterator[Case], told: Path) -> int:
    """Try each case, and write a line of JSON for it; a process of its own, since a decoder may end it."""
    with told.open("w", buffering=1) as out:
        for what, size, knock in cases:
            out.write(json.dumps(what)[:200])  # so that the last words of a process say of what it died
            Path("/proc/self/clear_refs").write_text("5")  # begin a new peak
            before, seconds, limit = _memory("VmRSS"), float("inf"), SECONDS + SECONDS_PER_MIB * size
            for _ in range(TRIES):
                began = time.process_time()
                outcome, problem = _knocked(knock)
                seconds = min(seconds, time.process_time() - began)
                if outcome != "refused" or seconds <= limit:
                    break
            mib = (_memory("VmHWM") - before) >> 10
            if outcome == "refused" and seconds > limit:
                problem = problem or f"refused after {seconds:.2f} s"
            if mib > MOST_MIB:
                problem = problem or f"{outcome} with {mib} MiB"
            out.write("\t" + json.dumps([outcome, problem, seconds, size, mib]) + "\n")
    return 0


def _knocked(knock: Callable[[], Any]) -> tuple[str, str]:
    """Whether a case was accepted, refused or broke something, and what is wrong with that."""
    try:
        knock()
    except EvofoolError as error:
        sound = error.message.strip() and len(error.message) <= LONGEST
        return "refused", "" if sound else f"a sentence of {len(error.message)} characters"
    except BaseException as error:
        return "broke", f"{type(error).__name__}: {str(error)[:300]}"
    return "accepted", ""


def _memory(name: str) -> int:
    """KiB, of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def try_all(cases: Callable[[random.Random, Path], Iterator[Case]], trials: int, folder: Path, seed: int) -> Outcome:
    """So many of the cases, in a child; a violation for each that breaks, takes long or takes much.

    Args:
        cases: makes them, of what is random and a folder for files, which are gone with the next case.
    """
    outcome, told, draw, lines = Outcome(), folder / "told", random.Random(seed), [""]

    def some() -> Iterator[Case]:
        for case, _ in zip(cases(draw, folder), range(trials)):
            yield case

    with outcome.trial("the process that tries them"):
        outcome.trials -= 1
        child = Child(folder / "output", _measured, some(), told)
        code = child.wait(3600)
        lines = told.read_text().split("\n")
        assert code == 0, f"ended with {code} at {lines[-1]}: {child.said()}"
    for line in filter(None, lines):
        what, _, found = line.partition("\t")
        with outcome.trial(what):
            how, problem, seconds, size, mib = json.loads(found)
            outcome.counts[how] += 1
            slowest = "ms at most to refuse one under 256 KiB"
            if how == "refused" and size < 0.25:
                outcome.counts[slowest] = max(outcome.counts[slowest], round(1000 * seconds))
            outcome.counts["MiB at most"] = max(outcome.counts["MiB at most"], mib)
            assert not problem, problem
    return outcome


# ------------------------------------------------------------------------------------------------------------- configs

VALUES = (
    "", "null", "~", "yes", "no", "on", "true", "-1", "0", "1e400", "-1e400", ".nan", ".inf", "-.inf", "1e-400",
    "0x" + "f" * 5000,
    "0b" + "1" * 50000, "9" * 5000, "9" * 400, "1_000", "1:30:00", "190:20:30" * 3, "0o17", "2026-01-01", "2026-99-99",
    "'" + "x" * 70000 + "'",
    "'\u202egnp.exe'", "'\U0001f600'", '"\\0"', '"\\x1b]0;owned\\x07"', "'../../etc/passwd'", "/etc/passwd", "C:\\CON",
    "'%2e%2e'",
    "a/b", "....", "-rf", "'a b'", "x" * 300, "{}", "[]", "[[]]", "[1, [2, [3]]]", "{a: {b: {c: 1}}}", "!!binary aGk=",
    "!!set {a, b}",
    "!!python/object/apply:os.system ['touch SENTINEL']", "!!python/name:os.system", "!!omap [a: 1]", "*a", "&a [1]",
    "{<<: {a: 1}}",
    "[" * 50, "[" * 3000, "[" * 100000, "{a: " * 3000, "- " * 3000, "\ud800", "\x00", "\ufeff", "\t", "|\n  x",
    ">-\n  x", "@", "`", "%TAG",
    "[" + "1, " * 20000 + "]", "{" + ", ".join(f"k{i}: {i}" for i in range(5000)) + "}",
    "{1: 2, null: 3, 1.5: 4, true: 5}", "{[1]: 2}", "? [1]\n: 2",
)  # fmt: skip
WHOLE = (
    "a: &a [x, x]\nb: &b [*a, *a]\n", "&a [*a]", "seed: 1\nseed: 2\n", "- 1\n- 2\n", "---\na: 1\n---\nb: 2\n", "42",
    "null", "", "\x00" * 100,
    "\n".join(f"key{i}: {i}" for i in range(20000)), "target:\n" + "\n".join(f"  key{i}: 1" for i in range(20000)),
    "name: x\n" * 10000, "# nothing\n" * 90000, "x" * (2 << 20), "{" * 100000, "[" * 500000, "a: " * 20000,
    "'" * 100001, "? " * 5000,
    "name: {a: 1, <<: [{b: 2}, {c: 3}]}", "%YAML 9.9\n---\n{}", "!!map {? !!str a : !!int 'x'}",
    "target: {classes: [" + "a, " * 100000 + "]}",
)  # fmt: skip


def _configs(draw: random.Random, folder: Path) -> Iterator[Case]:
    """Values put where keys are, whole files, files of noise, overrides, and names."""
    keys = [
        *key_table(),
        "name",
        "nothing",
        "target.nothing",
        "a.b.c.d",
        "variation.schedules",
        "__class__",
        "target.__dict__",
    ]
    base = {"target": {"spec": "lenet:weights/lenet.safetensors"}}
    good = (Path(__file__).parent.parent.parent / "configs" / "quickstart.yaml").read_bytes()
    path = folder / "config.yaml"

    def read(data: bytes) -> Callable[[], Any]:
        def knock() -> Any:
            return load_config(path)

        path.write_bytes(data)
        return knock

    for text in WHOLE:
        yield f"the file {text[:40]!r}", len(text) / MIB, read(text.encode("utf-8", "surrogatepass"))
    for key in keys:
        for value in VALUES:
            yield (
                f"{key}={value[:40]!r}",
                len(value) / MIB,
                lambda key=key, value=value: load_config(base, [f"{key}={value}"]),
            )
    while True:
        key, value = draw.choice(keys), draw.choice(VALUES)
        kind = draw.randrange(4)
        if kind == 0:  # a line of a good file replaced
            lines = good.decode().splitlines()
            lines[draw.randrange(len(lines))] = f"{' ' * draw.randrange(4)}{key.rpartition('.')[2]}: {value}"
            yield f"a line {value[:40]!r}", len(value) / MIB, read("\n".join(lines).encode("utf-8", "surrogatepass"))
        elif kind == 1:  # bytes of a good file replaced
            yield "noise in a good file", 0, read(noisy(draw, good))
        elif kind == 2:
            name = "".join(
                chr(draw.choice((46, 47, 37, 0, 32, 92, 45, 65, 48, 0x202E, 0x2024, 0xFF0E, 123, 125, 10)))
                for _ in range(draw.randrange(1, 90))
            )
            yield f"name {name[:40]!r}", 0, lambda name=name: _safe(load_config({**base, "name": name}).run_name)
        else:
            deep = ".".join(["a"] * draw.choice((1, 10, 500, 5000)))
            yield f"{key}.{deep[:9]}...", 0, lambda key=key, deep=deep: load_config(base, [f"{key}.{deep}=1"])


def _safe(name: str) -> None:
    assert Path("/runs", name).resolve().parent == Path("/runs") and name.isprintable(), name


def noisy(draw: random.Random, good: bytes) -> bytes:
    """Some of its bytes replaced, or a piece of it taken out, doubled or cut off."""
    data = bytearray(good)
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        data[draw.randrange(len(data))] = draw.randrange(256)
    start, length = draw.randrange(len(data)), draw.randrange(1, 200)
    kind = draw.randrange(4)
    if kind == 0:
        del data[start : start + length]
    elif kind == 1:
        data[start:start] = data[start : start + length]
    elif kind == 2:
        del data[start:]
    return bytes(data)


def trial_configs(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """Configurations in files, as overrides and as mappings."""
    return try_all(_configs, trials, folder, seed)


# ------------------------------------------------------------------------------------------------------------- genomes

ODD = (
    None, True, False, -1, 0, 1, 2**31, 2**62, 2**63, 2**64, 10**400, -(10**400), 1e308, float("nan"), float("inf"),
    "", "x", "0x1", "ff" * 40,
    "7fffffffffffffff", "4000000000000000", "0", "4", [], [[]], {}, {"a": 1}, "x" * 100000, [0] * 10000, "\ud800",
    "sine", "python:evil.py:f", "hsv",
    "direct", "cppn", "grey", "raw", "AAAA", [8192, 8192, 3], [1, 1], [0, 0], [8192, 8192], [10**400, 1], ["8", "8"],
    [8.0, 8.0],
)  # fmt: skip


def _genomes(draw: random.Random, folder: Path) -> Iterator[Case]:
    """JSON of genomes with odd values in odd places, or of other shapes; bytes of genomes with noise in them."""
    made = []
    for kind, colour in (("cppn", "hsv"), ("cppn", "grey"), ("direct", "grey")):
        settings = load_config({"target": {"spec": "live"}, "encoding": {"kind": kind, "colour": colour}}).encoding
        encoding = make_encoding(settings, (16, 16), 1 if colour == "grey" else 3)
        batch = variation.initial(encoding, 1, 0, 8)
        made += [(encoding, encoding.to_bytes(batch, row), encoding.to_json(batch, row)) for row in range(8)]
    for text in (
        "[" * 100000,
        '{"a":' * 100000,
        "",
        "null",
        "1" * 10000,
        "NaN",
        "[]",
        "{}",
        '"x"',
        "x" * (9 << 20),
        "[" + "1," * 4000000 + "1]",
    ):
        yield f"the text {text[:20]!r}", len(text) / MIB, lambda text=text: from_json(text)
    whole = json.loads(json.dumps(made[0][2]))
    nodes, connections = whole["nodes"], whole["connections"]
    for count in (4096, 4097, 65536, 65537):
        ids = [{**nodes[0], "id": f"{(1 << 62) + i:x}"} for i in range(count)]
        yield f"{count} nodes", count / 10_000, lambda ids=ids: from_json({**whole, "nodes": nodes + ids})
        chain = [
            {
                **connections[0],
                "id": f"{(1 << 62) + i:x}",
                "source": f"{(1 << 62) + i:x}",
                "destination": f"{(1 << 62) + (i + 1) % count:x}",
            }
            for i in range(count)
        ]
        ring = json.dumps({**whole, "nodes": nodes + ids, "connections": chain})
        yield f"a ring of {count}", len(ring) / MIB, lambda ring=ring: from_json(ring)
    while True:
        encoding, blob, data = draw.choice(made)
        if draw.randrange(3) == 0:
            noise = noisy(draw, blob)
            yield f"{len(noise)} bytes", 0, lambda encoding=encoding, noise=noise: encoding.from_bytes([noise])
            continue
        data = json.loads(json.dumps(data))
        for _ in range(draw.choice((1, 1, 2, 5))):
            _spoil(draw, data)
        text = json.dumps(data)
        if draw.randrange(4) == 0:
            text = noisy(draw, text.encode()).decode("latin1")
        yield f"the genome {text[:60]!r}", len(text) / MIB, lambda text=text: from_json(text)


def _spoil(draw: random.Random, data: Any) -> None:
    """Put something odd somewhere into it."""
    while True:
        places: list[Any] = list(data) if isinstance(data, dict) else list(range(len(data)))
        if not places:
            return
        place = draw.choice(places)
        if isinstance(data[place], dict | list) and draw.randrange(3):
            data = data[place]
            continue
        if draw.randrange(5) == 0:
            del data[place]
        else:
            data[place] = copy.deepcopy(draw.choice(ODD))
        return


def trial_genomes(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """Genomes as JSON and as bytes."""
    return try_all(_genomes, trials, folder, seed)
