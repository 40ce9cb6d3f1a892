"""The config: defaults, every way to get it wrong, variables, overrides, and what its fingerprint stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.configs.pipeline import PipelineConfig
from pipelines.configs.reading import SHIPPED, find_config, load_config
from pipelines.errors import ConfigError

MINIMAL: dict[str, Any] = {"name": "mine", "source": {"kind": "digits"}, "models": [{"name": "nullspace_digits_vit"}]}


def load(tmp_path: Path, *overrides: str, without: str = "", **changed: Any) -> PipelineConfig:
    said = {key: value for key, value in {**MINIMAL, **changed}.items() if key != without}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(said))
    return load_config(file, list(overrides))


def test_three_keys_make_a_config_and_the_rest_has_defaults(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.search is not None and config.kernel_noise is not None
    assert (config.seed, config.device, config.tracking.uri) == (0, "auto", None)
    assert (config.models[0].weights, config.models[0].label) == ("pretrained", "nullspace_digits_vit")
    assert (config.kernel_noise.rms, config.search.steps, config.ingest.shard_images) == (0.5, (50, 200), 256)
    assert load_config(tmp_path / "config.yaml") == config


def test_a_label_made_from_a_name_can_be_a_folder(tmp_path: Path) -> None:
    for name, label in (
        ("hf_hub:timm/vit", "hf_hub_timm_vit"),
        ("hf-hub:timm/vit.a@main", "hf-hub_timm_vit.a_main"),
        ("local-dir:~/my models/é", "local-dir___my_models__"),
    ):
        assert load(tmp_path, models=[{"name": name}]).models[0].label == label


def test_arguments_of_a_model_can_be_set(tmp_path: Path) -> None:
    config = load(tmp_path, "models.0.args.num_classes=10", "models.0.args.img_size=[32, 64]", "models.0.ema=false")
    assert (config.models[0].args, config.models[0].ema) == ({"num_classes": 10, "img_size": [32, 64]}, False)
    assert config.fingerprint() != load(tmp_path).fingerprint()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sead": 1}, "sead: unknown key; did you mean 'seed'?"),
        ({"search": {"trails": 3}}, r"search.trails: unknown key; did you mean 'trials'?"),
        ({"source": {"kind": "digits", "lable": 1}}, r"source.lable: unknown key; did you mean 'labels'?"),
        ({"models": [{"name": "a", "wieghts": "b"}]}, r"models.0.wieghts: unknown key; did you mean 'weights'?"),
        ({"kernel": {"zzzzzz": 1}}, "kernel.zzzzzz: unknown key; known keys here: rtol"),
        (
            {"kernel_noise": {"zzzzzz": 1}},
            "kernel_noise.zzzzzz: unknown key; known keys here: batch_images, examples, rms",
        ),
        ({"seed": "many"}, r"seed: Input should be a valid integer.* \(got 'many'\)"),
        ({"models": "deit"}, r"models: Input should be a valid (list|tuple).* \(got 'deit'\)"),
        ({"kernel_noise": {"rms": 0}}, r"kernel_noise.rms: Input should be greater than 0 \(got 0\)"),
        ({"kernel_noise": {"rms": float("inf")}}, "kernel_noise.rms: Input should be a finite number"),
        ({"ingest": {"max_error_fraction": 2}}, "ingest.max_error_fraction: .*less than or equal to 1"),
        ({"search": {"relative_norm": [2, 1]}}, r"search.relative_norm: expected \[low, high\] with 0 < low <= high"),
        ({"search": {"steps": [1, 2, 3]}}, "search.steps: .*at most 2 items"),
        ({"search": {"epsilon": 2}}, "search.epsilon: .*less than 2"),
        ({"visible_watermark": {"position": "nose"}}, "visible_watermark.position: .*'bottom-right' or 'tile'"),
        ({"visible_watermark": {"text": "  "}}, "visible_watermark.text: expected a text that can be seen"),
        ({"payload": {"distortions": ["jpeg_0"]}}, "payload.distortions: expected a strength of 1 to 100"),
        (
            {"search": None},
            r"search is null; make learned_noise null, too \(--set learned_noise=null\), or",
        ),
        ({"kernel": None}, "kernel: every run needs it, so it cannot be null; leave it out to have its defaults"),
        ({"source": None}, "source: every run needs it, so it cannot be null; give it a value"),
        ({"source": {"kind": "folder"}}, "source: `path` is needed"),
        ({"source": {"kind": "floder", "path": "x"}}, "source.kind: .*'folder'"),
        ({"models": []}, "models: .*at least 1 item"),
        ({"models": [{"name": "a"}, {"name": "a"}]}, "models share the label a; give each its own `label`$"),
        ({"models": [{"name": "a", "label": "a/b"}]}, "label 'a/b' must be made of letters"),
        ({"models": [{"name": "a", "args": {"in_chans": 4}}]}, "models.0.args: expected in_chans 3, got 4"),
        ({"models": [{"name": "a", "args": {"pretrained": True}}]}, "models.0.args: .* 'pretrained' cannot be given"),
        ({"models": [{"name": "a", "args": "img_size=3"}]}, "models.0.args: Input should be a valid dictionary"),
        ({"name": "my run"}, "name: String should match pattern"),
        ({"name": "../mine"}, "name: String should match pattern"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)config.yaml has .*{message}"):
        load(tmp_path, **changed)


@pytest.mark.parametrize("key", ["name", "source", "models"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"has 1 problem:\n  {key}: required, but missing"):
        load(tmp_path, without=key)


def test_what_was_set_on_the_command_line_is_named_by_its_option() -> None:
    wrong = ["search.epsilon=3", "kernel_noise={rms: -1}", "search.confidence=2"]
    with pytest.raises(ConfigError) as error:
        load_config("demo", wrong)
    lines = str(error.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "--set search.epsilon",
        "--set search.confidence",
        "--set kernel_noise",
    ]
    assert lines[2].startswith("--set kernel_noise: kernel_noise.rms: Input should be greater than 0")
    with pytest.raises(ConfigError, match=r"^--set search.epsilon: search: calibration_images, epsilon: "):
        load_config("demo", ["search.epsilon=0.001"])


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)has 2 problems:.*  search.trials.*  kernel_noise.rms"):
        load(tmp_path, kernel_noise={"rms": -1}, search={"trials": 0})


@pytest.mark.parametrize("uri", ["https://me:secret@host", "https://secret@host/x", "postgresql://me:secret@host/db"])
def test_credentials_are_refused_and_not_repeated(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match="tracking.uri: .*MLFLOW_TRACKING_USERNAME") as refused:
        load(tmp_path, tracking={"uri": uri})
    assert "secret" not in str(refused.value)
    for harmless in ("https://host/a@b", "sqlite:////tmp/mlflow.db", "databricks"):
        assert load(tmp_path, tracking={"uri": harmless}).tracking.uri == harmless


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "expected keys and values, got list"),
        ("", "expected keys and values, got NoneType"),
        ("a: [", "is not YAML"),
        ("seed: 2024-13-45", "is not YAML: month must be in 1..12"),
        ("1: 2", r"1: Keys should be strings"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "config.yaml")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize("name", ["nowhere", "no/such/file.yaml", "folder/demo", ".", ""])
def test_a_config_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match="no config at .*; shipped are: deit_tiny, demo, imagenet"):
        find_config(name)


# --- variables and overrides -----------------------------------------------------------------------------------------


def test_variables_come_from_the_environment_or_their_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"kind": "folder", "path": "${NS_ROOT:-/data}/${NS_PART:-}val"}
    monkeypatch.delenv("NS_ROOT", raising=False)
    assert load(tmp_path, source=source).source.path == "/data/val"
    monkeypatch.setenv("NS_ROOT", "/mine")
    assert load(tmp_path, source=source).source.path == "/mine/val"
    with pytest.raises(ConfigError, match="the environment variable NS_UNSET is not set; set it or use --set"):
        load(tmp_path, models=[{"name": "a", "weights": "${NS_UNSET}"}])
    assert load(tmp_path, "models.0.weights=w", models=[{"name": "a", "weights": "${NS_UNSET}"}]).models


def test_overrides_are_yaml_and_reach_lists_and_new_sections(tmp_path: Path) -> None:
    said = ("seed=7", "search.trials=3", "search.steps=[5, 10]", "models.0.weights=random", "source.limit=null")
    config = load(tmp_path, *said, "visible_watermark.text='a=b'")
    assert config.search is not None and config.visible_watermark is not None
    assert (config.seed, config.search.trials, config.search.steps) == (7, 3, (5, 10))
    assert (config.models[0].weights, config.source.limit, config.visible_watermark.text) == ("random", None, "a=b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "search=null",
            "^--set search: learned_noise needs .*; make learned_noise null, too .--set learned_noise=null",
        ),
        ("kernel=null", "^--set kernel: every run needs it, so it cannot be null; leave it out to have its defaults$"),
        ("models=null", "^--set models: every run needs it, so it cannot be null; give it a value$"),
        ("fooling.judges=[x]", "^--set fooling.judges: fooling.judges: x is no model of this config; it has "),
        ("seed", "expected key=value, e.g. search.trials=4"),
        ("=3", "expected key=value"),
        ("models.3.weights=a", "there is no 'models.3.weights' in this config"),
        ("models.first.weights=a", "there is no 'models.first.weights'"),
        ("name.x=3", "there is no 'name.x'"),
        ("search.trials=[", r"'\[' is not a YAML value; quote it"),
        ("search.trails=3", "search.trails: unknown key; did you mean 'trials'"),
        ("search.trials=many", "search.trials: .*valid integer"),
    ],
)
def test_bad_overrides_are_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, override)


# --- shipped configs and the fingerprint -----------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_configs_load_by_name_and_say_how_to_run(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NULLSPACE_ASSETS", "/assets")
    monkeypatch.setenv("IMAGENET_VAL", "/imagenet")
    assert load_config(file.stem) == load_config(file.name) == load_config(file)
    assert load_config(file).name == file.stem
    head = file.read_text().partition("\nname:")[0]
    assert f"nullspace run {file.stem}" in head and "Expected" in head
    path = load_config(file).source.path
    assert path is None or path.startswith(("/assets/", "/imagenet"))


RESULTS = ["seed=1", "name=other", "source.limit=5", "models.0.weights=random", "kernel_noise.rms=2", "search.trials=9"]
MEANS = ["device=cpu", "resources.workers=3", "tracking.uri=databricks", "search.max_concurrent=2"]
BATCHES = [
    *(f"{name}.batch_images=3" for name in ("reference", "kernel_noise", "learned_noise", "visible_watermark")),
    *("payload.batch_images=3", "ingest.max_error_fraction=0.5"),
]
NULL = ["learned_noise=null", "payload=null"]


@pytest.mark.parametrize(
    "override", [*RESULTS, *NULL, "search.batch_images=3", "ingest.shard_images=3", *MEANS, *BATCHES]
)
def test_the_fingerprint_changes_with_what_is_done_not_with_how(tmp_path: Path, override: str) -> None:
    changed = load(tmp_path, override).fingerprint() != load(tmp_path).fingerprint()
    assert changed == (override not in (*MEANS, *BATCHES))


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text("name: a\nsource: {kind: digits}\nmodels: [{name: m}]\nseed: 1\nseed: 2\n")
    with pytest.raises(ConfigError, match="'seed' stands there twice"):
        load_config(file)
