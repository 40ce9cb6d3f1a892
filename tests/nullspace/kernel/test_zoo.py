"""The zoo: one row per model, whatever becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import timm

from nullspace.errors import NullspaceError, UnknownModelError
from nullspace.kernel import zoo
from nullspace.kernel.zoo import ZooRow, zoo_names, zoo_row, zoo_rows


def row(name: str, **options: Any) -> ZooRow:
    return zoo_row(name, weights="random", **options)


def test_a_row_has_the_known_dimensions_and_the_measured_shift() -> None:
    found = row("deit_tiny_patch16_224")
    assert (found.embed_dim, found.patch_size, found.patch_dim, found.tokens) == (192, (16, 16), 768, 196)
    assert (found.rank, found.nullity, found.modulo_shift, found.per_channel_nullity) == (191, 577, True, 192)
    assert found.shift_directions == 196 and "of the control at 10 token norms" in found.shift_measured
    assert found.parameters == 5_717_416 and not found.reason
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["patch_size"] == [16, 16]


def test_a_fresh_model_that_hardly_acts_is_measured_in_float64() -> None:
    """Its control changes the logits by 3e-8: float32 alone would call its shifts seen."""
    found = row("vit_small_patch16_rope_224")
    assert found.shift_directions == 196 and found.shift_measured.endswith("float64")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet18", "expected a model with a patch embedding, got ResNet"),
        ("pit_ti_224", "stride (16, 16)), got stride (8, 8)"),
        ("vit_tiny_r_s16_p8_224", "expected one convolution that reads the image, got 2"),
        ("crossvit_tiny_240", "several patch embeddings"),
    ],
)
def test_a_refused_model_is_a_row_with_the_reason(name: str, reason: str) -> None:
    found = row(name)
    assert reason in found.reason and found.nullity is None and found.rank is None
    assert found.parameters and "\n" not in found.reason


def test_a_stem_without_a_kernel_can_still_have_its_shifts_measured() -> None:
    found = row("vit_tiny_r_s16_p8_224")
    assert found.reason and found.shift_directions == found.tokens == 49


def test_a_model_too_large_to_run_is_built_without_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(zoo, "build_model")  # what would build it whole
    found = row("vit_gigantic_patch14_clip_224")
    assert found.parameters and found.parameters > 1e9
    assert found.rank == min(found.embed_dim or 0, found.patch_dim or 0) == 588
    assert found.nullity == 0 and found.shift_directions == 0
    assert "not measured" in found.shift_measured and "limit of 400 million" in found.shift_measured


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "vit_tiny_r_s16_p8_224"])
def test_the_stem_alone_says_what_the_whole_model_says(name: str) -> None:
    whole, stem = row(name), row(name, max_parameters=1000)
    fields = ("parameters", "embed_dim", "patch_size", "patch_dim", "tokens", "reason")
    assert all(getattr(whole, field) == getattr(stem, field) for field in fields)
    # What only shifts a token belongs to the kernel where it was measured to be ignored: the whole model alone tells.
    assert whole.nullity == (None if stem.nullity is None else stem.nullity + 1) and not stem.modulo_shift
    assert stem.shift_directions == 0 and "not measured" in stem.shift_measured


def test_pretrained_weights_of_a_model_too_large_are_refused_with_the_remedy() -> None:
    found = zoo_row("deit_tiny_patch16_224", weights="pretrained", max_parameters=1000)
    assert "raise max_parameters" in found.reason and found.nullity is None


def test_weights_that_cannot_be_had_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, pretrained: bool = False, **_: Any) -> Any:
        if pretrained:
            raise ConnectionError("no network")
        return create(name)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", offline)
    found = zoo_row("deit_tiny_patch16_224", weights="pretrained")
    assert "pretrained weights of deit_tiny_patch16_224 cannot be had (no network)" in found.reason


@pytest.mark.parametrize("error", [RuntimeError("a\nb"), MemoryError(), AssertionError("size"), ImportError("extra")])
def test_no_failure_drops_a_row(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(zoo, "build_model", failing)
    found = row("deit_tiny_patch16_224")
    assert found.reason.startswith(type(error).__name__) and found.name == "deit_tiny_patch16_224"


def test_rows_come_one_at_a_time_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def fake(name: str, **_: Any) -> ZooRow:
        made.append(name)
        return ZooRow(name=name, weights="random")

    monkeypatch.setattr(zoo, "zoo_row", fake)
    rows = zoo_rows("deit_*", weights="random")
    assert not made
    assert next(rows).name == made[0] == "deit_base_distilled_patch16_224"
    assert [made[0], *(each.name for each in rows)] == zoo_names("deit_*") == sorted(made)


def test_errors() -> None:
    with pytest.raises(UnknownModelError, match=r"got 'vitx\*', which matches none of \d+; quote it in the shell"):
        zoo_names("vitx*")
    with pytest.raises(NullspaceError, match="expected weights 'random' or 'pretrained', got 'file'"):
        list(zoo_rows("deit_tiny_*", weights="file"))
