"""The command `nullspace fool`, as it is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.arguments import AsJson, Force, output_option, print_json
from pipelines.commands.model_options import Classes, Ema, ModelArgs, Weights
from pipelines.commands.pictures.options import load_with_notes, names_of
from pipelines.errors import ConfigError
from pipelines.local_options import here

_EPSILON, _OF_NOTHING = 4.0, 16.0  # of 255: around another picture, and around grey or noise
_LOSSLESS = (".png", ".bmp", ".tif", ".tiff")


def fool(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", callback=here("IMAGE"), help="Picture that the model is to see.")
    ],
    like: Annotated[
        str,
        typer.Option(
            metavar="OTHER|grey|noise",
            callback=here("--like"),
            help="What people are to see: another picture, or nothing.",
        ),
    ],
    exact: Annotated[
        bool, typer.Option("--exact", help="Within the kernel of the patch embedding: no token changes at all.")
    ] = False,
    epsilon: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=255,
            help=f"Largest change of a pixel, of 255; default {_EPSILON:g}, {_OF_NOTHING:g} for grey and noise.",
        ),
    ] = None,
    at: Annotated[
        str, typer.Option(metavar="DEPTH", help="What of the model is matched: logits, features, tokens or block:N.")
    ] = "logits",
    steps: Annotated[int, typer.Option(min=1, help="Passes of the network, at most.")] = 40,
    model: Annotated[str, typer.Option(help="timm model to fool.")] = "deit_tiny_patch16_224",
    weights: Weights = "pretrained",
    model_args: ModelArgs = None,
    ema: Ema = True,
    output: Annotated[
        Path | None, output_option("OUT", "File to write, .png, .bmp or .tif; default NAME-fooled.png here.")
    ] = None,
    classes: Classes = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the look `noise` and of the control.")] = 0,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a picture that people see as OTHER and the model takes for IMAGE.

    Nearly: OTHER, at its own size, with no pixel changed by more than `--epsilon`, so that the model says of it what it
    says of IMAGE. With `--exact`: IMAGE, moved towards OTHER as far as its kernel and the pixel range allow; the model
    cannot distinguish it from IMAGE, and people still recognise IMAGE in it.

    The file is read back, and all figures are of what is in it. The control is the same change in random order.

    Example: `nullspace fool cat.jpg --like dog.jpg --weights FILE`

    Example: `nullspace fool cat.jpg --like grey --weights FILE -o grey-cat.png`
    """
    if exact and (epsilon is not None or at != "logits"):
        raise ConfigError("--exact changes no token and has no limit but the pixel range; leave --epsilon and --at out")
    from nullspace.fooling.depth import DEPTHS, is_depth
    from pipelines.commands.fool.fooler import Fooler, Request
    from pipelines.commands.fool.looks import look_of
    from pipelines.commands.fool.table import table
    from pipelines.commands.pictures.files import read_picture
    from pipelines.engine.class_names import class_names
    from pipelines.engine.models import check_usable

    if not is_depth(at):
        raise ConfigError(f"--at {at}: expected {DEPTHS}")
    target = _target(image, like, output, force=force)
    height, width = read_picture(image).pixels.shape[1:]
    look = look_of(like, (height, width), seed)
    loaded = load_with_notes(model, weights, model_args, ema)
    check_usable(loaded)
    fooler = Fooler(loaded, class_names(loaded, names_of(classes)))
    if exact:
        row = fooler.exact(image, look, target, seed)
    else:
        limit = epsilon or (_OF_NOTHING if look.of_nothing else _EPSILON)
        row = fooler.near(image, look, target, Request(at, limit, steps, seed))
    if as_json:
        print_json(row)
    else:
        typer.echo(table(row))


def _target(image: Path, like: str, output: Path | None, *, force: bool) -> Path:
    """The file to write. Raises ConfigError for a lossy format, an input, and a file that exists."""
    out = (output or Path(f"{image.stem}-fooled.png")).expanduser()
    if out.is_dir():
        out = out / f"{image.stem}-fooled.png"
    if out.suffix.lower() not in _LOSSLESS:
        raise ConfigError(
            f"--output {out}: expected a name that ends in {', '.join(_LOSSLESS)}; others do not keep every pixel"
        )
    if out.resolve() in (image.resolve(), Path(like).expanduser().resolve()):
        raise ConfigError(f"--output {out} is one of the pictures and would be overwritten; choose another name")
    if out.exists() and not force:
        raise ConfigError(f"{out} exists already; add --force to replace it")
    return out
