"""Reference: what the model says about every clean image, computed once per model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from nullspace.metrics.outcomes import wilson_interval
from pipelines.data.shards import Shard, shard_sizes
from pipelines.engine.ids import IdDigest, check_ids, digest_files
from pipelines.engine.stage import Context, Stage
from pipelines.engine.workers.batch_size import is_given
from pipelines.engine.workers.model_workers import ModelShards
from pipelines.engine.workers.shard_workers import Workers, run_shards
from pipelines.stages.branch import Branch
from pipelines.stages.reference import class_numbers, label_check
from pipelines.stages.reference.label_check import LabelCounts
from pipelines.stages.reference.settings import ReferenceSettings

VERSION = 2


def reference_stage(branch: Branch, settings: ReferenceSettings) -> Stage:
    """The stage of one model."""
    facts = branch.facts

    def make(context: Context) -> dict[str, Any]:
        work = {
            "model": facts.spec,
            "device": branch.means.compute.device,
            "batch_images": settings.batch_images,
            "fixed": is_given(settings),
        }
        return reference(
            context,
            arguments=work,
            num_classes=facts.num_classes,
            label_warnings=facts.label_warnings,
            workers=context.workers(),
        )

    headlines = {"clean_accuracy": "clean_accuracy.accuracy"}
    decides = class_numbers.fingerprint(facts)
    return branch.stage("reference", VERSION, decides, {}, make, data="evaluation", headlines=headlines)


class ReferenceShards(ModelShards):
    """Clean logits, features, prediction and its probability per image, and the mean norm of its tokens."""

    def rows(self, name: str, shard: Shard) -> pa.Table:
        places = range(len(shard.ids))
        found = self.batch_size.each(places, lambda at: self._clean(self.pixels(shard, slice(at[0], at[-1] + 1))))
        logits, features, norms = zip(*found, strict=True)
        joined = torch.cat(logits)
        return pa.table(
            {
                "id": shard.ids,
                "label": shard.labels.numpy(),
                "prediction": joined.argmax(dim=-1).numpy(),
                "confidence": joined.softmax(dim=-1).amax(dim=-1).numpy(),
                "logits": _lists(joined),
                "features": _lists(torch.cat(features)),
                "token_norm": torch.cat(norms).numpy(),
            }
        )

    def _clean(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits and features of a batch and the mean norm of each image's tokens, on the CPU."""
        tokens = self.model.tokens(images)
        outputs = self.model.outputs_from_tokens(tokens)
        norms = torch.linalg.vector_norm(tokens.float(), dim=-1).mean(dim=-1)
        return outputs.logits.float().cpu(), outputs.features.float().cpu(), norms.cpu()


def _lists(matrix: torch.Tensor) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.numpy().reshape(-1)), matrix.shape[1])


def reference(
    context: Context, *, arguments: dict[str, Any], num_classes: int, label_warnings: Sequence[str], workers: Workers
) -> dict[str, Any]:
    """Run the clean model over all shards; returns accuracy where labels are known, and the mean token norm.

    `warnings` of the result say what speaks against the labels; `label_warnings` are known before.
    """
    ingested = context.inputs["ingest"]
    shards = shard_sizes(ingested.folder)
    arguments = {**arguments, "shards": str(ingested.folder)}
    run_shards(ReferenceShards, arguments, shards, out=context.folder, workers=workers, progress=context.progress)
    files = [context.folder / f"rows-{name}.parquet" for name in shards]
    check_ids("reference", IdDigest.from_dict(ingested.result["ids"]), digest_files(files))
    norm_sum, images, counts = 0.0, 0, LabelCounts(num_classes)
    for file in files:
        columns = pq.read_table(file, columns=["label", "prediction", "confidence", "token_norm"])
        counts.add(*(columns.column(name).to_numpy() for name in ("label", "prediction", "confidence")))
        norm_sum += float(np.asarray(columns.column("token_norm"), np.float64).sum())
        images += len(columns)
    accuracy = None
    if counts.images:
        interval = wilson_interval(counts.correct[0], counts.images)
        accuracy = {"accuracy": counts.correct[0] / counts.images, "ci": list(interval), "n": counts.images}
    return {
        "images": images,
        "token_norm": norm_sum / images,
        "clean_accuracy": accuracy,
        "warnings": label_check.label_warnings(counts, earlier=label_warnings),
    }
