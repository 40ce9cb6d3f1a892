"""What training programs store beside weights, read as placeholders: no class of theirs is imported, no code runs."""

from __future__ import annotations

from collections import OrderedDict
from itertools import product
from typing import Any, Self

# Objects of values: settings, paths, dates, metrics as numpy numbers.
_VALUES = (
    *("argparse.Namespace", "types.SimpleNamespace", "datetime.datetime", "datetime.date", "datetime.timedelta"),
    *(f"{module}.{name}" for module, name in product(("pathlib", "pathlib._local"), ("PosixPath", "WindowsPath"))),
    *("pathlib.PurePosixPath", "pathlib.PureWindowsPath", "pathlib.Path", "numpy.dtype", "numpy.ndarray"),
    *(f"numpy.{core}.multiarray.{name}" for core, name in product(("core", "_core"), ("scalar", "_reconstruct"))),
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"),
    *("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata"),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Integer", "Float", "String", "Boolean", "Path")),
    *("typing.Any", "builtins.dict", "builtins.list", "builtins.int", "builtins.float", "builtins.str"),
)
# Dictionaries with more to them: torch's restricted reader fills in plain ones only.
_DICTIONARIES = (
    *("collections.defaultdict", "yacs.config.CfgNode", "easydict.EasyDict"),
    *(f"{package}.utilities.data.AttributeDict" for package in ("lightning.fabric", "lightning_fabric")),
    *(f"{package}.utilities.parsing.AttributeDict" for package in ("pytorch_lightning", "lightning.pytorch")),
)


class StandIn:
    """Takes whatever an object of another class was stored with, and keeps nothing of it."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Arguments of any constructor."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """State of any class."""


def _dictionary(*_: Any) -> OrderedDict[Any, Any]:
    return OrderedDict()


def stand_ins() -> list[Any]:
    """For `torch.serialization.safe_globals`: (placeholder, name of the class it is read for)."""
    dictionaries = [(OrderedDict, name) for name in _DICTIONARIES if name != "collections.defaultdict"]
    # A function: a defaultdict is stored with its factory, which an OrderedDict would take for its content.
    return [*((StandIn, name) for name in _VALUES), *dictionaries, (_dictionary, "collections.defaultdict")]
