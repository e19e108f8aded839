"""What a family of networks offers the rest of the house. One is a file of zoo/ that ends with `FAMILY = Family(...)`,
and a row of FAMILIES in base/registry.py. By example: docs/extend.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from torch import nn

from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.records import Facts, Numerics
from evofool.targets.target import Target

__all__ = ["Family"]


def _none(argument: str) -> list[str]:
    return []


@dataclass(frozen=True)
class Family:
    """A family of networks. Its file can be imported without `package`, which `load` and `catalogue` import.

    Attributes:
        form: how its specs look, for lists and messages, e.g. "lenet:FILE".
        load: the target of a spec, before batch normalisations are folded. It reads local files through `source.read`,
            so that they travel to the evaluators. Raises ConfigError for a spec it can do nothing with, TargetError
            where the user's code fails.
        package: that has to be there, as it is imported; evofool's own requirements need no mention.
        extra: of evofool, that installs the package.
        files: the local files that a spec's argument (what follows its first colon) names, written as
            there, whether they exist or not: exactly those that `load` reads. A job on a cluster gets them.
        catalogue: a dict for each network, with at least `name` (as in a spec, behind the colon), `image_size` (side in
            pixels) and, where that is known without asking the network, `on_disk`. None where there is no list.
        fold: makes batch normalisations part of the convolutions before them. None: they stay as they are.
        numerics: shapes and layouts that suit it, by device type; numerics.py has those for any family. A change here
            changes the results of new runs.
    """

    form: str
    load: Callable[[Source], Target]
    package: str = "torch"
    extra: str = ""
    files: Callable[[str], list[str]] = _none
    catalogue: Callable[[], list[Facts]] | None = None
    fold: Callable[[nn.Module], nn.Module] | None = None
    numerics: Mapping[str, Numerics] = field(default_factory=dict)

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.package) is not None

    @property
    def install_line(self) -> str:
        """The command that installs its package."""
        return f"pip install 'evofool[{self.extra}]'" if self.extra else f"pip install {self.package.replace('_', '-')}"

    def check_installed(self, key: str) -> None:
        """Refuse to go on without its package; `key` of the configuration or the command line is for the message.

        Raises:
            ConfigError: it is not there.
        """
        if not self.installed:
            package = self.package.replace("_", "-")
            raise ConfigError(f"{key}: {self.form} needs the package {package}: {self.install_line}.")
