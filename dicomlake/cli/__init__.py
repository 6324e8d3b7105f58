"""The command line: one verb a file, the same verbs as in Python.

Exit status: 0 fine, 1 findings or failure, 2 wrong usage.
"""

from __future__ import annotations

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command line; an expected error is one sentence, not a traceback."""
    from dicomlake.cli.app import app
    from dicomlake.errors import DicomlakeError

    try:
        app()
    except DicomlakeError as error:
        print(f"dicomlake: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != _INTERRUPTED:  # Typer makes one of the other
            raise
        print("dicomlake: interrupted; what was acknowledged is safe: run it again", file=sys.stderr)  # noqa: T201
        raise SystemExit(_INTERRUPTED) from None
