"""What a section of a config is, and which of its keys decide results: `HOW` and `USER_FILE` mark the exceptions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipelines.errors import ConfigError


class _Mark:
    """Something a key of a section is annotated with."""


HOW = _Mark()
"""How the work is done, not what: the key is left out of fingerprints, so that finished stages are reused."""
USER_FILE = _Mark()
"""A path of the user's: its content counts, not its name; and `nullspace submit` takes the file along."""


class Settings(BaseModel):
    """A section: frozen, and every key known."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


def deciding(settings: BaseModel, *, contents: bool = False) -> dict[str, Any]:
    """What of a section decides results, as JSON; with `contents`, a user's file is named by the hash of its bytes.

    Raises ConfigError where such a file cannot be read.
    """
    dumped = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if HOW in field.metadata:
            del dumped[name]
        elif isinstance(value, BaseModel):
            dumped[name] = deciding(value, contents=contents)
        elif isinstance(value, (list, tuple)):
            pairs = zip(value, dumped[name], strict=True)
            dumped[name] = [
                deciding(each, contents=contents) if isinstance(each, BaseModel) else plain for each, plain in pairs
            ]
        elif contents and USER_FILE in field.metadata and value is not None:
            dumped[name] = _digest(name, value)
    return dumped


def _digest(name: str, path: str) -> str:
    try:
        return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{name}: cannot read {path}: {error}; give a file that can be read") from error


def user_files(settings: BaseModel) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Place of the key and path of every file of the user's that the settings name."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if USER_FILE in field.metadata and value is not None:
            yield (name,), value
        nested = enumerate(value) if isinstance(value, (list, tuple)) else [(None, value)]
        for number, each in nested:
            if isinstance(each, BaseModel):
                for place, path in user_files(each):
                    yield (name, *([] if number is None else [number]), *place), path
