"""The commands `nullspace run`, `kernel`, `show`, `status`, `config show` and `ui`; cluster/cli.py starts them all."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from nullspace.errors import NullspaceError
from pipelines.commands import watermark
from pipelines.commands.model_options import Ema, ModelArgs, read_model_args
from pipelines.commands.show import command as show_cli
from pipelines.local_options import OUTPUT, WORKDIR, here

if TYPE_CHECKING:  # loaded when a command runs
    from pipelines.configs.pipeline import PipelineConfig

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
app.command()(show_cli.show)


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


Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. search.trials=4 or models.0.weights=FILE."),
]
ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        callback=here("CONFIG"),
        help="A YAML file, or a shipped one: demo, deit_tiny, imagenet.",
    ),
]
WorkdirArgument = Annotated[
    Path,
    typer.Argument(
        metavar="WORKDIR",
        callback=here("WORKDIR", WORKDIR),
        help="Work folder of a run.",
    ),
]


@app.command()
def run(
    config: ConfigArgument,
    set_: Overrides = None,
    workdir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            callback=here("--workdir", WORKDIR),
            help="Work folder; default runs/NAME of the config. The same one again goes on there.",
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

    Evaluations: kernel_noise, learned_noise, visible_watermark, payload; one whose section is null is not run.

    The same command after a kill goes on at the first unfinished stage; finished stages are reused.

    Example: `nullspace run demo`, or
    `nullspace run deit_tiny --set source.path=IMAGES --set models.0.weights=FILE --workdir runs/deit`
    """
    from pipelines.configs.reading import load_config
    from pipelines.engine.progress import Progress
    from pipelines.workflow.run import run_pipeline

    settings = load_config(config, [*(set_ or []), *([f"device={device}"] if device else [])])
    work = workdir or Path("runs") / settings.name
    if dry_run:
        _show_plan(settings, work, as_json)
        return
    console = Console(stderr=as_json)
    progress = Progress(console)  # its `say` takes a path as it is: no markup, no line breaks
    try:
        # Ray prints what happens to its nodes to stdout, which with --json belongs to a program.
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            results = run_pipeline(settings, work, address=address, progress=progress, only=only or ())
    except KeyboardInterrupt:
        progress.say(f"stopped; what is finished is kept in {work}. Go on with the same command.")
        raise typer.Exit(130) from None
    if as_json:
        _print_json(results)
        return
    from pipelines.report.terminal import render
    from pipelines.workflow.order import models_of

    render(models_of(results), results["warnings"], console)
    for name in ("report.html", "results.json"):
        progress.say(f"{name:13} {(work / name).absolute()}")
    progress.say(f"browse it     nullspace ui {work}")


def _show_plan(settings: PipelineConfig, work: Path, as_json: bool) -> None:
    from pipelines.commands.dry_run import dry_run

    stages = dry_run(settings, work)
    if as_json:
        _print_json(stages)
        return
    console, widest = Console(), max(len(stage["stage"]) for stage in stages)
    for stage in stages:
        folder = stage["folder"] or "(named when all it reads is there)"
        line = f"{stage['state']:8} {stage['stage']:{widest}}  {folder}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def kernel(
    model: Annotated[str | None, typer.Argument(help="timm model name, e.g. vit_small_patch32_224.")] = None,
    zoo: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Tabulate every timm model that matches, e.g. 'vit_*'.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights file (safetensors or any checkpoint), or pretrained.",
            metavar="FILE",
            callback=here("--weights"),
        ),
    ] = None,
    model_args: ModelArgs = None,
    ema: Ema = True,
    random: Annotated[bool, typer.Option("--random", help="Random weights: no download.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of random weights.")] = 0,
    rtol: Annotated[float | None, typer.Option(help="Rank tolerance; default max(m,n)·eps(float64).")] = None,
    style: Annotated[
        str, typer.Option("--format", metavar="STYLE", help="Of a zoo: table, csv, json or markdown.")
    ] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            callback=here("--output", OUTPUT),
            help="Of a zoo: write it to this file.",
        ),
    ] = None,
    max_parameters: Annotated[
        float, typer.Option(help="Of a zoo: larger models are not run, so their shifts are not measured.")
    ] = 400e6,
) -> None:
    """The exact nullspace of a patch embedding: rank, nullity, spectrum, tolerance, gap.

    With `modulo_shift` the model was measured to ignore shifts of its tokens, and what only shifts them belongs to
    the kernel too.

    Without --weights or --random timm's pretrained weights are used; a zoo wants one of --random and
    --weights pretrained.

    Example: `nullspace kernel vit_small_patch32_224 --random`

    Example: `nullspace kernel --zoo 'deit*' --random --format markdown`
    """
    if weights is not None and random:
        raise NullspaceError("--weights and --random exclude each other; give one")
    if (model is None) == (zoo is None):
        raise NullspaceError("expected a MODEL or --zoo PATTERN, got " + ("neither" if zoo is None else "both"))
    if zoo is not None:
        if model_args or not ema:
            raise NullspaceError("--model-args and --no-ema are of one MODEL; a zoo is tabulated as timm declares it")
        from pipelines.commands.zoo import show_zoo

        style = "json" if as_json else style
        source = "random" if random else weights
        show_zoo(zoo, source, seed=seed, rtol=rtol, style=style, max_parameters=int(max_parameters), output=output)
        return
    from nullspace.kernel.shift import exact_kernel
    from pipelines.engine.models import load_model

    source = "random" if random else weights or "pretrained"
    arguments = read_model_args(model_args)
    loaded = load_model(str(model), source, seed=seed, device="cpu", model_args=arguments, ema=ema)
    found: dict[str, Any] = {"model": model, "weights": loaded.weights_source}
    found |= {"notes": list(loaded.notes)} if loaded.notes else {}
    exact = exact_kernel(loaded, rtol=rtol)
    if as_json:
        _print_json(found | exact.to_dict())
        return
    from pipelines.wording import kernel_lines

    console = Console()
    said = {name: "; ".join(value) if name == "notes" else value for name, value in found.items()}
    for name, text in (said | dict(kernel_lines(exact))).items():
        console.print(f"{name:12} {text}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def status(
    workdir: WorkdirArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How far a run is: its stages in the order of the work, and how it ended.

    Example: `nullspace status runs/demo`
    """
    from pipelines.commands.status import how_far
    from pipelines.commands.status import status as look

    said = look(workdir)
    if as_json:
        _print_json(said)
        return
    console = Console()
    console.print(
        f"{said['experiment']}: {said['state']} (MLflow run {said['run_id']})", highlight=False, soft_wrap=True
    )
    if "error" in said and not any(stage["state"] == "failed" for stage in said["stages"]):
        console.print(f"error: {said['error']}", highlight=False, markup=False, soft_wrap=True)
    for position, stage in enumerate(said["stages"]):
        if stage.get("earlier") and not said["stages"][position - 1].get("earlier"):
            console.print("of earlier settings:", highlight=False)
        line = f"  {stage['state']:10} {stage['stage']}  {how_far(stage)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@config_app.command("show")
def config_show(
    config: ConfigArgument,
    set_: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a config with every default filled in; nothing runs.

    Example: `nullspace config show demo --set search.trials=4`
    """
    import yaml

    from pipelines.configs.reading import load_config

    said = load_config(config, set_).model_dump(mode="json")
    if as_json:
        _print_json(said)
    else:
        sys.stdout.write(yaml.safe_dump(said, sort_keys=False, allow_unicode=True))


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


def _print_json(content: Any) -> None:
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
