"""Files and folders of this machine, distinguished from URIs: `Path("s3://bucket/x")` would be a folder named `s3:`."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nullspace.errors import NullspaceError

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z0-9+.-]+)*://|file:/")
_MANGLED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # what a Path leaves of `s3://`; one letter is a drive of Windows
SAVE_HERE = "save it here and copy it afterwards"


class RemotePathError(NullspaceError):
    """A URI where only a file or folder of this machine can be used."""


def local_path(given: str | Path, what: str, remedy: str = "copy it to this machine first") -> Path:
    """The path that `given` names; `file://` URIs are converted.

    Args:
        what: the option or argument, for the message.
        remedy: what to do instead of giving a URI.

    Raises RemotePathError for any other URI, and for a `file://` URI of another machine.
    """
    text = str(given)
    if isinstance(given, Path) and _MANGLED.match(text):
        text = text.replace(":/", ":///" if text.startswith("file:") else "://", 1)
    if not _URI.match(text):
        return Path(given)
    parts = urlsplit(text)
    if parts.scheme.lower() == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return Path(unquote(parts.path))
    raise RemotePathError(f"{what}: expected a path of this machine, got the URI {_shown(text)}; {remedy}")


def _shown(uri: str) -> str:
    """Without credentials: user and password before the host, signatures behind the question mark."""
    return re.sub(r"//[^/@]*@", "//***@", uri.partition("?")[0])
