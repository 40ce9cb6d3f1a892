"""The order of a job: the checked config, the files to upload, the command, the name."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
_OUTSIDE = "uploaded"  # folder for files from outside the current folder
# By default Ray kills a stopped job after 3 seconds: too early to stop stages and close the runs in MLflow.
STOP_SECONDS = 300
TRACKING_URI = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Order:
    """A job before it has a number: the same config and work folder always give the same order."""

    name: str
    """Id of the first attempt; later ones have -2, -3, … appended."""
    fingerprint: str
    workdir: str
    entrypoint: str
    env: Mapping[str, str]
    upload: Upload
    on_cluster: Mapping[str, str]
    """Paths in the config that are not uploaded, by key."""

    def metadata(self) -> dict[str, str]:
        """Stored with the job by the cluster, for finding it again."""
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
    """Check everything that can be checked here; nothing is sent. Raises NullspaceError for bad input."""
    settings = load_config(config, overrides)
    workdir = _checked_workdir(workdir, settings.name)
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
        workdir=workdir,
        # exec: the signal of a stop reaches the pipeline, and its exit code becomes that of the job.
        entrypoint=f"exec nullspace run {CONFIG} --workdir {shlex.quote(workdir)}",
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
            f"{TRACKING_URI} is {redact(uri)}: it holds credentials, and the environment of a job can be read on Ray's "
            "dashboard; leave them out, and set MLFLOW_TRACKING_USERNAME and _PASSWORD in the environment of the nodes"
        )
    if re.match(r"sqlite:///(?!/)", uri) or "://" not in uri:
        raise JobError(f"{TRACKING_URI} is {uri}, which is a different file on every machine; give an http address")
    return {TRACKING_URI: uri}


def _named_paths(config: PipelineConfig, raw: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(full key, section, key) of every path in a config: its files, and the source of images."""
    for place, path in user_files(config):
        if path not in ("pretrained", "random"):  # of weights, which need no file
            section: Any = raw
            for key in place[:-1]:
                section = section[key]
            yield ".".join(map(str, place)), section, str(place[-1])
    yield "source.path", raw["source"], "path"


def _settle_paths(
    config: PipelineConfig, folder: Path | None, listed: Mapping[str, Any]
) -> tuple[PipelineConfig, dict[str, Path], dict[str, str]]:
    """Relative paths refer to this machine and are uploaded; absolute ones and URIs refer to the cluster.

    Returns the config with the paths as the job will find them, the files to upload, and the other paths by key.
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
                "every node sees, or a URI (s3://…); a few images can be uploaded with --upload FOLDER"
            )
        else:
            section[key] = _uploaded(shown, value, along)
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
    """As `_settle_paths` for the folder of a `local-dir:` model; its config and the weights used are uploaded."""
    own = local_folder(model["name"])
    if own is None:
        return
    given = model["name"].partition(":")[2]
    if PurePosixPath(given).is_absolute():
        on_cluster[shown] = given
    elif folder is not None:
        _check_listed(shown, given, folder, listed)
    else:
        taken = _uploaded(shown, f"{given}/{MODEL_CONFIG}", along)
        target = PurePosixPath(taken).parent
        if model["weights"] == "pretrained":
            weights = weights_in(own)
            along[str(target / weights.name)] = weights
        model["name"] = f"{LOCAL}:{target}"


def _check_listed(shown: str, value: str, folder: Path, listed: Mapping[str, Any]) -> None:
    name = PurePosixPath(os.path.normpath(value)).as_posix()
    if not any(file == name or file.startswith(f"{name}/") or name == "." for file in listed):
        raise UploadError(
            f"{shown} is {value!r}, which is not among the files of --upload {folder}; put it there, remove it "
            "from what is ignored, or give an absolute path that every node sees"
        )


def _uploaded(shown: str, value: str, along: dict[str, Path]) -> str:
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
