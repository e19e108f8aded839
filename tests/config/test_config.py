"""The configuration: what is refused and with which words, YAML and overrides, kinds of keys, fingerprints.

keys.py gives every key of the schema a second valid value, and the tests run over the whole schema with it: a new key
without a row there fails the first of them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from keys import BASE, KEYS, KINDS, OTHER, SECTIONS, nested

from evofool.config import (
    Config,
    differences,
    fingerprint,
    flatten,
    key_table,
    load_config,
    parse_condition,
    to_yaml,
)
from evofool.config.files import MAX_FILE
from evofool.config.introduced import INTRODUCED
from evofool.config.schedules import SCHEDULED
from evofool.config.sections import CONDITION_NAMES
from evofool.errors import ConfigError


def refusal(source: Any, overrides: list[str] | None = None) -> str:
    """The message with which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    assert caught.value.exit_code == 2
    return caught.value.message


# ------------------------------------------------------------------------------------------------------- the schema


def test_the_tables_have_exactly_the_keys_of_a_configuration() -> None:
    written = yaml.safe_load(to_yaml(load_config(BASE)))
    keys = {key for key, value in written.items() if not isinstance(value, dict)}
    keys |= {f"{section}.{name}" for section, value in written.items() if isinstance(value, dict) for name in value}
    assert keys == set(KEYS) == {*OTHER, "schema_version"}


def test_every_key_has_a_kind_a_sentence_and_a_default() -> None:
    defaults = flatten(load_config(BASE))
    for key, (kind, default, description) in key_table().items():
        assert kind == KINDS.get(key, "semantic"), key
        assert len(description.split()) >= 3 and description[-1] in ".:)", key
        assert key == "target.spec" or defaults[key] == default, key
    assert "target.spec: missing" in refusal({"target": {}})


@pytest.mark.parametrize("key", OTHER)
def test_another_value_is_read_wherever_it_stands_and_told_from_the_default(key: str, tmp_path: Path) -> None:
    kind, default, _ = key_table()[key]
    path, value = tmp_path / "config.yaml", OTHER[key]
    path.write_text(yaml.safe_dump(nested(key, value)))
    old, new = load_config(BASE), load_config(nested(key, value))
    for config in (new, load_config(path), load_config(BASE, [f"{key}={json.dumps(value)}"])):
        assert flatten(config)[key] == value != default
    before = BASE["target"]["spec"] if key == "target.spec" else default
    assert differences(old, new) == {key: (kind, before, value)} and differences(new, new) == {}
    assert (fingerprint(old) != fingerprint(new)) == (kind == "semantic")
    without = fingerprint(old, without_seed=True) != fingerprint(new, without_seed=True)
    assert without == (kind == "semantic" and key != "seed")


# -------------------------------------------------------------------------------------------------- unknown keys


def misspellings(word: str) -> set[str]:
    middle = len(word) // 2
    dropped = word[:middle] + word[middle + 1 :]
    doubled = word[:middle] + word[middle] + word[middle:]
    swapped = word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]
    return {dropped, doubled, swapped, word[:-1], word[1:]} - {word, ""}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_misspelt_or_in_a_wrong_section_is_refused_naming_the_right_one(key: str) -> None:
    section, dot, name = key.rpartition(".")
    for wrong in misspellings(name):
        path = f"{section}{dot}{wrong}"
        assert f"{path}: unknown key; did you mean {key}?" in refusal(nested(path, 1))
    for wrong in {*(f"{section}.{name}" for section in SECTIONS), name} - set(KEYS):
        hint = re.search(rf"{re.escape(wrong)}: unknown key; did you mean (\S+)\?", refusal(nested(wrong, 1)))
        assert hint and hint[1] in KEYS and hint[1].rpartition(".")[2] == name


def test_a_misspelt_section_is_refused_naming_the_right_one() -> None:
    for section in SECTIONS:
        for wrong in misspellings(section):
            assert f"{wrong}: unknown key; did you mean {section}?" in refusal({**BASE, wrong: {}})


def test_key_that_resembles_nothing_is_refused_with_the_way_to_the_list_of_keys() -> None:
    assert "zzz.qqq" not in refusal({**BASE, "zzz": {"qqq": 1}}).partition("zzz: unknown key")[2]
    assert "`evofool config schema` lists all keys" in refusal({**BASE, "zzz": {"qqq": 1}})


def test_all_mistakes_are_reported_at_once() -> None:
    message = refusal({**BASE, "seed": -1, "search": {"offsprin": 1, "lag": 0}})
    assert all(text in message for text in ("seed: ", "search.offsprin: ", "search.lag: "))


# -------------------------------------------------------------------------------------------------- wrong values

NUMBERS = tuple(key for key, value in OTHER.items() if isinstance(value, int | float) and value is not True)
WHOLE = tuple(key for key in NUMBERS if isinstance(OTHER[key], int))
RATES = tuple(f"variation.{name}" for name in SCHEDULED)
LIMITS = ("search.generations", "search.max_evaluations", "search.max_time", "variation.full_rate_up_to")
FROM_ZERO = tuple(key for key in NUMBERS if key.startswith("variation.") and key not in WHOLE)


def not_values_of(key: str) -> list[Any]:
    """What a key does not take."""
    values: list[Any] = [{"a": 1}, [[]], [None]]
    values += [True, False] if key != "variation.parallel_connections" else []
    values += ["\N{SNOWMAN}"] if key not in ("target.spec", "storage.path") else []
    values += [None] if key not in LIMITS else []
    values += [[]] if key in ("target.classes", "encoding.activations") else []
    if key in NUMBERS:
        values += [float("nan"), float("inf"), float("-inf"), -1, -0.001, "1", "1.0"]
        values += [0] if key not in ("seed", "storage.snapshot_every", *FROM_ZERO) else []
    values += [1.5, 1.0] if key in WHOLE else []
    values += [1.0000001] if key in RATES else []
    return values


@pytest.mark.parametrize("key", KEYS)
def test_a_value_that_cannot_be_meant_is_refused_naming_the_key(key: str) -> None:
    for value in not_values_of(key):
        assert f"{key}: " in refusal(nested(key, value)), value


def test_values_at_the_edge_are_taken() -> None:
    for key in FROM_ZERO:
        load_config(nested(key, 0.0))
    for key in RATES:
        assert flatten(load_config(nested(key, 1)))[key] == 1.0
    config = load_config(BASE, [f"{key}=null" for key in LIMITS])
    assert [flatten(config)[key] for key in LIMITS] == [None] * 4


def test_more_offspring_than_slots_is_refused() -> None:
    # An individual id has 24 bits for the slot; one more and it is the id of the next generation's slot 0.
    load_config(nested("search.offspring", 2**24))
    assert "search.offspring: " in refusal(nested("search.offspring", 2**24 + 1))
    assert "search.initial: " in refusal(nested("search.initial", 2**24 + 1))


def test_chunk_that_is_not_a_multiple_of_the_micro_batch_is_refused() -> None:
    evaluation = {"chunk": 100, "micro_batch": 33}
    message = refusal({**BASE, "evaluation": evaluation})
    assert "evaluation.chunk (100) must be a multiple of evaluation.micro_batch (33)" in message
    assert load_config({**BASE, "evaluation": {**evaluation, "chunk": 99}}).evaluation.chunk == 99


UNSAFE = ("", ".", "..", "../x", "a/b", "/a", "a\\b", "a\n", "a b", "-a", "_a", ".a", "é", "a{b}", "a{seed", "%2e%2e")


def test_a_name_is_a_safe_name_of_a_folder() -> None:
    for name in (*UNSAFE, "a" * 65):
        assert "name: a name has 1 to 64 letters" in refusal({**BASE, "name": name}), name
    for name in ("a", "7", "a" * 64, "A.b_c-9", "a{seed}b"):
        assert load_config({**BASE, "name": name}).name == name


def test_seed_is_filled_into_the_name_of_the_run_only() -> None:
    config = load_config({**BASE, "name": "lenet-{seed}-{seed}", "seed": 12})
    assert config.run_name == "lenet-12-12"
    assert config.name == "lenet-{seed}-{seed}"


UNREADABLE = ("", "median", "median >=", "median >= ", "medain >= 1", "median == 1", "median => 1", "1 <= median")
NO_NUMBER = ("median >= nan", "median >= inf", "median >= .", "median >= 1e", "median >= 1 or filled > 2")


def test_a_condition_is_read_or_refused() -> None:
    for name in CONDITION_NAMES:
        for operator in (">=", "<=", ">", "<"):
            assert parse_condition(f"  {name}{operator} -1.5e-3 ") == (name, operator, -0.0015)
    for text in (*UNREADABLE, *NO_NUMBER):
        with pytest.raises(ValueError):
            parse_condition(text)
        assert "search.stop_when: " in refusal(nested("search.stop_when", ["filled >= 3", text])), text


# ----------------------------------------------------------------------------------------------------------- YAML


def billion_laughs() -> str:
    lines = ["a0: &a0 [lol]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 1\nseed: 2\n", "'seed' appears twice (line 2)"),
        ("search: {lag: 1, lag: 2}\n", "'lag' appears twice"),
        ("target: &t {spec: x}\nother: *t\n", "aliases are not accepted (line 2)"),
        ("target: &t {spec: x}\nsearch:\n  <<: *t\n", "aliases are not accepted"),
        (billion_laughs(), "aliases are not accepted"),
        ("seed: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("target: !!python/name:os.system\n", "not valid YAML"),
        ("target: {spec: x}\n---\nseed: 2\n", "not valid YAML"),
        ("target: {spec: x\n", "not valid YAML"),
        ("target:\n\tspec: x\n", "not valid YAML"),
        ("\0", "not valid YAML"),
        ("[" * 3_000, "over 32 in one another"),
        ("seed: " + "[" * 40 + "]" * 40, "over 32 in one another (line 1)"),
        ("seed: [" + "1, " * 10_000 + "1]", "over 10000 values"),
        (
            "target: {spec: x}\nseed: 0x" + "f" * 5000,
            "(got int, too long to show)",
        ),  # Python writes no number of so many digits
        ("target: {spec: x}\nsearch: {lag: '" + "x" * 5000 + "'}", "xxx...)"),
        ("", "a config is a mapping of sections"),
        ("- a\n- b\n", "a config is a mapping of sections"),
        ("just a sentence\n", "a config is a mapping of sections"),
        ("target: x\n", "target: "),
        ("target: {spec: x}\nencoding:\n", "encoding: "),
        ("1: 2\ntarget: {spec: x}\n", ": 1: "),
        ("? [a, b]\n: 1\n", "not valid YAML"),
        ("? {a: b}\n: 1\n", "not valid YAML"),
        ("target: {spec: x}\nsearch: {max_time: .inf}\n", "search.max_time: "),
        ("target: {spec: x}\nsearch: {max_time: 1e400}\n", "search.max_time: "),
        ("target: {spec: x}\nvariation: {mutation_rate: .nan}\n", "variation.mutation_rate: "),
        ("target: {spec: x}\nsearch: {lag: yes}\n", "search.lag: should be a number, not a boolean"),
        ("target: {spec: x}\nsearch: {lag: on}\n", "search.lag: should be a number, not a boolean"),
    ],
)
def test_yaml_that_cannot_be_meant_is_refused_naming_the_file(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    message = refusal(path)
    assert words in message
    assert str(path) in message


def test_deep_yaml_is_refused_in_our_words_whatever_those_of_pyyaml_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(text: str, **options: Any) -> Any:
        raise yaml.MarkedYAMLError(problem="no more of this, please")
        yield

    monkeypatch.setattr(yaml, "parse", refuse)
    assert "over 32 in one another" in refusal(BASE, ["seed=" + "[" * 40 + "]" * 40])
    assert "no more of this, please" in refusal(BASE, ["seed=" + "[]" * 40])


def test_not_every_one_of_thousands_of_mistakes_is_told() -> None:
    message = refusal({"target": {"spec": "x"}, **{f"key{i}" * 100: i for i in range(5000)}})
    assert message.count("\n") == 20 and message.endswith("and more of the kind.") and len(message) < 5000


def test_override_of_a_key_in_thousands_of_sections_is_refused() -> None:
    assert "no key has so many dots" in refusal({"target": {"spec": "x"}}, ["a." * 5000 + "a=1"])


def test_override_that_is_no_text_is_refused() -> None:
    assert "not valid YAML" in refusal({"target": {"spec": "x"}}, ["name=\ud800"])


def test_file_larger_than_a_mebibyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    head = "target: {spec: x}\n#"
    path.write_text(head + "-" * (MAX_FILE - len(head)))
    load_config(path)
    path.write_text(head + "-" * (MAX_FILE - len(head) + 1))
    assert f"larger than {MAX_FILE} bytes" in refusal(path)
    # The limit is in bytes, of which a character can have three.
    path.write_text(head + "\N{EURO SIGN}" * (MAX_FILE // 2), encoding="utf-8")
    assert f"larger than {MAX_FILE} bytes" in refusal(path)


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "no such config file" in refusal(tmp_path / "missing.yaml")
    assert "cannot be read" in refusal(tmp_path)
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: é\n".encode("latin-1"))
    assert "cannot be read" in refusal(path)


def test_mapping_that_json_cannot_hold_is_refused() -> None:
    assert "target" in refusal({"target": {"spec": Path("x")}})


def test_exponents_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for text in ("1e-3", "1E-3", "+1e-3", "0.1e-2", "1.e-3", ".1e-2", "0.001", "1.0e-3"):
        path.write_text(f"target: {{spec: x}}\nvariation: {{mutation_rate: {text}}}\n")
        assert load_config(path).variation.mutation_rate == 0.001
        assert load_config(BASE, [f"variation.mutation_rate={text}"]).variation.mutation_rate == 0.001


# ------------------------------------------------------------------------------------------------------ overrides


def test_overrides_reach_nested_and_absent_sections_and_the_later_wins() -> None:
    data = copy.deepcopy(BASE)
    changes = ["seed=3", "search.lag=5", "search.lag=4", "target.classes=[3, four]", "search.generations=null"]
    config = load_config(data, [*changes, "encoding={kind: direct}", "encoding.colour=rgb"])
    assert (config.seed, config.search.lag, config.search.generations) == (3, 4, None)
    assert config.target.classes == [3, "four"]
    assert (config.encoding.kind, config.encoding.colour) == ("direct", "rgb")
    assert data == BASE, "the mapping that was given is left as it is"


def test_overrides_of_a_config_leave_it_as_it_is() -> None:
    old = load_config(BASE, ["search.stop_when=[filled >= 3]"])
    new = load_config(old, ["seed=2", "search.stop_when=[]"])
    assert (old.seed, old.search.stop_when, new.seed, new.search.stop_when) == (1, ["filled >= 3"], 2, [])
    with pytest.raises(Exception, match="frozen"):
        old.seed = 5  # type: ignore[misc]


def test_override_keeps_equals_signs_of_its_value() -> None:
    assert load_config(BASE, ["search.stop_when=['median >= 0.5']"]).search.stop_when == ["median >= 0.5"]
    assert load_config(BASE, ["target.spec=lenet:a=b"]).target.spec == "lenet:a=b"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "an override is KEY=VALUE"),
        ("=3", "an override is KEY=VALUE"),
        ("", "an override is KEY=VALUE"),
        ("seed=", "seed: "),
        ("seed=[1", "seed=: not valid YAML"),
        ("seed=*a", "aliases are not accepted"),
        ("seed=!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("search={lag: 1, lag: 2}", "'lag' appears twice"),
        ("seed.x=1", "seed.x: seed is not a section"),
        ("search.lag.x=1", "search.lag: "),
        ("search.lagg=1", "search.lagg: unknown key; did you mean search.lag?"),
        ("search=7", "search: "),
        ("schema_version=2", "schema_version: "),
    ],
)
def test_override_that_cannot_be_meant_is_refused(override: str, words: str) -> None:
    assert words in refusal({**BASE, "seed": 1}, [override])


TEXTS = ("run #3", "a: b", "[x", "on", "010", "5", "1e3", "1:30", "2024-01-01", "null", "it's", "~")


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_taken_as_it_stands_and_quotes_around_it_are_taken_off(text: str, tmp_path: Path) -> None:
    path, quoted = tmp_path / "config.yaml", json.dumps(text)
    path.write_text(f"target: {{spec: x}}\nstorage: {{path: {quoted}}}\n")
    written = [load_config(BASE, [f"storage.path={value}"]) for value in (text, quoted, f" {text} ")]
    written += [load_config(BASE, {"storage.path": text}), load_config(BASE, f"storage={{path: {quoted}}}")]
    if not set(text) & set("#:["):
        path.write_text(f"target: {{spec: x}}\nstorage:\n  path: {text}\n")
        written.append(load_config(path))
    assert {config.storage.path for config in [*written, load_config(path)]} == {text}


def test_items_are_the_same_in_a_file_and_in_an_override_and_in_no_other_base_than_ten(tmp_path: Path) -> None:
    path, items = tmp_path / "config.yaml", "[010, 1:30, 1_0.5, 2024-01-01, on, ~, 1e3, 12, '12', 0x10, -1]"
    path.write_text(f"target:\n  spec: x\n  classes: {items}\n")
    classes = ["010", "1:30", "1_0.5", "2024-01-01", "on", "~", "1e3", 12, "12", 16, -1]
    for config in (load_config(path), load_config(BASE, f"target.classes={items}")):
        assert config.target.classes == classes
    for text in ("010", "1:30", "0b11", "2024-01-01"):
        path.write_text(f"target: {{spec: x}}\nseed: {text}\n")
        for message in (refusal(path), refusal(BASE, [f"seed={text}"])):
            assert f"seed: should be a valid integer (got {text!r})" in message


def test_an_error_in_an_override_names_the_override_and_others_their_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("target: {spec: x}\nname: a b\nevaluation: {chunk: 100}\n")
    sentences = refusal(path, ["search.lag=0", "serch.lag=2", "evaluation.micro_batch=33", "evaluation.threads=2"])
    heads = dict(sentence.split(": ", 2)[1::-1] for sentence in sentences.splitlines())
    assert heads == {
        "name": str(path),
        "search.lag": "search.lag=0",
        "serch": "serch.lag=2",
        "evaluation": "evaluation.micro_batch=33",
    }
    assert refusal(BASE, {"search.lag": 0}).startswith("search.lag=0: search.lag: ")
    secret = {"path": "s3://me:canary@bucket/run", "keep": 1}  # a URL may hold a password, and is not repeated
    for leaky in ({"storage": secret}, f"storage={json.dumps(secret)}", {"storage.path": secret["path"]}):
        assert "canary" not in refusal(BASE, leaky)
    assert refusal(BASE, "storage.path=ftp://x").startswith("storage.path=...: storage.path: ftp://: ")


def test_overrides_are_taken_one_or_many_and_as_a_mapping() -> None:
    expected = load_config(BASE, ["name=x", "search.lag=3"])
    mapping = {"name": "x", "search.lag": 3}
    assert load_config(BASE, mapping) == load_config(BASE, ["name=x", {"search": {"lag": 3}}]) == expected
    assert load_config(BASE, "name=x") == load_config(BASE, ["name=x"])
    # A section's other keys stay.
    config = load_config({**BASE, "search": {"offspring": 7}}, {"search": {"lag": 3}})
    assert (config.search.offspring, config.search.lag) == (7, 3)


# -------------------------------------------------------------------------------------------- writing and reading


rates = st.floats(0, 1)
whole = st.integers(1, 2**24)
seconds = st.floats(0, exclude_min=True, allow_infinity=False)
DRAWN: dict[str, st.SearchStrategy[Any]] = {
    "name": st.from_regex(re.compile(r"\A[A-Za-z0-9]([A-Za-z0-9._-]|\{seed\}){0,8}\Z", re.ASCII)),
    "seed": st.integers(0, 2**100),
    "target.spec": st.text(),
    "target.classes": st.lists(st.integers(0, 10**6) | st.text(), min_size=1, max_size=5),
    "storage.path": st.text(),
    "storage.history": st.sampled_from(["full", "lineage", "elites"]),
    "encoding.activations": st.lists(st.text(), min_size=1, max_size=3),
    "encoding.weight_limit": st.floats(0, 1e6, exclude_min=True),
    "variation.crossover_rate": rates,
    "variation.mutation_rate": rates,
    "variation.mutation_eta": st.floats(0, allow_infinity=False),
    "search.offspring": whole,
    "search.generations": st.none() | whole,
    "search.max_time": st.none() | seconds,
    "search.stop_when": st.lists(st.sampled_from(["median >= 0.9", "stale > 5", " filled<3 "]), max_size=3),
    "evaluation.evaluators": st.just("auto") | whole,
    "evaluation.chunk_timeout": seconds,
}


@st.composite
def configurations(draw: st.DrawFn) -> Config:
    data: dict[str, Any] = copy.deepcopy(BASE)
    keys = draw(st.sets(st.sampled_from(sorted(OTHER))))
    if "target.readouts" in keys:  # units have neither
        keys -= {"target.classes", "search.objective"}
    for key in keys:
        *sections, last = key.split(".")
        place = data
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = draw(DRAWN.get(key, st.just(OTHER[key])))
    return load_config(data)


# Drawing text for the first time builds tables, which takes seconds.
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configurations())
@example(load_config({**BASE, "name": "1e5"}))
@example(load_config(nested("target.classes", ["5e3", "1E-3"])))
@example(load_config(nested("target.spec", "null")))
@example(load_config(nested("target.classes", ["next line \x85"])))
@example(load_config(nested("storage.path", "2026-01-01")))
def test_yaml_round_trip(tmp_path_factory: pytest.TempPathFactory, config: Config) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    path.write_bytes(to_yaml(config).encode())
    read = load_config(path)
    assert read == config
    assert fingerprint(read) == fingerprint(config)
    assert load_config(config) == config


# ---------------------------------------------------------------------------------------------------- fingerprint


def test_fingerprints_of_all_single_changes_differ() -> None:
    prints = [fingerprint(load_config(nested(key, value))) for key, value in OTHER.items() if key not in KINDS]
    assert len({*prints, fingerprint(load_config(BASE))}) == len(prints) + 1


def test_fingerprint_tells_a_class_name_from_a_class_index() -> None:
    by_name, by_index = (load_config(nested("target.classes", [value])) for value in ("3", 3))
    assert fingerprint(by_name) != fingerprint(by_index)


def test_fingerprint_does_not_see_how_a_value_was_written() -> None:
    written = load_config(nested("variation.mutation_rate", 1)), load_config(nested("variation.mutation_rate", 1.0))
    assert fingerprint(written[0]) == fingerprint(written[1])
    assert fingerprint(load_config(BASE)) == fingerprint(load_config(nested("seed", 1)))


def test_fingerprint_leaves_out_what_is_as_it_was_introduced() -> None:
    introduced = {key: value for key, value in INTRODUCED.items() if value is not None and key not in KINDS}
    text = json.dumps({"target.spec": BASE["target"]["spec"]}, sort_keys=True)
    config = load_config(BASE, [f"{key}={json.dumps(value)}" for key, value in introduced.items()])
    assert fingerprint(config) == hashlib.sha256(text.encode()).hexdigest() != fingerprint(load_config(BASE))


# ------------------------------------------------------------------------------------------------------ schedules


def rates(schedule: dict[str, Any], generations: list[int], start: float = 0.1) -> list[float]:
    config = load_config({**BASE, "variation": {"mutation_rate": start, "schedules": {"mutation_rate": schedule}}})
    return [config.variation.at(g).mutation_rate for g in generations]


def test_halving_is_that_of_the_paper() -> None:
    # "drops by half every 1000 generations"
    found = rates({"kind": "halving", "every": 1000}, [0, 999, 1000, 1999, 2000, 20_000])
    assert found == [0.1, 0.1, 0.05, 0.05, 0.025, 0.1 / 2**20]


def test_halving_stops_at_its_floor_and_never_rises_to_it() -> None:
    assert rates({"kind": "halving", "every": 10, "floor": 0.03}, [0, 10, 20, 500]) == [0.1, 0.05, 0.03, 0.03]
    assert rates({"kind": "halving", "every": 10, "floor": 0.5}, [0, 10, 500]) == [0.1, 0.1, 0.1]


def test_linear_goes_from_the_rate_to_its_end_and_stays() -> None:
    found = rates({"kind": "linear", "until": 4, "to": 0.5}, [0, 1, 2, 3, 4, 5, 999])
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5])


def test_steps_hold_until_the_next() -> None:
    found = rates({"kind": "steps", "at": {10: 0.9, 3: 0.4}}, [0, 2, 3, 9, 10, 11])
    assert found == [0.1, 0.1, 0.4, 0.4, 0.9, 0.9]


def test_other_rates_are_left_alone() -> None:
    config = load_config(BASE, ["variation.schedules={mutation_rate: {kind: halving, every: 1}}"]).variation
    assert config.at(3).model_copy(update={"mutation_rate": config.mutation_rate}) == config


@pytest.mark.parametrize(
    ("schedules", "words"),
    [
        (
            {"mutation": {"kind": "halving", "every": 5}},
            "'mutation' is no rate; rates are crossover_rate, mutation_rate",
        ),
        ({"mutation_rate": {"kind": "sawtooth"}}, "variation.schedules"),
        ({"mutation_rate": {"kind": "halving"}}, "variation.schedules"),
        ({"mutation_rate": {"kind": "halving", "every": 0}}, "variation.schedules"),
        ({"mutation_rate": {"kind": "linear", "until": 5, "to": 1.5}}, "variation.schedules"),
        ({"mutation_rate": {"kind": "steps", "at": {}}}, "variation.schedules"),
        ({"mutation_rate": {"kind": "halving", "every": 5, "until": 5}}, "variation.schedules"),
    ],
)
def test_schedule_that_cannot_be_meant_is_refused(schedules: dict[str, Any], words: str) -> None:
    assert words in refusal(nested("variation.schedules", schedules))


def test_operator_that_is_no_code_is_refused() -> None:
    assert "is not python:FILE.py:callable" in refusal(nested("variation.operators", {"mutate": "gaussian"}))
    assert "variation.operators" in refusal(nested("variation.operators", {"mutat": "python:a.py:b"}))
