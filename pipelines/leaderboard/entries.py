"""The models of finished runs, each with what its figures depend on beside the model itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.errors import WorkdirError
from pipelines.files import read_json
from pipelines.redact import flatten
from pipelines.report.model import Model
from pipelines.report.outcomes import JsonObject, Share
from pipelines.report.protocol import PROTOCOL, RESULTS
from pipelines.workflow.order import models_of


@dataclass(frozen=True, order=True)
class Images:
    """Which images figures speak of: `contents` digests their files, ids and labels; `seed` draws and splits them."""

    count: int
    contents: str
    seed: int


@dataclass(frozen=True)
class Entry:
    """One model of one run."""

    model: Model
    images: Images
    results: JsonObject
    """The whole results.json that it stands in."""
    source: Path
    """The file of `results`."""

    @property
    def run(self) -> JsonObject:
        return self.results["run"]

    @property
    def accuracy(self) -> tuple[Share, int] | None:
        """Of the clean images, and of how many; None without labels."""
        clean = self.model.results.below("reference").below("clean_accuracy")
        value = clean.value("accuracy")
        if value is None:
            return None
        low, high = clean.content.get("ci") or (None, None)
        return Share(value, low, high), int(clean.content["n"])

    def how(self, stage: str) -> Mapping[str, str]:
        """What beside model and images decides a stage's figures: versions and settings of it and of what it reads."""
        found: dict[str, str] = {}
        for name in self._with_reads(stage):
            found[f"{name}.version"] = str(self._stages()[name]["version"])
            found |= {f"{name}.{key}": text for key, text in flatten(self.run["settings"].get(name, {})).items()}
        return found

    @cached_property
    def report(self) -> Path | None:
        """The folder of the report that wrote these results, with its figures; None where it is not at hand."""
        written = self.source.read_bytes()
        files = self.source.parent.glob(f"stages/report-*/{RESULTS}")
        return next((file.parent for file in files if file.read_bytes() == written), None)

    def _stages(self) -> dict[str, Any]:
        return stages_of(self.results, self.model.label)

    def _with_reads(self, stage: str) -> list[str]:
        known = self._stages()
        found = [stage]
        for name in found:
            found += [other for other in known[name]["reads"] if other in known and other not in found]
        return found


def stages_of(results: JsonObject, label: str) -> dict[str, Any]:
    """What results.json says of the stages of a model, by name."""
    return {stage["name"]: stage for stage in results["run"]["stages"] if stage["branch"] == label}


def read_entries(runs: Sequence[Path]) -> list[Entry]:
    """Every model of these runs, which are work folders or files results.json. Raises WorkdirError."""
    files = [run / RESULTS if run.is_dir() else run for run in runs]
    for number, file in enumerate(files):
        if file.resolve() in [other.resolve() for other in files[:number]]:
            raise WorkdirError(f"{runs[number]} is given twice; name each run once")
    return [entry for file in files for entry in _entries(file)]


def _entries(file: Path) -> Iterator[Entry]:
    results = _results(file)
    folders = {label: _folders(file.parent / "stages", stages_of(results, label)) for label in results["models"]}
    for model in models_of(results, folders):
        key = model.results.below("model").text("preprocessing_key")
        data = results["data"]["preprocessings"][key]
        yield Entry(model, Images(data["images"], data["contents"], results["run"]["seed"]), results, file)


def _folders(parent: Path, stages: Mapping[str, Any]) -> dict[str, Path]:
    found = {name: parent / stage["folder"] for name, stage in stages.items()}
    return {name: folder for name, folder in found.items() if folder.is_dir()}


def _results(file: Path) -> dict[str, Any]:
    """results.json, when it is one that can be compared. Raises WorkdirError."""
    try:
        results = read_json(file)
    except FileNotFoundError:
        raise WorkdirError(
            f"{file} is not there: give work folders of finished runs, or files {RESULTS}; "
            "`nullspace status WORKDIR` says how far a run is"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WorkdirError(f"cannot read {file}: {error}; give work folders of finished runs") from error
    if not isinstance(results, dict) or not results.get("models"):
        raise WorkdirError(f"{file} has no models of a run; give work folders of finished runs")
    protocol = results.get("protocol")
    if protocol != PROTOCOL:
        raise WorkdirError(
            f"{file} was made by protocol {protocol}, and figures of another protocol than {PROTOCOL} cannot be "
            "compared: start the same run again with this version; finished stages are reused where they still hold"
        )
    return results
