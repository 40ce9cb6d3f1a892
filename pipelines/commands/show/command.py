"""The command `nullspace show`: what a model sees of noise on the user's own pictures, as a page, a table and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.arguments import Force, output_option
from pipelines.commands.model_options import Classes, Ema, ModelArgs, Weights
from pipelines.commands.pictures.options import change_words, each_picture, finish, load_with_notes, names_of
from pipelines.errors import ConfigError
from pipelines.local_options import here

KERNEL = "kernel"
_RMS = 0.2  # of the pixel range: permuted, noise of half of it changes few predictions on large files


def show(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE…", callback=here("IMAGE"), help="Pictures, folders of pictures, or quoted patterns."
        ),
    ],
    model: Annotated[str, typer.Option(help="timm model to run on them.")] = "deit_tiny_patch16_224",
    weights: Weights = "pretrained",
    model_args: ModelArgs = None,
    ema: Ema = True,
    noise: Annotated[
        str,
        typer.Option(
            metavar="kernel|FILE",
            callback=here("--noise"),
            help="Noise of the exact kernel, or learned noise on tokens (noise.safetensors of a run).",
        ),
    ] = KERNEL,
    rms: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=1, help=f"Root mean square of kernel noise, of the pixel range 0 to 1; default {_RMS}."
        ),
    ] = None,
    largest: Annotated[
        bool,
        typer.Option("--largest", help="The strongest kernel noise found: a local optimum, not a proof."),
    ] = False,
    output: Annotated[
        Path | None,
        output_option("OUT", "A .png file for one picture, else a folder; default NAME-nullspace.png here."),
    ] = None,
    classes: Classes = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise and of its permutation.")] = 0,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object for each picture.")] = False,
) -> None:
    """Show on your own pictures what a model cannot see.

    One page for each picture: the picture, the picture with noise from the kernel of the model, the same noise in
    random order (equally strong: the control), and the noise alone; under each, the model's predictions. The first two
    agree; the third shows the effect of equally strong noise of another kind.

    The noise takes the model's own resizing into account, so it is in the file at its own size. The noised picture is
    written too, as NAME-noised.png; all figures are measured on its bytes.

    Example: `nullspace show photo.jpg --weights FILE`

    Example: `nullspace show photos/ --weights FILE --largest -o pages`
    """
    learned = noise != KERNEL
    if learned and (rms is not None or largest):
        raise ConfigError(
            "--rms and --largest belong to kernel noise; a learned noise has the size it was learned with"
        )
    if rms is not None and largest:
        raise ConfigError("--rms and --largest exclude each other; give one")
    from nullspace.noise.artifact import NullNoise
    from pipelines.commands.pictures.files import find_pictures
    from pipelines.commands.show.page import page
    from pipelines.commands.show.views import Shower
    from pipelines.engine.class_names import class_names
    from pipelines.engine.models import check_usable
    from pipelines.files import written_aside

    pictures = find_pictures(images)
    pages = _pages(pictures, output, force=force, noised=not learned)
    found = NullNoise.load(noise) if learned else None
    loaded = load_with_notes(model, weights, model_args, ema)
    check_usable(loaded)
    shower = Shower(loaded, class_names(loaded, names_of(classes)))

    def work(source: Path, target: Path) -> dict[str, Any]:
        target.parent.mkdir(parents=True, exist_ok=True)
        written: dict[str, Any] = {"page": str(target)}
        if found is None:
            written["noised_file"] = str(_noised(target))
            shown = shower.of_kernel(source, _noised(target), rms=None if largest else rms or _RMS, seed=seed)
        else:
            shown = shower.of_tokens(source, found, seed=seed)
        with written_aside(target) as aside:
            aside.write_bytes(page(shown))
        return {**shown.to_dict(), **written}

    finish(each_picture("show", pictures, pages, work, as_json, _table), as_json, missing=[])


def _pages(pictures: list[tuple[Path, Path]], output: Path | None, *, force: bool, noised: bool) -> list[Path]:
    """The file of each page; the noised picture is beside it. Raises ConfigError if a file would be overwritten."""
    from pipelines.commands.pictures.files import outputs

    out = (output or Path()).expanduser()
    if out.suffix and not out.is_dir() and (out.suffix.lower() != ".png" or len(pictures) > 1):
        raise ConfigError(f"--output {out}: expected a file that ends in .png for one picture, or a folder")
    named = [(file, name.with_name(f"{name.stem}-nullspace.png")) for file, name in pictures]
    pages = outputs(named, out, None, force=force)
    if noised:
        sources = {file.resolve() for file, _ in pictures}
        for each in map(_noised, pages):
            if each.resolve() in sources:
                raise ConfigError(
                    f"{each} is among the pictures and would be overwritten; choose another folder with -o"
                )
            if each.exists() and not force:
                raise ConfigError(f"{each} exists already; add --force to replace it")
    return pages


def _noised(page: Path) -> Path:
    """The noised picture beside its page."""
    return page.with_name(f"{page.stem.removesuffix('-nullspace')}-noised.png")


_ROWS = {"picture": "picture", "noised": "with noise", "permuted": "permuted"}


def _table(row: dict[str, Any]) -> str:
    size = f", root mean square {row['noised']['rms']:.3f}" if "rms" in row["noised"] else ""
    lines = [f"{row['file']}  {row['size'][0]}×{row['size'][1]}  {row['noise']}{size}"]
    for name, title in _ROWS.items():
        panel = row[name]
        predicted = ", ".join(f"{each['name']} {100 * each['probability']:.1f} %" for each in panel["top"])
        lines.append(f"  {title:11} {predicted}")
        if name != "picture":
            lines.append(f"  {'':11} {', '.join(change_words(panel))}")
    lines += [f"  {'page':11} {row['page']}"]
    lines += [f"  {'noised file':11} {row['noised_file']}"] if "noised_file" in row else []
    return "\n".join(lines)
