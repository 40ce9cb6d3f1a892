"""The contract of evaluations, on a question made up for it: what its workers are given, and what its stage keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyarrow as pa
import pytest
import torch

from nullspace.model.vit import SplitViT
from pipelines.engine.ids import IdDigest
from pipelines.engine.stage import Done, Stage
from pipelines.errors import ConfigError, StageError
from pipelines.evaluations.base import (
    Asked,
    Columns,
    Evaluation,
    EvaluationShards,
    ImageBatch,
    Verdict,
    evaluation_stage,
    outcome_columns,
)
from pipelines.evaluations.settings import EvaluationSettings
from pipelines.evaluations.tallies import OutcomeTally
from pipelines.files import read_json
from pipelines.settings import HOW, USER_FILE
from pipelines.stages.branch import Branch
from tests.pipelines import tiny


class Settings(EvaluationSettings):
    strength: float = 0.5
    logo: Annotated[str | None, USER_FILE] = None
    note: Annotated[str, HOW] = ""
    examples: int = 0


class Shards(EvaluationShards[Settings]):
    """Darkens images, and says of each what the worker was given."""

    def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
        n = len(batch.ids)
        given = torch.arange(n) + batch.first
        same = (batch.saved.float() / 255 - batch.images.cpu()).flatten(1).abs().amax(1)
        unchanged = outcome_columns(batch.before, self.outputs(batch.images))
        yield "same", {"place": given, "kept": [i < batch.keep for i in range(n)], "same": same, **unchanged}
        darker = self.outputs(batch.images * self.settings.strength)
        yield "darker", {"strength": [self.settings.strength] * n, **outcome_columns(batch.before, darker)}


def tallies(asked: Asked[Settings]) -> dict[str, OutcomeTally]:
    return {"same": OutcomeTally(("place",)), "darker": OutcomeTally(("strength",)), "nobody": OutcomeTally()}


QUESTION = Evaluation(
    name="darkness",
    version=1,
    settings=Settings,
    worker=Shards,
    tallies=tallies,
    needs=("kernel",),
    verdict=lambda asked: Verdict(warnings=(f"of strength {asked.settings.strength}",)),
    from_inputs=lambda asked: {"rtol": asked.inputs["kernel"].result["rtol"]},
    headlines=("darker.agreement",),
)


def ask(out: Path, made: dict[str, Done], question: Evaluation[Settings] = QUESTION, **given: Any) -> Done:
    return tiny.evaluated(question, out, Settings(**{"batch_images": 4, **given}), made)


def test_a_worker_is_given_every_image_once_with_what_the_model_says_of_it(
    made: dict[str, Done], tmp_path: Path
) -> None:
    rows = tiny.rows(ask(tmp_path, made).folder)
    for _, own in rows.groupby("condition"):
        assert own["id"].tolist() == tiny.digits().ids[: tiny.COUNT]
        assert own["label"].tolist() == tiny.digits().labels[: tiny.COUNT].tolist()
    same = rows[rows.condition == "same"]
    assert same["place"].tolist() == [*range(14), *range(10)], "of each shard"
    assert same["agree"].all() and same["max_abs_logit_change"].max() < 1e-4
    assert (same["same"] == 0).all(), "saved and images are one"


def test_what_a_condition_does_not_have_is_null(made: dict[str, Done], tmp_path: Path) -> None:
    rows = tiny.rows(ask(tmp_path, made).folder)
    same, darker = (rows[rows.condition == name] for name in ("same", "darker"))
    assert same["strength"].isna().all() and darker["place"].isna().all()
    assert (darker["strength"] == 0.5).all() and same["place"].notna().all()


@pytest.mark.parametrize(("examples", "kept"), [(0, 0), (3, 3), (6, 6), (64, 14)])
def test_examples_are_the_first_images_of_the_first_shard(
    made: dict[str, Done], tmp_path: Path, examples: int, kept: int
) -> None:
    rows = tiny.rows(ask(tmp_path, made, examples=examples).folder)
    found = rows[(rows.condition == "same") & rows.kept.eq(True)]
    assert found["id"].tolist() == tiny.digits().ids[:kept], "also where batches are smaller"


def test_a_question_without_pictures_keeps_none(made: dict[str, Done], tmp_path: Path) -> None:
    done = tiny.evaluated(QUESTION, tmp_path, _Plain(batch_images=4), made)
    assert not tiny.rows(done.folder).kept.eq(True).any()


class _Plain(EvaluationSettings):
    strength: float = 0.5


def test_the_result_says_what_was_found_of_what_and_how(made: dict[str, Done], tmp_path: Path) -> None:
    done = ask(tmp_path, made, strength=0.25, note="how")
    assert read_json(tmp_path / "darkness.json") == done.result
    assert set(done.result) == {"rtol", "conditions", "settings", "warnings"}
    assert list(done.result["conditions"]) == ["same", "darker", "nobody"]
    assert done.result["settings"] == {"strength": 0.25, "logo": None, "examples": 0}
    assert done.warnings == ["of strength 0.25"]
    darker, rows = done.result["conditions"]["darker"], tiny.rows(tmp_path)
    own = rows[rows.condition == "darker"]
    assert (darker["n"], darker["strength"]) == (24, 0.25) and darker["agreement"] == own["agree"].mean()
    assert darker["max_probability_change"] == own["probability_change"].max()
    assert done.result["conditions"]["nobody"] == {}


def test_shards_that_were_written_are_not_worked_on_again(made: dict[str, Done], tmp_path: Path) -> None:
    first = ask(tmp_path, made)
    before = [file.stat() for file in sorted(tmp_path.glob("rows-*"))]
    assert ask(tmp_path, made).result == first.result
    assert [file.stat() for file in sorted(tmp_path.glob("rows-*"))] == before


def test_every_condition_must_hold_every_image_once(made: dict[str, Done], tmp_path: Path) -> None:
    class Forgetful(Shards):
        def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
            for name, columns in super().conditions(batch):
                if (name, batch.first) != ("darker", 8):
                    yield name, columns

    with pytest.raises(StageError, match="darkness: expected each of 24 ids once for 'darker', got 18 rows"):
        ask(tmp_path / "a", made, replace(QUESTION, worker=Forgetful))
    others = IdDigest().add([f"other{n}" for n in range(tiny.COUNT)]).to_dict()
    wrong = {**made, "ingest": replace(made["ingest"], result={"ids": others})}
    with pytest.raises(StageError, match="darkness: expected each of 24 ids once .* with other or doubled ids"):
        ask(tmp_path / "b", wrong)


def test_a_question_that_makes_no_sense_costs_nothing(made: dict[str, Done], tmp_path: Path) -> None:
    class NoWorker(Shards):
        def __init__(self, *_: Any) -> None:
            pytest.fail("no worker is started")

    question = replace(QUESTION, worker=NoWorker, verdict=lambda asked: Verdict("all is dark"), from_inputs=_never)
    assert ask(tmp_path, made, question).result == {"skipped": "all is dark"}
    assert not list(tmp_path.iterdir())


def _never(asked: Asked[Settings]) -> Any:
    pytest.fail("asked of what is skipped")


# --- the stage -------------------------------------------------------------------------------------------------------


def stage(seed: int = 0, question: Evaluation[Settings] = QUESTION, **given: Any) -> Stage:
    ingest = Stage("ingest", 1, {}, {}, lambda context: {})
    means: Any = None
    branch = Branch(tiny.facts(), seed, ingest, means)
    made = {name: branch.stage(name, 1, {}, {}, lambda context: {}) for name in ("reference", "kernel", "search")}
    return evaluation_stage(question, branch, Settings(**given), made)


def test_the_stage_reads_ingest_reference_and_what_the_question_needs() -> None:
    found = stage()
    assert (found.key, list(found.inputs)) == (f"darkness--{tiny.spec().label}", ["ingest", "reference", "kernel"])
    assert found.data == "evaluation"
    assert found.headlines == {"darkness.darker.agreement": "conditions.darker.agreement"}


def test_the_fingerprint_is_of_what_is_asked_not_of_how() -> None:
    first = stage().fingerprint
    assert stage(batch_images=3, note="another").fingerprint == first
    others = [stage(strength=0.1), stage(examples=2), stage(seed=1), stage(question=replace(QUESTION, version=2))]
    assert len({first, *(other.fingerprint for other in others)}) == 5


def test_of_a_file_of_the_users_the_content_counts(tmp_path: Path) -> None:
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    one.write_bytes(b"red")
    other.write_bytes(b"red")
    first = stage(logo=str(one)).fingerprint
    assert stage(logo=str(other)).fingerprint == first != stage().fingerprint
    one.write_bytes(b"green")
    assert stage(logo=str(one)).fingerprint != first
    with pytest.raises(ConfigError, match="logo: cannot read .*nowhere.png"):
        stage(logo=str(tmp_path / "nowhere.png"))


def test_numbers_of_a_condition_are_columns_of_an_entry_per_image(made: dict[str, Done], tmp_path: Path) -> None:
    class TooFew(Shards):
        def conditions(self, batch: ImageBatch) -> Iterator[tuple[str, Columns]]:
            yield "same", {"strength": [1.0]}

    with pytest.raises(pa.ArrowInvalid, match="length"):
        ask(tmp_path, made, replace(QUESTION, worker=TooFew))


def test_a_batch_that_does_not_fit_is_halved_and_rows_are_the_same(
    made: dict[str, Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tiny.rows(ask(tmp_path / "small", made, batch_images=3, examples=5).folder)
    fits = SplitViT.outputs_from_tokens

    def short(model: SplitViT, tokens: torch.Tensor) -> Any:
        if len(tokens) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fits(model, tokens)

    monkeypatch.setattr(SplitViT, "outputs_from_tokens", short)
    found = tiny.rows(ask(tmp_path / "halved", made, batch_images=12, examples=5).folder)
    order = ["condition", "id"]
    found, expected = (each.sort_values(order, ignore_index=True) for each in (found, expected))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-6)
