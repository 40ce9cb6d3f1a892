"""Patterns of file names as shells and WebDataset write them: `{000000..000063}`, `{a,b}`, `*`, `?`, `[0-9]`."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 1_000_000


def is_pattern(path: str) -> bool:
    return has_wildcard(path) or has_braces(path)


def has_braces(path: str) -> bool:
    """Whether it means several names by itself, without a listing."""
    return any(".." in inside or "," in inside for inside in _BRACES.findall(path))


def has_wildcard(path: str) -> bool:
    """Whether only a listing can tell what it means."""
    return bool(re.search(r"[*?\[]", path))


def expand_braces(pattern: str) -> Iterator[str]:
    """Every name that the braces of a pattern mean, in order; numbers keep the zeros they are written with.

    Raises ValueError for a range of more than a million.
    """
    for found in _BRACES.finditer(pattern):
        choices = _choices(found[1])
        if choices:
            for choice in choices:
                yield from expand_braces(pattern[: found.start()] + choice + pattern[found.end() :])
            return
    yield pattern


def fixed_folder(pattern: str) -> str:
    """The folder above the first part that varies."""
    first = re.search(r"[*?\[{]", pattern)
    return pattern[: first.start() if first else len(pattern)].rpartition("/")[0]


def _choices(inside: str) -> list[str]:
    numbers = _RANGE.fullmatch(inside)
    if numbers is None:
        return inside.split(",") if "," in inside else []
    first, last = int(numbers[1]), int(numbers[2])
    if abs(last - first) >= _MOST:
        raise ValueError(f"{{{inside}}} means more than {_MOST} names")
    width = max(map(len, numbers.groups())) if any(text[0] == "0" and len(text) > 1 for text in numbers.groups()) else 0
    step = 1 if first <= last else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]
