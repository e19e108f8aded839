"""The application and the options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option, Typer

from evofool.base.addresses import OpenCluster
from evofool.base.places import as_path
from evofool.cli import completion
from evofool.errors import ConfigError

if TYPE_CHECKING:
    from evofool.config import Config

app = Typer(
    name="evofool",
    help="Find images that a classifier is sure about and that mean nothing to a person.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def group(name: str, description: str) -> Typer:
    """Commands under a common first word, e.g. `evofool targets list` and `evofool targets check`."""
    commands = Typer(help=description, no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(commands, name=name)
    return commands


def cluster(address: str | None, insecure: bool) -> str | None:
    """The address that --address and --insecure-cluster mean together; None for the usual one."""
    return OpenCluster(address or "") if insecure else address


def read_config(
    config: str | Path | Mapping[str, object],
    overrides: Sequence[str | Mapping[str, object]] | None,
    allow_code: bool,
) -> Config:
    """The configuration that the arguments of a command mean; what is wrong with its target is said before torch loads.

    Raises:
        ConfigError: it makes no sense, or its target is not there and will not be trained.
    """
    from evofool.config import load_config
    from evofool.targets.specs import check_section
    from evofool.targets.training.provision import need_training_data, to_be_trained

    settings = load_config(config, overrides)
    if file := to_be_trained(config, settings):
        need_training_data(file)
    else:
        check_section(settings.target, allow_code=allow_code)
    return settings


def seed_numbers(text: str, name: str) -> list[int]:
    """The seeds that --seeds means: [1, 2, 3, 8] of "1-3,8".

    Args:
        name: that of the runs, which must hold {seed}.

    Raises:
        ConfigError: it does not, or the text is no list of seeds.
    """
    if "{seed}" not in name:
        raise ConfigError("--seeds needs {seed} in the name; say for instance name=quickstart-{seed}.")
    from evofool.config.designs import parse_seeds

    try:
        return parse_seeds(text)
    except ValueError:
        raise ConfigError(f"--seeds: {text!r} is not a list of seeds such as 1-5 or 1,3,8.") from None


def run_path(text: str) -> Path:
    """The run directory that an argument names: itself, or the working copy of a URL."""
    if completion.ASKED in os.environ:  # a TAB asks no object store
        return Path(text)
    from evofool.store.remote.working_copy import locate

    return locate(text)


def file_path(text: str) -> Path:
    """The file or folder that an argument names."""
    return as_path(text)


RunPath = Annotated[
    Path,
    Argument(
        metavar="RUN",
        help="Run directory, or its s3://, gs:// or az:// URL.",
        parser=run_path,
        autocompletion=completion.runs,
    ),
]
RunPaths = Annotated[
    list[Path],
    Argument(metavar="RUN...", help="Run directories, or their URLs.", parser=run_path, autocompletion=completion.runs),
]
_CONFIG = Argument(
    metavar="CONFIG",
    help="YAML file, or the name of a preset (`evofool config presets`).",
    parser=file_path,
    autocompletion=completion.configs,
)
ConfigPath = Annotated[Path, _CONFIG]
ConfigOrNone = Annotated[Path | None, _CONFIG]
Overrides = Annotated[
    list[str] | None, Argument(metavar="[KEY=VALUE]...", help="Overrides, e.g. search.generations=50.")
]
Resume = Annotated[str, Option(help="auto: go on if the run is there; must; never.")]
Json = Annotated[bool, Option("--json", help="Print JSON.")]
AllowCode = Annotated[bool, Option("--allow-code", help="Let a python: target run its code, this time.")]
Address = Annotated[
    str | None,
    Option(
        help="Ray cluster: HOST:PORT, auto or local. Default: RAY_ADDRESS, else what `ray start` began, else a new one."
    ),
]
Geometry = Annotated[str, Option(help="native or published, as target.geometry.")]
Crops = Annotated[int, Option(help="1 or 10, as target.crops.")]
Output = Annotated[
    str, Option("--output", help="declared, logits, probabilities or log_probabilities, as target.output.")
]
Seeds = Annotated[str | None, Option(help="Seeds one after another, e.g. 1-5 or 1,3,8; the name must hold {seed}.")]
Insecure = Annotated[bool, Option("--insecure-cluster", help="Use a cluster that asks nobody for a token, this time.")]
Grace = Annotated[
    float,
    Option(
        help="Seconds that Ctrl-C or SIGTERM leave for the generation under way; then what is done is committed.", min=0
    ),
]
NumericsChange = Annotated[
    bool, Option("--allow-numerics-change", help="Go on though scores may get other bits; marked in the next commit.")
]
