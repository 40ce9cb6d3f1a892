"""From a YAML file to a config: found, read, overridden, checked; wrong keys are named with the nearest right one."""

from __future__ import annotations

import difflib
import os
import re
import types
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from nullspace.paths import local_path
from pipelines.configs.pipeline import PipelineConfig
from pipelines.errors import ConfigError
from pipelines.redact import redact

SHIPPED = Path(__file__).parent
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class _Loader(yaml.SafeLoader):
    """SafeLoader silently keeps the last of two equal keys; here the second is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for number, key in enumerate(keys) if key in keys[:number]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice!r} stands there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def find_config(config: str | Path) -> Path:
    """A path as given, or the name of a shipped config (`demo`, `demo.yaml`)."""
    path = local_path(config, "config")
    if path.is_file():
        return path
    shipped = {file.stem: file for file in SHIPPED.glob("*.yaml")}
    if path.parent == Path() and path.name.removesuffix(".yaml") in shipped:
        return shipped[path.name.removesuffix(".yaml")]
    names = ", ".join(sorted(shipped))
    raise ConfigError(f"no config at {path}, and none of that name is shipped; shipped are: {names}")


def load_config(config: str | Path, overrides: list[str] | None = None) -> PipelineConfig:
    """Read, override (`key.sub=value`), validate. Raises ConfigError naming the key and what was expected."""
    path = find_config(config)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise ConfigError(f"{path} is not YAML: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(raw).__name__}")
    for override in overrides or []:
        _override(raw, override)
    try:
        return PipelineConfig.model_validate(_expand(raw, str(path)))
    except ValidationError as error:
        keys = [override.partition("=")[0] for override in overrides or []]
        raise ConfigError(_explain(error, str(path), keys)) from error


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r}: expected key=value, e.g. search.trials=4 or models.0.weights=FILE")
    *parents, last = key.split(".")
    node: Any = raw
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[int(last) if isinstance(node, list) else last] = yaml.safe_load(text)
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"--set {override!r}: there is no {key!r} in this config ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: {text!r} is not a YAML value; quote it") from error


def _expand(value: Any, where: str) -> Any:
    """Replace ${NAME} and ${NAME:-default} in strings by the environment."""
    if isinstance(value, dict):
        return {key: _expand(inner, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, where) for inner in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = os.environ.get(match["name"]) or match["default"]
        if found is None:
            raise ConfigError(f"{where}: the environment variable {match['name']} is not set; set it or use --set")
        return found

    return _VARIABLE.sub(replace, value)


def _explain(error: ValidationError, where: str, overridden: list[str]) -> str:
    """What is wrong with a config: of values that were set on the command line their options, else the file."""
    ours, lines = [], []
    for problem in error.errors(include_url=False):
        place = ".".join(map(str, problem["loc"]))
        options = [f"--set {key}" for key in overridden if _concerns(key, place, problem["msg"])]
        key = place or "(whole file)"
        if problem["type"] == "extra_forbidden":
            right = _keys_at(problem["loc"][:-1])
            near = difflib.get_close_matches(str(problem["loc"][-1]), right, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(right)}"
            reason = f"unknown key; {hint}"
        elif problem["type"] == "missing":
            reason = "required, but missing"
        elif problem["input"] is None and len(problem["loc"]) == 1:
            field = PipelineConfig.model_fields[place]
            remedy = "give it a value" if field.is_required() else "leave it out to have its defaults"
            reason = f"every run needs it, so it cannot be null; {remedy}"
        else:
            # The value of a whole section adds nothing to its key.
            got = "" if isinstance(problem["input"], dict) else f" (got {redact(repr(problem['input']))})"
            reason = f"{problem['msg'].removeprefix('Value error, ')}{got}"
        if not options:
            lines.append(f"  {key}: {reason}")
        elif not place:
            ours.append(f"{' '.join(options)}: {reason}")
        elif key in overridden:
            ours.append(f"--set {key}: {reason}")
        else:
            ours.append(f"{' '.join(options)}: {key}: {reason}")
    if lines:
        ours.append(f"{where} has {len(lines)} problem{'s' if len(lines) > 1 else ''}:\n" + "\n".join(lines))
    return "\n".join(ours)


def _concerns(option: str, place: str, message: str) -> bool:
    """Whether an option may have caused a problem; one of several sections together has no place, but names them."""
    if place:
        return _within(option, place) or _within(place, option)
    return re.search(rf"\b{re.escape(option.partition('.')[0])}\b", message) is not None


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    node: Any = PipelineConfig
    for part in loc:
        if isinstance(part, int):
            continue
        node = node.model_fields[part].annotation
        node = next((a for a in _arguments(node) if isinstance(a, type) and issubclass(a, BaseModel)), node)
    return sorted(node.model_fields) if isinstance(node, type) and issubclass(node, BaseModel) else []


def _arguments(annotation: Any) -> tuple[Any, ...]:
    is_union_or_list = typing.get_origin(annotation) in (list, typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union_or_list else (annotation,)
