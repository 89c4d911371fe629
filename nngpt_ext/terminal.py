"""The command line's frame: the options of all commands, exit codes, and a user's mistake as one line."""

from __future__ import annotations

import errno
import logging
import sys
from typing import Annotated, Any, NoReturn

import typer

from nngpt_ext.errors import UserError, for_shell, shown
from nngpt_ext.shell import INTERRUPTED, interruptible
from nngpt_ext.tuning.ranks import launched, one_process
from nngpt_ext.version import __version__

app = typer.Typer(
    name="nngpt-ext",
    help="On which dataset will this neural network do better?",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors on standard error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit
    if context.invoked_subcommand not in ("run", "study"):  # which say so themselves
        one_process(f"'nngpt-ext {context.invoked_subcommand}'", "start it alone")
    context.with_resource(for_shell())
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("nngpt_ext").setLevel(logging.WARNING if quiet else logging.INFO)


def main() -> None:
    """Entry point: exit codes 0 done, 2 the user's mistake (one line), 1 a fault, 130 Ctrl-C."""
    interrupted = False
    try:
        with interruptible() as pressed:
            try:
                code = _call()
            finally:
                interrupted = pressed()
    except BaseException as error:
        if not interrupted and not isinstance(error, (KeyboardInterrupt, typer.Abort)):
            raise
        code = INTERRUPTED
    if interrupted or code == INTERRUPTED:  # also if all was done by then: what follows in a script must not begin
        code = INTERRUPTED
        typer.echo("interrupted; continue a run with --resume", err=True)
    raise SystemExit(code if isinstance(code, int) else 0)


# What is wrong with a file's name or place that was given, wherever it is noticed.
_OF_A_PLACE = {
    errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip


def _call() -> Any:
    usage_error: Any = typer.BadParameter.__bases__[0]  # click's, which newer typers bundle
    try:
        return app(standalone_mode=False, prog_name="nngpt-ext")  # typer returns the code of an interruption
    except UserError as error:
        _stop(str(error))
    except usage_error as error:
        place = error.ctx.command_path if error.ctx is not None else "nngpt-ext"
        _stop(f"{error.format_message().rstrip('.')}; see {place} --help")
    except ModuleNotFoundError:
        from nngpt_ext.light import check_whole

        try:
            check_whole()
        except UserError as error:
            _stop(str(error))
        raise
    except OSError as error:
        if error.errno in _OF_A_PLACE and error.filename is not None:
            _stop(f"{error.strerror}: {shown(error.filename)}")
        if error.errno != errno.ENOSPC:
            raise
        _stop(f"no space left on the disk for '{error.filename or 'standard output'}'; free some and try again")


def _stop(message: str) -> NoReturn:
    rank, n = launched()
    if rank == 0 or rank >= n:  # processes that were not joined make the same mistake; one beyond the last is its own
        typer.echo(f"error: {UserError(' '.join(message.split()))}", err=True)
    raise SystemExit(2) from None
