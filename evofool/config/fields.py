"""What the models of the configuration are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from evofool.base.registry import known

__all__ = ["Kind", "RowOf", "Section", "key", "refuse_bool"]  # and the types of numbers below

Kind = Literal["semantic", "numerics", "operational", "stopping"]
_T = TypeVar("_T")


def key(default: object, description: str, kind: Kind = "semantic") -> Any:
    """A key: its default (`...` for none), a sentence, and its kind; the strictest kind where none is named."""
    return Field(default, description=description, json_schema_extra={"kind": kind})


def refuse_bool(value: _T) -> _T:
    """The value, unless it is a boolean: YAML's yes/no/on/off, which Python would take for the numbers 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number, not a boolean")
    return value


Rate = Annotated[float, Field(ge=0.0, le=1.0), BeforeValidator(refuse_bool)]
NotNegative = Annotated[float, Field(ge=0.0), BeforeValidator(refuse_bool)]
Seconds = Annotated[float, Field(gt=0.0), BeforeValidator(refuse_bool)]
Positive = Annotated[int, Field(gt=0, lt=1 << 63), BeforeValidator(refuse_bool)]
PositiveOrAuto = Literal["auto"] | Positive


@dataclass(frozen=True)
class RowOf:
    """Of a text: that it is a name in a table of the registry, or, with `code`, code of the user's own."""

    table: Mapping[str, object]
    code: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        names: dict[str, Any] = {"enum": list(self.table)}
        return {**handler(schema), **({"anyOf": [names, {"pattern": "^python:"}]} if self.code else names)}

    def _checked(self, value: str) -> str:
        if value in self.table or (self.code and value.startswith("python:")):
            return value
        own = "; your own is python:FILE.py:callable" if self.code else ""
        raise ValueError(f"{value!r} is unknown: {known(value, self.table).removesuffix('.')}{own}")


class Section(BaseModel):
    """Part of a configuration: frozen, and strict about unknown keys and about types ("1" is not 1)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
