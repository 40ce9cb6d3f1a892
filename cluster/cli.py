"""The `nullspace` command: the pipeline's own commands, and those that reach a cluster."""

from __future__ import annotations

from pipelines.cli import app, run_command_line


def main() -> None:
    """Run the command line; the entry point of the package."""
    run_command_line(app)
