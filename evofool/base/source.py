"""Where a target, or other code of the user, comes from: a spec, and the local files it needs, so that another machine
can build the same one."""

from __future__ import annotations

from dataclasses import dataclass, field

from evofool.base.places import as_path
from evofool.errors import ConfigError

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """A spec and the bytes of the local files read for it.

    The driver builds the target first, which fills `files`; the source then travels to the evaluators, which build
    theirs from it and need no file of their own.
    """

    spec: str
    allow_code: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    key: str = "target.spec"  # of the configuration, for messages
    sha256: str = ""  # hex, that a file of code must have; "" for any

    @property
    def scheme(self) -> str:
        """The spec up to its first colon, e.g. "lenet"."""
        return self.spec.partition(":")[0]

    @property
    def argument(self) -> str:
        """The spec after its first colon, e.g. "weights/lenet.safetensors"."""
        return self.spec.partition(":")[2]

    def read(self, path: str, hint: str) -> bytes:
        """The bytes of a local file, read once.

        Args:
            hint: the way out where it cannot be read, as the end of a sentence.

        Raises:
            ConfigError: it cannot be read.
        """
        if path not in self.files:
            try:
                self.files[path] = as_path(path).read_bytes()
            except FileNotFoundError:
                raise ConfigError(f"{self.key}: no file {path}; {hint}.") from None
            except (OSError, ValueError) as error:  # ValueError: a NUL in the path
                reason = getattr(error, "strerror", None) or error
                raise ConfigError(f"{self.key}: {path!r} cannot be read ({reason}); {hint}.") from None
        return self.files[path]
