"""What a user may ask of a source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.settings import USER_FILE

Kind = Literal["auto", "folder", "csv", "unlabelled", "parquet", "webdataset", "digits"]


class SourceSettings(BaseModel):
    """Which images a run reads. Only `path` is needed: its kind is recognised by what lies there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = Field(
        default="auto",
        description="folder (one folder per class), csv (images + labels.csv), unlabelled (images only), parquet "
        "(encoded images in a column), webdataset (tar shards), digits (built in), or auto: recognised by what lies at "
        "`path`. Folders or labels that are wnids (n01440764) become the class that each model has for them",
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        description="local path or URI (s3://…, gs://…, https://…, file://…) of the images; of tar shards also a "
        "pattern (val-{000000..000063}.tar, val-*.tar); none for digits",
    )
    labels: Annotated[str | None, USER_FILE] = Field(
        default=None,
        min_length=1,
        description="csv only: the table of `file,label[,…]`, separated by , ; tab or |; default: labels.csv inside "
        "`path`",
    )
    file_column: str | None = Field(default=None, description="csv only: column of file names; default: `file`")
    image_column: str | None = Field(
        default=None,
        description="parquet: column of bytes; default: `image`, else `bytes`. webdataset: ending of the members that "
        "are the images; default: any image's",
    )
    label_column: str | None = Field(
        default=None,
        description="parquet and csv: column of labels; default: `label`. webdataset: ending of the members that hold "
        "the label; default: `cls`, else `label` in `json`",
    )
    id_column: str | None = Field(
        default=None, description="parquet only: column of unique ids; default: `id`, else file#row"
    )
    unmatched: Literal["error", "skip"] = Field(
        default="error",
        description="csv only: a file without a row, or a row without a file, stops the run (error) or becomes an "
        "error row like an unreadable image (skip)",
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        description="use only this many images: always the same ones for a seed, spread by a hash of the id",
    )
    split: Literal["held_out", "train", "all"] = Field(default="held_out", description="digits only: which images")
    seed: int = Field(default=0, ge=0, description="which images `limit` takes")

    @model_validator(mode="after")
    def _path_fits(self) -> SourceSettings:
        if self.kind == "digits" and self.path:
            raise ValueError(f"kind digits is built in and has no path, got {self.path!r}; remove one of the two")
        if self.kind != "digits" and not self.path:
            raise ValueError("`path` is needed: a folder of images, or use `kind: digits` for the built-in images")
        return self
