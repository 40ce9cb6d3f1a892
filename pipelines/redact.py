"""Values as text for people, logs and MLflow: credentials cut out, nested mappings made flat."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mapping as `{"a.b": "text"}`: strings stay, the rest becomes JSON; credentials are cut out."""
    flat: dict[str, str] = {}
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = as_text(value)
    return flat


def as_text(value: Any) -> str:
    """One parameter or tag value as text, without credentials."""
    text = value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)
    return redact(text)


def redact(text: str) -> str:
    """The text with user names, passwords and tokens taken out of every URI in it."""
    return re.sub(r"[a-zA-Z][a-zA-Z0-9+.\-]*://[^\s\"'<>]+", lambda match: _redact_uri(match.group()), text)


def _redact_uri(uri: str) -> str:
    parts = urlsplit(uri)
    netloc = "***@" + parts.netloc.rpartition("@")[2] if "@" in parts.netloc else parts.netloc
    query = re.sub(r"(?i)((?:^|&)[^=&]*(?:password|passwd|secret|token|key|sig)[^=&]*)=[^&]*", r"\1=***", parts.query)
    if (netloc, query) == (parts.netloc, parts.query):
        return uri  # untouched texts stay byte for byte: urlunsplit would drop slashes from sqlite:////path
    return urlunsplit(parts._replace(netloc=netloc, query=query))
