"""The type checker of `test_shapes`: beartype, told of nothing but shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beartype import beartype


def shapes_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its shapes checked; other annotations are for pyright, which sees more of them."""
    notes = getattr(function, "__annotations__", {})
    shapes = {name: note for name, note in notes.items() if "[Tensor," in str(note) or "jaxtyping" in repr(note)}
    if not shapes:
        return function
    function.__annotations__ = shapes
    return beartype(function)
