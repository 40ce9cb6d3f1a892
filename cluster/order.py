"""What is asked of a cluster: the checked config, the files that go along, the command, the name of the job."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from cluster.errors import JobError, UploadError
from cluster.upload import Upload, files_below
from nullspace.model.names import CONFIG as MODEL_CONFIG
from nullspace.model.names import LOCAL, local_folder, weights_in
from pipelines.configs.pipeline import PipelineConfig
from pipelines.configs.reading import load_config
from pipelines.redact import redact
from pipelines.settings import user_files

CONFIG = "nullspace-job.yaml"
_OUTSIDE = "uploaded"  # folder of files that do not lie below the folder they were named in
# Ray kills a stopped job after 3 seconds otherwise: too early for stages to stop and MLflow to be told.
STOP_SECONDS = 300
TRACKING_URI = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Order:
    """A job before it has a number: the same config and work folder always make the same order."""

    name: str
    """Id of the first attempt; later ones have -2, -3, … behind it."""
    fingerprint: str
    workdir: str
    entrypoint: str
    env: Mapping[str, str]
    upload: Upload
    on_cluster: Mapping[str, str]
    """What the config names and is not uploaded: key and path."""

    def metadata(self) -> dict[str, str]:
        """What the cluster keeps beside the job, by which it is found again."""
        return {"nullspace.fingerprint": self.fingerprint, "nullspace.workdir": self.workdir}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "job": self.name,
            "fingerprint": self.fingerprint,
            "entrypoint": self.entrypoint,
            "workdir": self.workdir,
            "env": dict(self.env),
            "upload": self.upload.to_dict(),
            "on_cluster": dict(self.on_cluster),
        }


def make_order(config: str, overrides: list[str] | None, *, workdir: str | None, folder: Path | None = None) -> Order:
    """Check everything that can be checked here. Raises NullspaceError for what better input cures; sends nothing."""
    settings = load_config(config, overrides)
    work = _checked_workdir(workdir, settings.name)
    files: dict[str, Path | bytes] = {}
    if folder is not None:
        files.update(files_below(folder))
        if CONFIG in files:
            raise UploadError(f"{folder} holds a file {CONFIG}, which is the job's own; rename yours")
    settings, along, on_cluster = _settle_paths(settings, folder, files)
    files |= along
    files[CONFIG] = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True).encode()
    return Order(
        name=f"nullspace-{settings.name}-{settings.fingerprint()[:8]}",
        fingerprint=settings.fingerprint(),
        workdir=work,
        # exec: the signal of a stop reaches the pipeline, and its exit code is the job's.
        entrypoint=f"exec nullspace run {CONFIG} --workdir {shlex.quote(work)}",
        env={"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), **_tracking(os.environ.get(TRACKING_URI))},
        upload=Upload(files),
        on_cluster=on_cluster,
    )


def _checked_workdir(workdir: str | None, name: str) -> str:
    if workdir is None or not PurePosixPath(workdir).is_absolute():
        got = "none" if workdir is None else repr(workdir)
        raise JobError(
            f"expected --workdir with an absolute path, got {got}: a job's own folder is temporary, so the work folder "
            f"must lie on storage that every node sees, e.g. --workdir /shared/runs/{name}"
        )
    return workdir


def _tracking(uri: str | None) -> dict[str, str]:
    if not uri:
        return {}
    if redact(uri) != uri:
        raise JobError(
            f"{TRACKING_URI} is {redact(uri)}: it holds credentials, and what a job is told can be read on Ray's "
            "dashboard; leave them out, and set MLFLOW_TRACKING_USERNAME and _PASSWORD in the environment of the nodes"
        )
    if re.match(r"sqlite:///(?!/)", uri) or "://" not in uri:
        raise JobError(f"{TRACKING_URI} is {uri}, which means another file on every machine; give an http address")
    return {TRACKING_URI: uri}


def _named_paths(config: PipelineConfig, raw: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(key for people, section, key) of every path that a config holds: its files, and where the images are."""
    for place, path in user_files(config):
        if path not in ("pretrained", "random"):  # of weights, which need no file
            section = reduce(lambda inner, key: inner[key], place[:-1], raw)
            yield ".".join(map(str, place)), section, str(place[-1])
    yield "source.path", raw["source"], "path"


def _settle_paths(
    config: PipelineConfig, folder: Path | None, listed: Mapping[str, Any]
) -> tuple[PipelineConfig, dict[str, Path], dict[str, str]]:
    """Relative paths are this machine's and go along; absolute ones and URIs are the cluster's and stay away.

    Returns the config with the paths as the job will find them, the files that go along, and the others by key.
    """
    raw = config.model_dump(mode="json")
    along: dict[str, Path] = {}
    on_cluster: dict[str, str] = {}
    for shown, section, key in _named_paths(config, raw):
        value = section[key]
        if value is None:
            continue
        if "://" in value or PurePosixPath(value).is_absolute():
            on_cluster[shown] = value
        elif folder is not None:
            _check_listed(shown, value, folder, listed)
        elif shown == "source.path":
            raise UploadError(
                f"source.path is {value!r}, and images are not uploaded: expected an absolute path on storage that "
                "every node sees, or a URI (s3://…); a few images can go along with --upload FOLDER"
            )
        else:
            section[key] = _take_along(shown, value, along)
    for number, model in enumerate(raw["models"]):
        _settle_model_folder(f"models.{number}.name", model, folder, listed, along, on_cluster)
    return PipelineConfig.model_validate(raw), along, on_cluster


def _settle_model_folder(
    shown: str,
    model: dict[str, Any],
    folder: Path | None,
    listed: Mapping[str, Any],
    along: dict[str, Path],
    on_cluster: dict[str, str],
) -> None:
    """The folder of a `local-dir:` model as `_settle_paths` has it; its config and the weights used go along."""
    own = local_folder(model["name"])
    if own is None:
        return
    given = model["name"].partition(":")[2]
    if PurePosixPath(given).is_absolute():
        on_cluster[shown] = given
    elif folder is not None:
        _check_listed(shown, given, folder, listed)
    else:
        taken = _take_along(shown, f"{given}/{MODEL_CONFIG}", along)
        target = PurePosixPath(taken).parent
        if model["weights"] == "pretrained":
            weights = weights_in(own)
            along[str(target / weights.name)] = weights
        model["name"] = f"{LOCAL}:{target}"


def _check_listed(shown: str, value: str, folder: Path, listed: Mapping[str, Any]) -> None:
    name = PurePosixPath(os.path.normpath(value)).as_posix()
    if not any(file == name or file.startswith(f"{name}/") or name == "." for file in listed):
        raise UploadError(
            f"{shown} is {value!r}, which is not among the files of --upload {folder}; put it there, take it "
            "out of what is ignored, or give an absolute path that every node sees"
        )


def _take_along(shown: str, value: str, along: dict[str, Path]) -> str:
    """Add the file; returns its path in the job's folder."""
    file = Path(value).expanduser()
    if not file.is_file():
        raise UploadError(
            f"{shown}: there is no file {file.absolute()} to upload; correct the path, or give an absolute one that "
            "every node sees"
        )
    name = os.path.normpath(value)
    if value.startswith("~") or name.startswith(".."):
        name = f"{_OUTSIDE}/{file.name}" if file.name != MODEL_CONFIG else f"{_OUTSIDE}/{file.parent.name}/{file.name}"
    name = Path(name).as_posix()
    if along.setdefault(name, file).resolve() != file.resolve() or name == CONFIG:
        raise UploadError(f"{shown}: two files would be {name} in the job's folder; rename {file}")
    return name
