"""Options and settings that name files of this machine: a URI is refused before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from nullspace.paths import local_path
from pipelines.settings import USER_FILE

WORKDIR = (
    "a work folder is written in place, with locks and renames that object stores have not; give a local folder, or "
    "one on storage that every node mounts (images may be URIs, in source.path; a tracking server keeps the results)"
)
OUTPUT = "it is written as a local file; give a local path and copy it afterwards"
INPUT = "copy it to this machine first"


def here(what: str, remedy: str = INPUT) -> Callable[..., Any]:
    """For `callback=` of an option or argument: a path, a text that may be one, or a list of such; None stays."""

    def check(value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, (list, tuple)):
            return [check(each) for each in value]
        return local_path(value, what, remedy) if isinstance(value, Path) else local_text(value, what, remedy)

    return check


def local_text(given: str, what: str, remedy: str = INPUT) -> str:
    """A name or a local path as it was given; a `file://` URI as the path it names. Raises RemotePathError."""
    path = local_path(given, what, remedy)
    return given if path == Path(given) else str(path)


def _setting(what: str) -> AfterValidator:
    return AfterValidator(lambda given: given if given is None else local_text(given, what))


LocalWeights = Annotated[str, _setting("weights"), USER_FILE]
LocalLogo = Annotated[str | None, _setting("logo"), USER_FILE]
