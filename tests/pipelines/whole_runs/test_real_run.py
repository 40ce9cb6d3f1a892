"""The whole pipeline on real ImageNet images and real weights: exact noise is not seen, the same noise permuted is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.driver import Driver

# Few images and steps: what is asserted holds for any number of them.
SETTINGS = {
    "source.limit": "48",
    "ingest.shard_images": "24",
    "resources.workers": "1",  # a second one would cost more than it saves
    "search.trials": "1",
    "search.steps": "[4,4]",
    "search.report_every": "4",
    "search.batch_images": "8",
    "search.learn_images": "8",
    "search.validation_images": "8",
    "search.calibration_images": "16",
    "search.epsilon": "0.5",
    "adversarial": "null",
    "attribution.images": "4",
    "attribution.maps": "[input_times_gradient,gradient_weighted_attention]",
    "attribution.epsilon": "[8]",
    "attribution.relative_norm": "[]",
    "attribution.steps": "3",
    "attribution.examples": "1",
    "corruption.images": "4",
    "corruption.names": "[frost,jpeg_compression]",
    "corruption.severities": "[3]",
    "fooling.pairs": "4",
    "fooling.steps": "10",
    "fooling.universal": "[]",
    "kernel_noise.examples": "1",
    "visible_watermark.examples": "1",
    "payload.distortions": "[none,jpeg_75]",
}


@pytest.mark.real
@pytest.mark.ray
@pytest.mark.slow
def test_deit_tiny_on_real_images(assets: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {
        "source.path": str(assets / "imagenet_val_600" / "images"),
        "source.labels": str(assets / "imagenet_val_600" / "labels.csv"),
        "models.0.weights": str(assets / "deit_tiny_patch16_224" / "model.safetensors"),
    }
    with Driver(tmp_path / "work", config="deit_tiny", settings=settings) as driver:
        results = driver.results()
    model = results["models"]["deit_tiny_patch16_224"]
    assert model["kernel"]["rank"] == 191  # modulo the shift
    assert model["kernel"]["nullity"] == 577
    exact, permuted = (model["kernel_noise"]["conditions"][name] for name in ("exact", "permuted"))
    assert exact["n"] == permuted["n"] == 48
    assert exact["agreement"] == 1
    assert exact["max_abs_logit_change"] <= 1e-3
    assert exact["noise_rms"] >= 0.5
    assert exact["noise_rms"] == pytest.approx(permuted["noise_rms"], rel=1e-4)
    assert permuted["agreement"] < 0.8
    # 0.81 on all 600: the labels and the preprocessing are right
    assert model["reference"]["clean_accuracy"]["accuracy"] > 0.6
    assert model["learned_noise"]["conditions"]["learned"]["n"] == 16
    assert model["search"]["spread"] == pytest.approx(1, abs=1e-3)
    marks = model["visible_watermark"]["conditions"]
    assert marks["marked"]["agreement"] == 1
    assert marks["permuted"]["psnr"] == pytest.approx(marks["marked"]["psnr"], abs=0.5)
    hidden = model["payload"]["conditions"]
    saved = hidden["none"]
    assert saved["n"] == 48 and saved["agreement"] == 1 and saved["max_probability_change"] < 0.01
    assert all(hidden[name]["word_accuracy"] > 0.9 for name in ("none", "jpeg_75"))
