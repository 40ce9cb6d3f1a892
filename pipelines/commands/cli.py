"""The command line of the pipeline, put together from its commands; cluster/cli.py adds its own and starts it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.commands import kernel, leaderboard, run, watermark
from pipelines.commands.arguments import AsJson, ConfigArgument, Overrides, WorkdirArgument, print_json
from pipelines.commands.explain import command as explain
from pipelines.commands.fool import command as fool
from pipelines.commands.show import command as show
from pipelines.commands.zoo import command as zoo

app = typer.Typer(
    help="Find, measure and use what can be added to an image, or to the tokens inside a Vision Transformer, "
    "without the model noticing.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at configs.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(watermark.app, name="watermark")
app.command()(show.show)
app.command()(fool.fool)
app.command()(explain.explain)
app.command()(run.run)
app.command(cls=kernel.KernelCommand)(kernel.kernel)
app.command()(zoo.zoo)
app.command()(leaderboard.leaderboard)


def _show_version(wanted: bool) -> None:
    if wanted:
        from pipelines.tracking.environment import version_lines

        sys.stdout.write("".join(f"{line}\n" for line in version_lines()))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show versions and the commit, and end."),
    ] = False,
) -> None:
    pass


@app.command()
def status(workdir: WorkdirArgument, as_json: AsJson = False) -> None:
    """How far a run is: its stages in order, and how it ended.

    Example: `nullspace status runs/demo`
    """
    from pipelines.commands.status import how_far
    from pipelines.commands.status import status as read_status

    found = read_status(workdir)
    if as_json:
        print_json(found)
        return
    console = Console()
    console.print(
        f"{found['experiment']}: {found['state']} (MLflow run {found['run_id']})", highlight=False, soft_wrap=True
    )
    if "error" in found and not any(stage["state"] == "failed" for stage in found["stages"]):
        console.print(f"error: {found['error']}", highlight=False, markup=False, soft_wrap=True)
    for position, stage in enumerate(found["stages"]):
        if stage.get("earlier") and not found["stages"][position - 1].get("earlier"):
            console.print("of earlier runs:", highlight=False)
        line = f"  {stage['state']:10} {stage['stage']}  {how_far(stage)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@config_app.command("show")
def config_show(config: ConfigArgument, set_: Overrides = None, as_json: AsJson = False) -> None:
    """Print a config with every default filled in; nothing runs.

    Example: `nullspace config show demo --set search.trials=4`
    """
    import yaml

    from pipelines.configs.reading import load_config

    settings = load_config(config, set_).model_dump(mode="json")
    if as_json:
        print_json(settings)
    else:
        sys.stdout.write(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


@app.command()
def ui(
    workdir: WorkdirArgument = Path("runs/demo"),
    host: Annotated[str, typer.Option(help="Address to listen on; MLflow has no login of its own.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
) -> None:
    """Open MLflow on the results of a run; it listens until Ctrl-C.

    Example: `nullspace ui runs/demo`
    """
    from pipelines.commands.ui import serve

    raise typer.Exit(serve(workdir, host, port))
