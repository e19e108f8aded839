"""The keys of a configuration with their kinds, and what differs between two configurations."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel

from evofool.config.fields import Kind
from evofool.config.introduced import INTRODUCED
from evofool.config.sections import Config
from evofool.records import Facts

__all__ = ["differences", "fingerprint", "flatten", "key_table"]


def key_table() -> dict[str, tuple[Kind, object, str]]:
    """{dotted key: (kind, default, description)} for every key of the schema, in the order of the file."""
    table: dict[str, tuple[Kind, object, str]] = {}

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, info in model.model_fields.items():
            annotation = info.annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                walk(annotation, f"{prefix}{name}.")
            else:
                extra = info.json_schema_extra
                assert isinstance(extra, dict), f"{prefix}{name} has no kind"
                default = None if info.is_required() else info.default
                table[prefix + name] = (extra["kind"], default, info.description or "")  # type: ignore[assignment]

    walk(Config, "")
    return table


def flatten(config: Config) -> Facts:
    """{dotted key: value}, e.g. {"search.lag": 2}; values as in YAML, so a schedule is a dict."""
    values, dumped = {}, config.model_dump()
    for key in key_table():
        section, _, name = key.rpartition(".")
        values[key] = (dumped[section] if section else dumped)[name]
    return values


def fingerprint(config: Config, *, without_seed: bool = False) -> str:
    """sha256 (hex) of the semantic keys; two configs with one fingerprint ask for the same archive.

    Keys at the value they were introduced with do not count (introduced.py).
    """
    kinds = key_table()
    semantic = {
        k: v
        for k, v in flatten(config).items()
        if kinds[k][0] == "semantic" and v != INTRODUCED[k] and not (without_seed and k == "seed")
    }
    return hashlib.sha256(json.dumps(semantic, sort_keys=True).encode()).hexdigest()


def differences(old: Config, new: Config) -> dict[str, tuple[Kind, object, object]]:
    """{dotted key: (kind, old value, new value)} of the keys that differ."""
    kinds, before, after = key_table(), flatten(old), flatten(new)
    return {key: (kinds[key][0], before[key], after[key]) for key in kinds if before[key] != after[key]}
