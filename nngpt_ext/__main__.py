"""The entry point of the command line: `nngpt-ext`, or `python -m nngpt_ext`."""

import os
import signal


def main() -> None:
    """Import the command line and run it; Ctrl-C during the imports ends with exit code 130 and no traceback."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not ignored, as in a background job
    if usual:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # an exception would be lost in some imports
    from nngpt_ext import cli

    if usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
