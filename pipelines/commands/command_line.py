"""Running the command line: exit codes, and one line for every error that the user can correct."""

from __future__ import annotations

import re
import sys
from typing import Any, NoReturn

import typer
from rich.console import Console

from pipelines.engine.machines.quiet import quiet

_USAGE_ERROR: Any = typer.BadParameter.__base__  # typer has no public name for it


def run_command_line(commands: typer.Typer) -> None:
    """Run the command line: an error that the user can correct is one message and exit code 1, without traceback."""
    quiet()
    try:
        # In its standalone mode typer prints usage errors in boxes of its own.
        code = commands(standalone_mode=False, prog_name="nullspace")
    except typer.Abort:
        sys.exit(1)
    except Exception as error:
        if isinstance(error, _USAGE_ERROR):
            _refuse_usage(error)
        from pipelines.engine.failure import user_error

        cause = user_error(error)
        if cause is None:
            raise
        _refuse(str(cause), getattr(cause, "exit_code", 1))
    sys.exit(code)


def _refuse_usage(error: Any) -> NoReturn:
    """Exit with the usage error of a command and a pointer to its help; without any arguments, with the help itself."""
    if "NoArgs" in type(error).__name__:
        error.show()
        sys.exit(error.exit_code)
    message = re.sub(r"\. Did you mean (.*)\?$", r" (did you mean \1?)", error.format_message()).rstrip(".")
    path = error.ctx.command_path if error.ctx is not None else "nullspace"
    _refuse(f"{message[:1].lower()}{message[1:]}; see {path} --help")


def _refuse(message: str, code: int = 1) -> NoReturn:
    Console(stderr=True).print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)
