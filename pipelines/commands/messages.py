"""Keys and messages of hidden marks as given by the user; read before anything heavy is loaded."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from nullspace.watermark.key import HOW_TO_MAKE, check_key
from pipelines.errors import ConfigError

KEY_VARIABLE = "NULLSPACE_KEY"


def read_key(file: Path | None) -> bytes:
    """The key from a file, without the newline at its end, else from the environment; never from the command line.

    Raises ConfigError when there is none, NullspaceError when it is too short.
    """
    if file is not None:
        try:
            return check_key(file.expanduser().read_bytes().rstrip(b"\r\n"))
        except OSError as error:
            raise ConfigError(f"cannot read the key from {file}: {error.strerror or error}") from error
    key = os.environ.get(KEY_VARIABLE)
    if not key:
        raise ConfigError(
            f"expected a key: --key-file FILE, or the variable {KEY_VARIABLE}; {HOW_TO_MAKE}, keep it secret"
        )
    return check_key(key.encode())


def read_message(text: str | None, hexadecimal: str | None, unique: str | None) -> bytes:
    """The message's bytes from exactly one of text (UTF-8), hexadecimal digits, and a UUID (`new` draws one)."""
    given = [value for value in (text, hexadecimal, unique) if value is not None]
    if len(given) != 1:
        raise ConfigError(f"expected one of --message, --hex and --uuid, got {len(given) or 'none'}")
    if text is not None:
        return text.encode()
    try:
        return bytes.fromhex(given[0]) if hexadecimal is not None else _uuid(given[0]).bytes
    except ValueError as error:
        kind = "pairs of hexadecimal digits" if hexadecimal is not None else "a UUID, or `new`"
        raise ConfigError(f"expected {kind}, got {given[0]!r}") from error


def _uuid(text: str) -> uuid.UUID:
    return uuid.uuid4() if text == "new" else uuid.UUID(text)


def shown(message: bytes) -> dict[str, Any]:
    """A message in readable forms: hexadecimal always, as text if it is text, as a UUID if it has 16 bytes."""
    forms: dict[str, Any] = {"hex": message.hex()}
    try:
        text = message.decode()
        forms["text"] = text if text.isprintable() else None
    except UnicodeDecodeError:
        forms["text"] = None
    forms["uuid"] = str(uuid.UUID(bytes=message)) if len(message) == 16 else None
    return forms
