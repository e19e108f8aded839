"""What the models of the configuration are made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["Kind", "Positive", "PositiveOrAuto", "Rate", "Seconds", "Section", "key", "refuse_bool"]

Kind = Literal["semantic", "numerics", "operational", "stopping"]


def key(kind: Kind, default: Any, description: str, **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"kind": kind}, **limits)


def refuse_bool(value: Any) -> Any:
    # YAML's yes/no/on/off become booleans, which Python takes for the numbers 1 and 0.
    if isinstance(value, bool):
        raise ValueError("Input should be a number, not a boolean")
    return value


Rate = Annotated[float, Field(ge=0.0, le=1.0), BeforeValidator(refuse_bool)]
Positive = Annotated[int, Field(gt=0, lt=1 << 63), BeforeValidator(refuse_bool)]
PositiveOrAuto = Literal["auto"] | Positive
Seconds = Annotated[float, Field(gt=0.0), BeforeValidator(refuse_bool)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
