"""The entry point of the command line: `nngpt-ext`, or `python -m nngpt_ext`."""

import gc
import os
import signal
import sys

ASKING = ("compare", "rank")  # commands that a loop calls often: the others' modules are not imported for them


def main() -> None:
    """Import the command line and run it; Ctrl-C during the imports ends with exit code 130 and no traceback."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not ignored, as in a background job
    if usual:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # an exception would be lost in some imports
    from nngpt_ext import terminal

    if next((word for word in sys.argv[1:] if not word.startswith("-")), None) in ASKING:
        gc.disable()  # a tenth of an answer's time: imports make a million objects, and the process ends soon
        from nngpt_ext import ask_commands

        ask_commands.register(terminal.app)
    else:
        from nngpt_ext import cli  # noqa: F401 (it adds all commands)
    if usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    terminal.main()


if __name__ == "__main__":
    main()
