"""`evofool targets layers`: the layers of a network, by the names that readouts have."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from evofool.cli import output
from evofool.cli.options import AllowCode, Json, file_path
from evofool.cli.targets import targets_app
from evofool.errors import StorageError

if TYPE_CHECKING:
    from evofool.targets.readout import Layer


@targets_app.command("layers")
def layers(
    spec: Annotated[str, Argument(metavar="SPEC", help="As target.spec, e.g. efficientnet-lite:0.")],
    png: Annotated[
        Path | None, Option(help="Write the filters of the first convolution to this file.", parser=file_path)
    ] = None,
    every: Annotated[bool, Option("--all", help="Also layers that are made of other layers.")] = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """The layers of a network, with the shape of what each gives for one image: units to read are LAYER:CHANNEL."""
    from evofool.config import load_config
    from evofool.targets.specs import check_section, section_named

    section = load_config({"target": section_named(spec, "SPEC")}).target
    check_section(section, allow_code=allow_code, key="SPEC")
    from evofool.targets.checking.filters import draw_filters, first_filters
    from evofool.targets.opening import open_target
    from evofool.targets.readout import layers_of

    target = open_target(section, allow_code=allow_code, key="SPEC").target
    found = layers_of(target)
    name, filters = first_filters(target, found) if png else ("", None)
    shown = [layer for layer in found if every or not layer.parts]
    if as_json:
        output.print_json([asdict(layer) | {"channels": layer.channels} for layer in shown])
    else:
        rows = [[layer.name, layer.kind, _shape(layer), _channels(layer), _note(layer)] for layer in shown]
        output.table(["layer", "kind", "gives", "channels", ""], rows, {"channels"})
    if png and filters is not None:
        try:
            draw_filters(filters).save(png, format="PNG")
        except OSError as error:
            raise StorageError(f"--png: {png} cannot be written ({error.strerror or error}).") from None
        output.tell(f"{png}: the {len(filters)} filters of {name}, which is {spec}'s first convolution")


def _shape(layer: Layer) -> str:
    return "" if layer.gives is None else " x ".join(map(str, layer.gives))


def _channels(layer: Layer) -> object:
    return "" if layer.channels is None else layer.channels


def _note(layer: Layer) -> str:
    """Why a layer cannot be read; "" if it can."""
    if layer.uses == 0:
        return "not used"
    if layer.uses > 1:
        return f"used {layer.uses} times: cannot be read"
    return "" if layer.channels is not None else "cannot be read"
