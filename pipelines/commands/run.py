"""The command `nullspace run`: the whole pipeline, or with `--dry-run` a list of its stages."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipelines.commands.arguments import ConfigArgument, Overrides, print_json
from pipelines.local_options import WORKDIR, here

if TYPE_CHECKING:  # loaded when the command runs
    from pipelines.configs.pipeline import PipelineConfig


def run(
    config: ConfigArgument,
    set_: Overrides = None,
    workdir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            callback=here("--workdir", WORKDIR),
            help="Work folder; default runs/NAME of the config. The same folder again resumes the run.",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps; default: the config's.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster, HOST:6379 or `auto`; default RAY_ADDRESS, else this machine.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List every stage, reused or to do, and its folder; nothing runs.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE", help="Do this stage and what it needs, e.g. kernel_noise; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of the table.")] = False,
) -> None:
    """Run the whole pipeline: ingest, reference, kernel, search, then every evaluation, report.

    Every evaluation has a section of its own (`nullspace config show demo`); one that is null is not run.

    The same command after a kill goes on at the first unfinished stage; finished stages are reused.

    Example: `nullspace run demo`, or
    `nullspace run deit_tiny --set source.path=IMAGES --set models.0.weights=FILE --workdir runs/deit`
    """
    from pipelines.configs.reading import load_config
    from pipelines.engine.progress import Progress
    from pipelines.workflow.run import run_pipeline

    settings = load_config(config, [*(set_ or []), *([f"device={device}"] if device else [])])
    workdir = workdir or Path("runs") / settings.name
    if dry_run:
        _show_plan(settings, workdir, only or (), as_json)
        return
    console = Console(stderr=as_json)
    progress = Progress(console)  # its `say` takes a path as it is: no markup, no line breaks
    try:
        # Ray prints what happens to its nodes to stdout, which with --json belongs to a program.
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            results = run_pipeline(settings, workdir, address=address, progress=progress, only=only or ())
    except KeyboardInterrupt:
        progress.say(f"stopped; what is finished is kept in {workdir}. Go on with the same command.")
        raise typer.Exit(130) from None
    if as_json:
        print_json(results)
        return
    from pipelines.report.terminal import render
    from pipelines.workflow.order import models_of

    render(models_of(results), results["warnings"], console)
    for name in ("report.html", "results.json"):
        progress.say(f"{name:13} {(workdir / name).absolute()}")
    progress.say(f"browse it     nullspace ui {workdir}")


def _show_plan(settings: PipelineConfig, workdir: Path, only: Sequence[str], as_json: bool) -> None:
    from pipelines.commands.dry_run import dry_run

    stages = dry_run(settings, workdir, only)
    if as_json:
        print_json(stages)
        return
    console, widest = Console(), max(len(stage["stage"]) for stage in stages)
    for stage in stages:
        folder = stage["folder"] or "(known once all its inputs exist)"
        line = f"{stage['state']:8} {stage['stage']:{widest}}  {folder}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
