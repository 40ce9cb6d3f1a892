"""Reference: what the model says about every clean image, computed once per model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from nullspace.stability import wilson_interval
from pipelines.ids import IdDigest, check_ids, digest_files
from pipelines.modelwork import ModelShards
from pipelines.shards import Shard, shard_sizes
from pipelines.shardwork import Spread, run_shards
from pipelines.stages import Context

VERSION = 1


class ReferenceShards(ModelShards):
    """Clean logits, features and prediction per image, and the mean norm of its tokens."""

    def rows(self, name: str, shard: Shard) -> pa.Table:
        logits, features, norms = [], [], []
        for batch in shard.batches(self.batch_images):
            tokens = self.model.tokens(self.pixels(shard, batch))
            outputs = self.model.outputs_from_tokens(tokens)
            logits.append(outputs.logits.float().cpu())
            features.append(outputs.features.float().cpu())
            norms.append(torch.linalg.vector_norm(tokens.float(), dim=-1).mean(dim=-1).cpu())
        joined = torch.cat(logits)
        return pa.table(
            {
                "id": shard.ids,
                "label": shard.labels.numpy(),
                "prediction": joined.argmax(dim=-1).numpy(),
                "logits": _lists(joined),
                "features": _lists(torch.cat(features)),
                "token_norm": torch.cat(norms).numpy(),
            }
        )


def _lists(matrix: torch.Tensor) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.numpy().reshape(-1)), matrix.shape[1])


def reference(context: Context, *, arguments: dict[str, Any], spread: Spread) -> dict[str, Any]:
    """Run the clean model over all shards; returns accuracy where labels are known, and the mean token norm."""
    ingested = context.inputs["ingest"]
    shards = shard_sizes(ingested.folder)
    arguments = {**arguments, "shards": str(ingested.folder)}
    run_shards(ReferenceShards, arguments, shards, out=context.folder, spread=spread, progress=context.progress)
    files = [context.folder / f"rows-{name}.parquet" for name in shards]
    check_ids("reference", IdDigest.from_dict(ingested.result["ids"]), digest_files(files))
    norm_sum = images = labelled = correct = 0.0
    for file in files:
        columns = pq.read_table(file, columns=["label", "prediction", "token_norm"])
        label, prediction = (np.asarray(columns.column(name)) for name in ("label", "prediction"))
        norm_sum += float(np.asarray(columns.column("token_norm"), np.float64).sum())
        images += len(label)
        labelled += int((label >= 0).sum())
        correct += int((label[label >= 0] == prediction[label >= 0]).sum())
    accuracy = None
    if labelled:
        interval = wilson_interval(int(correct), int(labelled))
        accuracy = {"accuracy": correct / labelled, "ci": list(interval), "n": int(labelled)}
    return {"images": int(images), "token_norm": norm_sum / images, "clean_accuracy": accuracy}
