"""The command `nullspace explain`, as it is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.arguments import AsJson, Force, output_option, print_json
from pipelines.commands.model_options import Classes, Ema, ModelArgs, Weights
from pipelines.commands.pictures.options import load_with_notes, names_of
from pipelines.errors import ConfigError
from pipelines.local_options import here

NONE, KERNEL, SEARCH = "none", "kernel", "search"
_EPSILON, _STEPS = 8.0, 20
_MAPS = ("attention_rollout", "gradient_weighted_attention", "input_times_gradient")


def explain(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", callback=here("IMAGE"), help="Picture to explain.")],
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="NAME",
            help="gradient, input_times_gradient, integrated_gradients, smooth_gradient, attention_rollout, "
            f"gradient_weighted_attention or grad_cam; may be repeated. Default: {', '.join(_MAPS)}.",
        ),
    ] = None,
    noise: Annotated[
        str,
        typer.Option(
            metavar="kernel|search|none|FILE",
            callback=here("--noise"),
            help="Noise of the exact kernel; noise searched for, to move the first map; none; or learned noise on "
            "tokens (noise.safetensors of a run).",
        ),
    ] = KERNEL,
    epsilon: Annotated[
        float | None,
        typer.Option(min=1, max=255, help=f"Largest change of a pixel by search, of 255; default {_EPSILON:g}."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help=f"Passes of the network in a search; default {_STEPS}.")
    ] = None,
    class_: Annotated[
        int | None, typer.Option("--class", min=0, help="Number of the class that is explained; default the predicted.")
    ] = None,
    model: Annotated[str, typer.Option(help="timm model to explain.")] = "deit_tiny_patch16_224",
    weights: Weights = "pretrained",
    model_args: ModelArgs = None,
    ema: Ema = True,
    output: Annotated[Path | None, output_option("PAGE", "A .png file; default NAME-explained.png here.")] = None,
    classes: Classes = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search's start and of the permutation.")] = 0,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Lay explanations over a picture, before and after noise that the model does not notice.

    One page: above the picture and its maps, below them the same under noise, and under the same noise in random order
    (the control). Below each map stands its rank correlation, over patches, with that of the picture. The picture is
    shown as the model is given it, noise in pixels is saved in 8 bits, and the class explained is always the same.

    With noise of the kernel no map over patches changes, by theorem; what changes is input × gradient pixel by pixel,
    from which the noise takes the largest pixels. With `search` the first map moves while the prediction stays.

    Example: `nullspace explain photo.jpg --weights FILE`

    Example: `nullspace explain photo.jpg --map gradient_weighted_attention --noise search --weights FILE`
    """  # fmt: skip
    if noise != SEARCH and (epsilon is not None or steps is not None):
        raise ConfigError("--epsilon and --steps belong to --noise search; other noise has a size of its own")
    if noise == SEARCH and class_ is not None:
        raise ConfigError("--noise search moves the map of the predicted class; leave --class out, or take other noise")
    from pipelines.commands.explain.explainer import Explainer, Request
    from pipelines.commands.explain.page import page
    from pipelines.commands.explain.table import table
    from pipelines.commands.pictures.files import read_picture
    from pipelines.engine.class_names import class_names
    from pipelines.engine.models import check_usable
    from pipelines.files import written_aside

    target = _target(image, output, force=force)
    picture = read_picture(image)
    loaded = load_with_notes(model, weights, model_args, ema)
    check_usable(loaded)
    explainer = Explainer(loaded, class_names(loaded, names_of(classes)))
    request = Request(
        tuple(dict.fromkeys(maps or _MAPS)), noise, (epsilon or _EPSILON) / 255, steps or _STEPS, class_, seed
    )
    found = explainer.explain(picture, request)
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(target) as aside:
        aside.write_bytes(page(image.name, found))
    row = {"file": str(image), "page": str(target), **found.to_dict(), "notes": list(picture.notes)}
    if as_json:
        print_json(row)
    else:
        typer.echo(table(row))


def _target(image: Path, output: Path | None, *, force: bool) -> Path:
    """The file to write. Raises ConfigError for another ending, the picture itself, and a file that exists."""
    name = f"{image.stem}-explained.png"
    out = (output or Path(name)).expanduser()
    if out.is_dir():
        out = out / name
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--output {out}: expected a name that ends in .png")
    if out.resolve() == image.resolve():
        raise ConfigError(f"--output {out} is the picture and would be overwritten; choose another name")
    if out.exists() and not force:
        raise ConfigError(f"{out} exists already; add --force to replace it")
    return out
