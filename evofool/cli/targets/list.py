"""`evofool targets list`: the kinds of networks, and the networks of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Argument

from evofool.base.registry import FAMILIES, known
from evofool.cli import completion, output
from evofool.cli.options import Json
from evofool.cli.targets import targets_app
from evofool.errors import ConfigError

if TYPE_CHECKING:
    from evofool.records import Facts


@targets_app.command("list")
def list_(
    kind: Annotated[
        str | None,
        Argument(metavar="[KIND]", help="Name the networks of one kind.", autocompletion=completion.families),
    ] = None,
    as_json: Json = False,
) -> None:
    """The kinds of specs, or the networks of one kind."""
    if kind is None:
        kinds = [_kind(name) for name in FAMILIES]
        if as_json:
            output.print_json(kinds)
            return
        rows = [[k["kind"], k["spec"], k["state"], "" if k["networks"] is None else k["networks"]] for k in kinds]
        output.table(["kind", "spec", "", "networks"], rows, {"networks"})
        return
    if kind not in FAMILIES:
        raise ConfigError(f"KIND: {kind!r} is none; {known(kind, FAMILIES)}")
    from evofool.targets.families import family_of

    family = family_of(kind)
    family.check_installed(f"KIND {kind}")
    networks = family.catalogue() if family.catalogue else []
    if as_json:
        output.print_json(networks)
    elif not networks:
        print(f"{family.form}: whatever the file gives; there is no list")
    else:
        columns = list(networks[0])
        rows = [[{True: "yes", False: "no"}.get(n[c], n[c]) for c in columns] for n in networks]
        output.table([c.replace("_", " ") for c in columns], rows, {"image size"})


def _kind(kind: str) -> Facts:
    from evofool.targets.families import family_of

    family = family_of(kind)
    # One with several weights has a row for each.
    count = len({n["name"] for n in family.catalogue()}) if family.installed and family.catalogue else None
    state = "installed" if family.installed else family.install_line
    return {"kind": kind, "spec": family.form, "installed": family.installed, "state": state, "networks": count}
