"""A trial of the search as a plain object, and the images it learns on; Tune is not started."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nullspace.errors import NullspaceError
from nullspace.metrics.keyed import place
from nullspace.metrics.mean_bound import upper_mean_bound
from nullspace.metrics.norms import remove_shift, token_norms
from nullspace.metrics.radius import changes, null_radius
from nullspace.metrics.unit import Unit
from nullspace.model.encoder import Encoder
from pipelines.data.shards import read_shard, shard_path, shard_sizes
from pipelines.data.split import Part
from pipelines.engine.workers.model_workers import read_outputs
from pipelines.stages.search.calibration import calibrated
from pipelines.stages.search.images import choose, join, read_images, write_images
from pipelines.stages.search.trial import NoiseTrial, TrialData, read_noise, trial_settings
from tests.pipelines import tiny

PARTS: tuple[Part, ...] = ("learn", "validation", "calibration")


def images_file(workdir: Path, sizes: tuple[int, ...] = (14, 10)) -> Path:
    shards = tiny.ingested(workdir / "ingest", sizes)
    reference = tiny.referenced(workdir / "reference", shards)
    split = tiny.split(learn=8, validation=6, calibration=5)
    parts = [choose(str(shards), str(reference), [name], split) for name in reversed(shard_sizes(shards))]
    write_images(workdir / "images.safetensors", join([part for part in parts if part]), split)
    return workdir / "images.safetensors"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrialData:
    return TrialData(
        model=asdict(tiny.spec()),
        images=str(images_file(tmp_path_factory.mktemp("search"))),
        device="cpu",
        batch_images=4,
        epsilon=0.02,
        report_every=3,
        shift_invariant=True,
        token_norm=6.0,
        ranks=(1, 3),
        precision="float32",
        seed=5,
    )


def config(data: TrialData, **given: Any) -> dict[str, Any]:
    return {"relative_norm": 0.4, "learning_rate": 0.1, "steps": 8, "data": asdict(data), **given}


def begun(config: dict[str, Any]) -> NoiseTrial:
    """A trial set up as Tune does it, without the folder in the home directory that Tune's constructor makes."""
    trial = NoiseTrial.__new__(NoiseTrial)
    trial.setup(config)
    return trial


def test_the_file_holds_the_images_of_the_split_in_their_order(data: TrialData) -> None:
    encoder = Encoder(tiny.spec().load("cpu"))
    found = read_images(data.images, PARTS, encoder, data.unit, batch_images=3)
    folder = Path(data.images).parent
    names = ("000000", "000001")
    shards = [read_shard(shard_path(folder / "ingest", name)) for name in names]
    outputs = torch.cat([read_outputs(folder / "reference", name).logits for name in names])
    ids = [id_ for shard in shards for id_ in shard.ids]
    split = tiny.split(learn=8, validation=6, calibration=5)
    for part in PARTS:
        of_part = [id_ for id_ in ids if split.part(id_) == part]
        # A bound on a mean reads its images in random order, learning in one that no cut into shards can change.
        in_order = sorted(of_part, key=lambda id_: place(id_, split.seed) if part == "calibration" else id_)
        chosen = [ids.index(id_) for id_ in in_order]
        images = torch.cat([shard.images for shard in shards])[chosen].float() / 255
        with torch.no_grad():
            torch.testing.assert_close(found[part].states, encoder.states(images), rtol=1e-4, atol=1e-4)
        assert torch.equal(found[part].clean.logits, outputs[chosen])


def test_the_images_do_not_depend_on_the_cut(data: TrialData, tmp_path: Path) -> None:
    encoder = Encoder(tiny.spec().load("cpu"))
    files = (data.images, str(images_file(tmp_path, (3, 20, 1))))
    one, other = (read_images(file, PARTS, encoder, data.unit, 8) for file in files)
    for part in PARTS:
        assert torch.equal(one[part].states, other[part].states)
        torch.testing.assert_close(one[part].clean.logits, other[part].clean.logits, rtol=1e-4, atol=1e-4)


def test_a_trial_reports_by_steps_and_says_when_it_is_done(data: TrialData) -> None:
    trial = begun(config(data))
    reports = [trial.step() for _ in range(3)]
    assert [report["step"] for report in reports] == [3, 6, 8]
    assert [report["done"] for report in reports] == [False, False, True]
    assert all(isinstance(report["capped"], int) and 0 <= report["agreement"] <= 1 for report in reports)


def test_the_radius_is_the_norm_at_which_validation_images_reach_epsilon(data: TrialData) -> None:
    trial = begun(config(data))
    report = trial.step()
    held_out, noise = trial.parts["validation"], trial.learner.noise
    found = null_radius(held_out, noise, epsilon=data.epsilon)
    norm = Unit(data.token_norm, True).relative_norm(noise)
    assert norm == pytest.approx(0.4, rel=1e-4)
    assert (report["scale"], report["radius"]) == (found.scale, pytest.approx(found.scale * norm))
    assert report["probability_change"] == pytest.approx(found.probability_change, rel=1e-3) and found.scale > 0
    assert report["probability_change"] <= data.epsilon


def test_the_noise_holds_its_norm_in_every_token_and_has_no_shift(data: TrialData) -> None:
    trial = begun(config(data))
    trial.step()
    noise = trial.learner.noise
    torch.testing.assert_close(remove_shift(noise), noise, rtol=0, atol=1e-5)
    torch.testing.assert_close(token_norms(noise), torch.full((16,), 0.4 * 6.0, dtype=torch.float64), rtol=1e-5, atol=0)


def test_the_best_step_is_kept(data: TrialData, tmp_path: Path) -> None:
    trial = begun(config(replace(data, report_every=1), learning_rate=1.5))
    reports, noises = [], []
    for _ in range(8):
        reports.append(trial.step())
        noises.append(trial.learner.noise)
    radii = [report["radius"] for report in reports]
    assert radii == sorted(radii) and len(set(radii)) < 8, "at this rate some steps make it worse"
    trial.save_checkpoint(str(tmp_path))
    assert torch.equal(read_noise(tmp_path), noises[reports[-1]["best_step"] - 1])


def test_in_bfloat16_noise_is_learned_and_what_it_does_is_measured_in_float32(data: TrialData) -> None:
    trial = begun(config(replace(data, precision="bfloat16")))
    report = trial.step()
    assert trial.settings.precision == "bfloat16" and trial.best_noise is not None
    assert trial.best_noise.dtype == torch.float32
    assert {parameter.dtype for parameter in trial.encoder.model.parameters()} == {torch.float32}
    found = null_radius(trial.parts["validation"], trial.best_noise, epsilon=data.epsilon)
    assert report["scale"] == found.scale > 0
    in_float32 = begun(config(data))
    assert report["radius"] == pytest.approx(in_float32.step()["radius"], rel=0.3)
    assert not torch.equal(trial.learner.noise, in_float32.learner.noise)


def test_learning_lowers_the_loss(data: TrialData) -> None:
    trial = begun(config(replace(data, report_every=10, batch_images=10), steps=40))
    losses = [trial.step()["loss"] for _ in range(4)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_loaded_trial_goes_on_bit_for_bit(data: TrialData, tmp_path: Path) -> None:
    whole, first = begun(config(data)), begun(config(data))
    expected = [whole.step() for _ in range(3)]
    assert first.step() == expected[0]
    first.save_checkpoint(str(tmp_path))
    assert torch.equal(read_noise(tmp_path), first.learner.noise), "the only step there is is the best"
    second = begun(config(data))
    second.load_checkpoint(str(tmp_path))
    assert [second.step(), second.step()] == expected[1:]
    assert torch.equal(second.learner.noise, whole.learner.noise)


def test_a_trial_killed_between_its_last_checkpoint_and_its_end_can_report_again(
    data: TrialData, tmp_path: Path
) -> None:
    trial = begun(config(data, steps=3))
    last = trial.step()
    trial.save_checkpoint(str(tmp_path))
    again = begun(config(data, steps=3))
    again.load_checkpoint(str(tmp_path))
    assert last["done"] and again.step() == last


def test_a_reused_process_does_the_next_trial_as_a_fresh_one(data: TrialData) -> None:
    other = config(data, relative_norm=0.9, steps=3)
    used = begun(config(data))
    used.step()
    encoder, states = used.encoder, used.parts["learn"].states
    assert used.reset_config(other)
    assert used.encoder is encoder and used.parts["learn"].states is states
    assert used.step() == begun(other).step()


def test_a_process_is_not_reused_for_other_data(data: TrialData) -> None:
    trial = begun(config(data))
    assert not trial.reset_config(config(replace(data, epsilon=0.5)))
    assert trial.step() == begun(config(data)).step(), "it is as it was"


def test_what_is_searched_reaches_the_learner(data: TrialData) -> None:
    settings = trial_settings(config(data, steps=8.0), data)
    assert (settings.ranks, settings.learning_rate) == ((1, 3), 0.1)
    assert (settings.relative_norm, settings.steps, settings.batch_size, settings.seed) == (0.4, 8, 4, 5)


def test_trials_from_before_and_after_a_kill_share_a_process(data: TrialData) -> None:
    restored = json.loads(json.dumps(config(data)))
    assert begun(restored).reset_config(config(data))
    assert begun(config(data)).reset_config(restored)


def test_the_scale_is_calibrated_on_images_of_no_trial(data: TrialData) -> None:
    trial = begun(config(data))
    trial.step()
    noise = trial.learner.noise
    given = replace(data, epsilon=1.5)  # so that five images can show something
    found = calibrated(noise.cpu().numpy(), given, 1.0, 0.9)
    images = read_images(data.images, ("calibration",), trial.encoder, data.unit, 4)["calibration"]
    change, kept = changes(images, noise, scale=found["scale"])
    assert found["n"] == 5 and found["bound"] <= found["epsilon"] == 1.5 and found["confidence"] == 0.9
    assert found["bound"] == pytest.approx(upper_mean_bound(change, target=1.5, confidence=0.9, largest=2.0))
    assert found["probability_change"] == pytest.approx(float(change.mean()), rel=1e-4)
    assert found["agreement"] == pytest.approx(float(kept.double().mean()))
    json.dumps(found)
    with pytest.raises(NullspaceError, match="at least 232 calibration images.* got 5"):
        calibrated(noise.cpu().numpy(), data, 1.0, 0.9)
