"""The commands `nullspace watermark embed`, `detect` and `visible`: marks in single files, folders and patterns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands.arguments import Force
from pipelines.commands.model_options import Ema, ModelArgs, Weights
from pipelines.commands.pictures.options import each_picture, finish, load_with_notes, model_words
from pipelines.errors import ConfigError
from pipelines.local_options import here

if TYPE_CHECKING:  # loaded when a command runs, not when the command line is built
    from nullspace.model.vit import SplitViT

app = typer.Typer(
    help="Marks that the model does not see: hidden messages, or visible text and logos.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="IN…", callback=here("IN"), help="Pictures, folders of pictures, or quoted patterns."),
]
InputsAndOutput = Annotated[
    list[str],
    typer.Argument(
        metavar="IN… OUT",
        callback=here("IN… OUT", "pictures are read and written as local files; copy them"),
        help="Pictures, folders or quoted patterns; last a file for one, else a folder.",
    ),
]
Model = Annotated[str, typer.Option(help="timm model that must not see the mark.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        callback=here("--key-file"),
        help="File with the secret key, e.g. made by `openssl rand -hex 32 > key.txt`; default the variable "
        "NULLSPACE_KEY.",
    ),
]
Quality = Annotated[int, typer.Option(min=1, max=100, help="Of JPEG and WebP files.")]
Suffix = Annotated[
    str, typer.Option("--format", metavar="ENDING", help="png, jpg, webp …, or `same` as each file; png is exact.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object for each file.")]
_MODEL = "deit_tiny_patch16_224"


@app.command()
def embed(
    paths: InputsAndOutput,
    message: Annotated[str | None, typer.Option(help="The message as text, 1 to 32 bytes of UTF-8.")] = None,
    hexadecimal: Annotated[str | None, typer.Option("--hex", help="The message in hexadecimal digits.")] = None,
    unique: Annotated[
        str | None, typer.Option("--uuid", help="A UUID, or `new` for a random one for each file.")
    ] = None,
    model: Model = _MODEL,
    weights: Weights = "pretrained",
    model_args: ModelArgs = None,
    ema: Ema = True,
    key_file: KeyFile = None,
    psnr: Annotated[int, typer.Option(min=34, max=50, help="Quality in dB; lower marks survive more.")] = 42,
    suffix: Suffix = "png",
    quality: Quality = 95,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Hide a message in pictures, in the nullspace of the model.

    Every file is opened again after it was written: the message must be readable, and what the model sees of it is
    measured, through the model's own resizing. The key is never taken from the command line, which others can see.

    Example: `nullspace watermark embed photos/ marked/ --message "(c) me 2026" --weights FILE --key-file key.txt`
    """
    from pipelines.commands.messages import read_key, read_message

    first, key = read_message(message, hexadecimal, unique), read_key(key_file)
    pictures, targets = _pairs(paths, suffix, force)
    marker = _marker(load_with_notes(model, weights, model_args, ema), key)

    def work(source: Path, target: Path) -> dict[str, Any]:
        own = read_message(None, None, "new") if unique == "new" else first
        return marker.embed(source, target, own, psnr=psnr, quality=quality)

    rows = each_picture("embed", pictures, targets, work, as_json, _embedded_line)
    finish(rows, as_json, missing=[row for row in rows if row.get("read_back") is False])


@app.command()
def detect(
    inputs: Inputs,
    model: Model = _MODEL,
    weights: Weights = "pretrained",
    model_args: ModelArgs = None,
    ema: Ema = True,
    key_file: KeyFile = None,
    false_positive_rate: Annotated[
        float, typer.Option(help="Share of unmarked pictures that may be called marked; holds for any pictures.")
    ] = 1e-6,
    length: Annotated[int | None, typer.Option(help="Bytes of the message, when known: finds weaker marks.")] = None,
    shift: Annotated[
        int, typer.Option(min=0, max=16, help="Undo misaligned crops of up to that many pixels; 8 takes a second each.")
    ] = 0,
    stretch: Annotated[
        float,
        typer.Option(
            min=0, max=20, help="Undo resizes of up to that many per cent; 1 takes 5 times as long, 3 takes 13."
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Look for hidden messages of a key in pictures.

    Exit code 0 when every picture has a message that could be read, 3 when one has not.

    Example: `nullspace watermark detect marked/ --weights FILE --key-file key.txt`
    """
    from pipelines.commands.messages import read_key

    key = read_key(key_file)  # first: the rest loads torch, which takes seconds
    from pipelines.commands.pictures.files import find_pictures

    pictures = find_pictures(inputs)
    marker = _marker(load_with_notes(model, weights, model_args, ema), key)

    def work(source: Path, _: Path) -> dict[str, Any]:
        return marker.detect(
            source, false_positive_rate=false_positive_rate, length=length, shift=shift, stretch=stretch / 100
        )

    rows = each_picture("detect", pictures, [file for file, _ in pictures], work, as_json, _detected_line)
    finish(rows, as_json, missing=[row for row in rows if row.get("message_hex", "") is None])


@app.command()
def visible(
    paths: InputsAndOutput,
    text: Annotated[str | None, typer.Option(help="Text of the mark; a line break as in the shell's $'A\\nB'.")] = None,
    logo: Annotated[
        Path | None,
        typer.Option(metavar="PNG", callback=here("--logo"), help="Picture with transparency, instead."),
    ] = None,
    position: Annotated[str, typer.Option(help="center, top, bottom-right …, or tile.")] = "center",
    scale: Annotated[float, typer.Option(help="Width of the mark over the width of the picture, at most 1.")] = 0.9,
    opacity: Annotated[float, typer.Option(help="How far its pixels may go to black and white, at most 1.")] = 1.0,
    model: Model = _MODEL,
    weights: Weights = "pretrained",
    model_args: ModelArgs = None,
    ema: Ema = True,
    suffix: Suffix = "png",
    quality: Quality = 95,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Put a logo or a text on pictures that people see and the model does not.

    It is shown as light and dark texture in the nullspace of the model. Every file is opened again after it was
    written, and what the model sees of the mark is measured, through the model's own resizing.

    Example: `nullspace watermark visible photos/ marked/ --text DRAFT --weights FILE`
    """
    from pipelines.commands.pictures.marks import VisibleMarker, mark_visibly

    if (text is None) == (logo is None):
        raise ConfigError("expected one of --text and --logo, got " + ("neither" if text is None else "both"))
    settings = _mark_settings(text=text, logo=logo, position=position, scale=scale, opacity=opacity)
    pictures, targets = _pairs(paths, suffix, force)
    marker = VisibleMarker.of(load_with_notes(model, weights, model_args, ema))

    def work(source: Path, target: Path) -> dict[str, Any]:
        return mark_visibly(marker, source, target, settings, quality=quality)

    finish(each_picture("visible", pictures, targets, work, as_json, _visible_line), as_json, missing=[])


def _mark_settings(**options: Any):
    """The mark's settings, validated like those of a config."""
    from pydantic import ValidationError

    from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings

    given = {
        name: str(value) if isinstance(value, Path) else value for name, value in options.items() if value is not None
    }
    try:
        return VisibleWatermarkSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"--{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}") from error


def _visible_line(row: dict[str, Any]) -> str:
    full, half, clean = (row[name] for name in ("texture_contrast", "texture_contrast_half", "clean_texture_contrast"))
    seen = f"texture contrast {full:.2f}, at half size {half:.2f} (without the mark {clean:.2f})"
    return f"{row['output']}  {row['psnr']:.1f} dB, {seen}  {model_words(row)}"


def _pairs(paths: list[str], suffix: str, force: bool) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """The pictures to be marked, and the files to be written."""
    from pipelines.commands.pictures.files import find_pictures, outputs

    if len(paths) < 2:
        raise ConfigError(f"expected pictures and, last, where to write the marked ones; got only {paths[0]}")
    pictures = find_pictures(paths[:-1])
    ending = None if suffix == "same" else f".{suffix.lstrip('.').lower()}"
    return pictures, outputs(pictures, Path(paths[-1]).expanduser(), ending, force=force)


def _marker(loaded: SplitViT, key: bytes):
    from nullspace.watermark.payload.hidden_mark import HiddenMark
    from pipelines.commands.pictures.marks import Marker

    return Marker(loaded, HiddenMark(loaded, key))


def _embedded_line(row: dict[str, Any]) -> str:
    read = "read back" if row["read_back"] else "CANNOT BE READ BACK: too little room, or too coarse a format"
    return f"{row['output']}  {_readable(row)}  {row['psnr']:.1f} dB  {read}  {model_words(row)}" + (
        f"\n  warning: {row['warning']}" if row.get("warning") else ""
    )


def _detected_line(row: dict[str, Any]) -> str:
    if not row["found"]:
        return f"{row['file']}  no mark  {_chance(row['p_value'])}"
    if row["message_hex"] is None:
        return f"{row['file']}  a mark of this key, too damaged to be read  {_chance(row['p_value'])}"
    agreement = f"{100 * row['bit_agreement']:.1f} % of its bits as embedded"
    return f"{row['file']}  {_readable(row)}  {_chance(row['p_value'])}  {agreement}"


def _readable(row: dict[str, Any]) -> str:
    """A message as text if it is text, else as a UUID, else in hexadecimal digits."""
    text = row["message_text"]
    return repr(text) if text is not None else row["message_uuid"] or row["message_hex"]


def _chance(p_value: float) -> str:
    """A p-value; below 1e-300 floating-point numbers lose precision."""
    return f"p = {p_value:.2g}" if p_value >= 1e-300 else "p < 1e-300"
