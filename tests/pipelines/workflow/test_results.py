"""results.json and the figures MLflow gets, from the results of the stages."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipelines.configs.reading import load_config
from pipelines.engine.stage import Done, Stage
from pipelines.tracking.stage_runs import flat_metrics, recorded
from pipelines.tracking.tracker import BRANCH, FINGERPRINT, PARENT, STAGE
from pipelines.workflow import report_stage
from pipelines.workflow.plan import Plan
from pipelines.workflow.results import all_warnings, data_results, model_results
from tests.pipelines import tiny

CONDITION = {"agreement": 0.9, "agreement_ci": [0.8, 0.95], "n": 50, "mse_logits": 1.0, "mse_probabilities": 0.1}
RESULTS: dict[str, dict[str, Any]] = {
    "reference": {"clean_accuracy": {"accuracy": 0.98, "ci": [0.96, 0.99], "n": 50}, "token_norm": 5.0},
    "kernel": {"patch_dim": 192, "embed_dim": 96, "rank": 96, "nullity": 96, "rtol": 4e-14},
    "search": {"norm": 3.0, "relative_norm": 0.5, "spread": 1.0, "split": {"seed": 0}},
    "kernel_noise": {"conditions": {"exact": {**CONDITION, "max_abs_logit_change": 1e-4}, "permuted": CONDITION}},
    "learned_noise": {"conditions": {"learned": CONDITION, "permuted": CONDITION, "gaussian": CONDITION}},
    "visible_watermark": {"conditions": {"marked": {"psnr": 20.0, "ssim": 0.8, "agreement": 1.0, "n": 50}}},
    "payload": {"skipped": "too few embedding sites"},
    "attribution": {"conditions": {"steered": CONDITION}},
    "adversarial": {"conditions": {"linf_eps1": CONDITION}},
    "corruption": {"conditions": {"mean": CONDITION}},
    "fooling": {"conditions": {"logits_eps4": CONDITION}},
    "transfer": {"others": ["b"], "conditions": {"kernel_own": CONDITION, "kernel_on_b": CONDITION}},
}


def finished(**changed: dict[str, Any]) -> dict[str, Done]:
    return {name: Done(Path("/runs") / name, content, 1.0, False) for name, content in {**RESULTS, **changed}.items()}


def test_a_models_results_have_the_promised_keys() -> None:
    found = model_results(tiny.facts(), finished(), {"registered_model": "mine", "version": 3})
    assert found["model"]["weights_sha256"] == tiny.spec().weights_sha256
    assert found["model"]["preprocessing"]["input_size"] == [64, 64]
    assert {"patch_dim", "embed_dim", "rank", "nullity", "rtol"} <= set(found["kernel"])
    assert list(found) == ["model", *RESULTS, "warnings"]
    for name in set(RESULTS) - {"search"}:
        assert found[name] == RESULTS[name], "as its stage returned it, or why there is nothing"
    assert found["kernel_noise"]["conditions"]["exact"]["max_abs_logit_change"] == 1e-4
    assert found["search"]["artifact"] == "/runs/search/noise.safetensors"
    assert (found["search"]["registered_model"], found["search"]["version"]) == ("mine", 3)
    assert set(found["learned_noise"]["conditions"]) == {"learned", "permuted", "gaussian"}
    assert "split" not in found["search"] and "split" in RESULTS["search"]
    assert found["reference"]["clean_accuracy"]["n"] == 50


def test_stages_that_were_not_run_have_no_key() -> None:
    done = {name: each for name, each in finished().items() if name in ("reference", "kernel", "payload")}
    assert list(model_results(tiny.facts(), done, {})) == ["model", "reference", "kernel", "payload", "warnings"]


def test_equal_models_under_two_labels_keep_their_own_stages(tmp_path: Path) -> None:
    branches = {label: {"kernel": Stage("kernel", 1, {}, {}, lambda _: {}, branch=label)} for label in ("a", "b")}
    plan = Plan({}, branches)
    first, second = plan.in_order()
    assert first.fingerprint == second.fingerprint and first.place != second.place
    done = {first.place: Done(tmp_path / "a", {}, 1.0, True), second.place: Done(tmp_path / "b", {}, 2.0, False)}
    models = {label: {"kernel": tmp_path / label} for label in ("a", "b")}
    assert report_stage._folders(plan, done) == models
    tracker: Any = SimpleNamespace(uri="sqlite:///mlflow.db")
    stages = report_stage._run(load_config("demo"), plan, done, tracker, "7")["stages"]
    assert [(each["branch"], each["seconds"], each["reused"]) for each in stages] == [
        ("a", 1.0, True),
        ("b", 2.0, False),
    ]


def test_data_results_count_for_each_preprocessing() -> None:
    counts = {"images": 9, "errors": 1, "reasons": {"the file is empty": 1}, "first_of_many": 0, "contents": "a1"}
    one = Done(Path("a"), {**counts, "ids": {}}, 1.0, False)
    counts = {"images": 8, "errors": 2, "reasons": {}, "first_of_many": 1, "contents": "b2"}
    other = Done(Path("b"), {**counts, "ids": {}}, 1.0, False)
    found = data_results({"small": one, "large": other}, {"kind": "folder"})
    assert (found["images"], found["errors"], found["source"]) == (9, 1, {"kind": "folder"})
    assert found["preprocessings"]["large"] == counts


def test_warnings_are_those_of_the_images_and_of_each_model_once() -> None:
    images = {key: Done(Path(key), {"warnings": ["first frames"]}, 1.0, False) for key in ("small", "large")}
    warned = finished(reference={**RESULTS["reference"], "warnings": ["labels look wrong"]})
    models = {label: model_results(tiny.facts(), warned, {}) for label in ("one", "two")}
    assert models["one"]["warnings"] == ["labels look wrong"]
    assert all_warnings(images, models) == ["first frames", "one: labels look wrong", "two: labels look wrong"]
    assert all_warnings({}, {"one": models["one"]}) == ["labels look wrong"]
    assert model_results(tiny.facts(), finished(), {})["warnings"] == []


def test_every_figure_of_a_nested_result_becomes_a_number() -> None:
    given = {
        "noise": {"learned": {"agreement": 0.5, "agreement_ci": [0.4, 0.6], "n": 10}},
        "accuracy": {"ci": (0.1, 0.2)},
        "invariant": True,
        "psnr": None,
        "psnr_ci": None,
        "name": "text",
        "places": [1, 2],
    }
    assert dict(flat_metrics(given)) == {
        "noise.learned.agreement": 0.5,
        "noise.learned.agreement_ci.low": 0.4,
        "noise.learned.agreement_ci.high": 0.6,
        "noise.learned.n": 10.0,
        "accuracy.ci.low": 0.1,
        "accuracy.ci.high": 0.2,
        "invariant": 1.0,
    }
    assert all(isinstance(value, float) for value in dict(flat_metrics(given)).values())


def test_a_stage_is_looked_for_under_its_own_branch() -> None:
    """One model under two labels has equal fingerprints: each branch still has a run of its own."""
    one, other = (Stage("kernel", 1, {}, {}, lambda context: {}, branch=branch) for branch in ("one", "other"))
    assert one.fingerprint == other.fingerprint
    kept = {PARENT: "parent", FINGERPRINT: one.fingerprint, STAGE: "kernel", BRANCH: "one"}
    tracker: Any = SimpleNamespace(
        find=lambda tags: SimpleNamespace(info=SimpleNamespace(status="FINISHED")) if tags == kept else None
    )
    assert recorded(tracker, "parent", one) and not recorded(tracker, "parent", other)
