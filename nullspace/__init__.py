"""What can be added to an image, or to the tokens inside a Vision Transformer, without the model noticing.

`model` cuts a model at its patch embedding and enters it further in; `kernel` holds what is invisible exactly, `noise`
what is nearly so, `subspace` where it lives, `metrics` the evidence for it; `pixels` brings it to images, `watermark`
and `fooling` use it. The public names stand in `__init__.pyi`, each with its module, which is loaded when the name is
first used: importing the package is fast.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

# Noise models that earlier runs stored in MLflow find `nullspace.vit` and two more where those modules were.
__path__.append(os.path.join(__path__[0], "former"))


@functools.cache
def _modules() -> dict[str, str]:
    """The module of every public name, read from the imports of the stub."""
    import ast
    import pkgutil

    stub = pkgutil.get_data(__name__, "__init__.pyi") or b""
    imports = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(_modules())
    if name not in _modules():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_modules()[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), "__all__", *_modules()])
