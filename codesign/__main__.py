"""The entry point: `cosearch`, or `python -m codesign`. A user's error is one message and exit code 2."""

from __future__ import annotations

import os
import sys

_PACKAGES = {"codesign", "evaluators", "search_spaces", "hw_templates"}


def main() -> None:
    """Run the command line."""
    from codesign.cli import app
    from codesign.errors import ClusterError

    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # so that a study's `module:callable` is found where it is run
    try:
        app()
    except ValueError as error:
        # Every floor's errors are ValueErrors of its own; any other ValueError is a defect and stays loud.
        if type(error).__module__.split(".")[0] not in _PACKAGES:
            raise
        sys.stderr.write(f"error: {error}\n")
        if isinstance(error, ClusterError):  # Ray's own end would wait for a cluster that is gone, or crash
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(2)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output has gone (`cosearch list | head`); that is not an error of ours.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
