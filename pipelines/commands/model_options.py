"""Options of every command that names a model: its weights and arguments, and the names of its classes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipelines.errors import ConfigError
from pipelines.local_options import here

Weights = Annotated[
    str,
    typer.Option(metavar="FILE", callback=here("--weights"), help="Its weights file, `pretrained`, or `random`."),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="DATA", callback=here("--classes"), help="Class folders, or other labelled data, that name classes."
    ),
]
ModelArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--model-args", metavar="KEY=VALUE", help="Argument of timm.create_model, e.g. img_size=384; can be repeated."
    ),
]
Ema = Annotated[
    bool, typer.Option("--ema/--no-ema", help="Averaged (EMA) weights where a file holds both, as timm takes them.")
]


def read_model_args(given: list[str] | None) -> dict[str, Any]:
    """`key=value` texts, the values as in YAML. Raises ConfigError for other texts and keys given twice."""
    import yaml

    arguments: dict[str, Any] = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"--model-args {text!r}: expected key=value, e.g. img_size=384 or global_pool=avg")
        if key in arguments:
            raise ConfigError(f"--model-args: {key} is given twice; give it once")
        try:
            arguments[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--model-args {text!r}: {value!r} is not a YAML value; quote it") from error
    return arguments
