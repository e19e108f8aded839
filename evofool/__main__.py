"""The command `evofool`, and `python -m evofool`."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading

from evofool.base.streams import mend_streams

__all__ = ["main"]

FAREWELL = 0.5  # seconds that exit functions may take after a signal


def main() -> None:
    """Run the command line; an interrupt ends it without a traceback even while it is still being imported."""
    try:
        mend_streams()
        from evofool import cli

        cli.main()
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as end:
        if end.code in (130, 143):
            _leave(end.code)
        raise


def _leave(code: int) -> None:
    """End now, as whoever sent the signal wants: to take torch apart may take Python seconds."""

    def farewell() -> None:
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()

    # Ray's last word to a terminal that nobody reads would never end.
    last = threading.Thread(target=farewell, daemon=True)
    last.start()
    last.join(FAREWELL)
    os._exit(code)


if __name__ == "__main__":
    main()
