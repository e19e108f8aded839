"""What the models of the configuration are made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["Kind", "Section", "key", "refuse_bool"]  # and the types of numbers below

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


class Section(BaseModel):
    """Part of a configuration: frozen, and strict about unknown keys and about types ("1" is not 1)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
