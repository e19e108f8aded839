"""The command `evofool`, and `python -m evofool`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; an interrupt ends it without a traceback even while it is still being imported."""
    try:
        from evofool import cli

        cli.main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
