"""Values as text: credentials cut out, nested mappings made flat."""

from __future__ import annotations

import pytest

from pipelines.redact import flatten, redact


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
        ("see https://u:p@h/a?b=1 and ftp://x@y", "see https://***@h/a?b=1 and ftp://***@y"),
        ("https://h/a?access_token=abc&b=1", "https://h/a?access_token=***&b=1"),
        ("mail me@home", "mail me@home"),
    ],
)
def test_redact(given: str, kept: str) -> None:
    assert redact(given) == kept


def test_flatten_keeps_empty_mappings() -> None:
    assert flatten({"a": {"b": {}}, "c": True}) == {"a.b": "{}", "c": "true"}
