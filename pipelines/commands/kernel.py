"""The command `nullspace kernel`: the exact nullspace of one model's patch embedding."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from nullspace.errors import NullspaceError
from pipelines.commands.arguments import AsJson, print_json
from pipelines.commands.model_options import Ema, ModelArgs, read_model_args
from pipelines.local_options import here

Random = Annotated[bool, typer.Option("--random", help="Random weights: no download.")]
Seed = Annotated[int, typer.Option(help="Seed of random weights.")]
RankTolerance = Annotated[float | None, typer.Option(help="Rank tolerance; default max(m,n)·eps(float64).")]


class KernelCommand(TyperCommand):
    """Names the command that took the place of the option `--zoo`, whatever other options it is given with."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if any(each.partition("=")[0] == "--zoo" for each in args):
            raise NullspaceError(
                "--zoo is a command of its own: nullspace zoo PATTERN --random; see nullspace zoo --help"
            )
        return super().parse_args(ctx, args)


def kernel(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="timm model name, e.g. vit_small_patch32_224.")],
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
    random: Random = False,
    seed: Seed = 0,
    rtol: RankTolerance = None,
    as_json: AsJson = False,
) -> None:
    """The exact nullspace of a patch embedding: rank, nullity, spectrum, tolerance, gap.

    With `modulo_shift` the model was measured to ignore shifts of its tokens, and directions that only shift them
    belong to the kernel too.

    Without --weights or --random timm's pretrained weights are used. `nullspace zoo` tabulates many models.

    Example: `nullspace kernel vit_small_patch32_224 --random`
    """
    if weights is not None and random:
        raise NullspaceError("--weights and --random exclude each other; give one")
    from nullspace.kernel.shift import exact_kernel
    from pipelines.engine.models import load_model

    source = "random" if random else weights or "pretrained"
    arguments = read_model_args(model_args)
    loaded = load_model(model, source, seed=seed, device="cpu", model_args=arguments, ema=ema)
    found: dict[str, Any] = {"model": model, "weights": loaded.weights_source}
    found |= {"notes": list(loaded.notes)} if loaded.notes else {}
    exact = exact_kernel(loaded, rtol=rtol)
    if as_json:
        print_json(found | exact.to_dict())
        return
    from pipelines.wording import kernel_lines

    console = Console()
    facts = {name: "; ".join(value) if name == "notes" else value for name, value in found.items()}
    for name, text in (facts | dict(kernel_lines(exact))).items():
        console.print(f"{name:12} {text}", highlight=False, markup=False, soft_wrap=True)
