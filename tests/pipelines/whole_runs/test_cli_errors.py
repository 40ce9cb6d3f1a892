"""Errors on the command line: one line that names what was wrong and the remedy, and exit code 1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from pipelines.digits import register
from pipelines.engine.machines.ray_start import patient_start
from pipelines.workflow import workfolder
from tests.pipelines.driver import nullspace

DIGITS = "nullspace_digits_vit"


def wrong(folder: Path, content: bytes | dict[str, torch.Tensor] | None, name: str = "w.safetensors") -> str:
    """Path of a weights file with this content, or of none."""
    if isinstance(content, dict):
        save_file(content, folder / name)
    elif content is not None:
        (folder / name).write_bytes(content)
    return str(folder / name)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("vit_tiny_patch16_225", "did you mean vit_tiny_patch16_224"),
        ("resnet18", "expected a model with a patch embedding, got ResNet"),
    ],
)
def test_models_that_are_not_there_or_cannot_be_cut(tmp_path: Path, model: str, expected: str) -> None:
    for answer in (
        nullspace("kernel", model, "--random"),
        run(tmp_path, f"models.0.name={model}", "models.0.weights=random"),
    ):
        assert answer.is_one_error and expected in answer.err


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "expected a weights file"),
        (b"", "is empty: expected weights"),
        (b"no weights at all", "is in no known format"),
        ({"head.weight": torch.zeros(3)}, "expected"),
        ({"stranger": torch.zeros(3)}, "expected"),
    ],
    ids=["missing", "empty", "text", "other shapes", "other names"],
)
def test_wrong_weights_files(tmp_path: Path, content: bytes | dict[str, torch.Tensor] | None, expected: str) -> None:
    file = wrong(tmp_path, content)
    answer = nullspace("kernel", DIGITS, "--weights", file)
    assert answer.is_one_error and expected in answer.err
    again = run(tmp_path, f"models.0.weights={file}")
    assert again.is_one_error and again.err == answer.err, "both commands say the same"


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"head.weight": Bomb(str(marker))}, tmp_path / "w.pth")
    answer = nullspace("kernel", DIGITS, "--weights", str(tmp_path / "w.pth"))
    assert answer.is_one_error and not marker.exists()


class Bomb:
    """Its unpickling writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_the_notes_on_a_weights_file_are_printed(tmp_path: Path) -> None:
    register()
    states = [timm.create_model(DIGITS, num_classes=7, global_pool="avg").state_dict() for _ in range(2)]
    torch.save({"model": states[0], "model_ema": states[1]}, tmp_path / "w.pth.tar")
    answer = nullspace("kernel", DIGITS, "--weights", str(tmp_path / "w.pth.tar"), "--model-args", "global_pool=avg")
    lines = dict(line.split(None, 1) for line in answer.out.splitlines())
    assert lines["weights"] == f"file:{tmp_path / 'w.pth.tar'} (EMA)"
    assert lines["notes"] == "7 classes from the file's shapes"
    given = ("--no-ema", "--model-args", "global_pool=avg", "--model-args", "num_classes=7", "--json")
    other = json.loads(nullspace("kernel", DIGITS, "--weights", str(tmp_path / "w.pth.tar"), *given).out)
    assert other["weights"] == f"file:{tmp_path / 'w.pth.tar'} (without EMA)" and "notes" not in other


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--model-args", "colour=red"), "does not take these model arguments: "),
        (("--model-args", "img_size"), "--model-args 'img_size': expected key=value"),
        (("--model-args", "img_size=["), "is not a YAML value"),
        (("--model-args", "a=1", "--model-args", "a=2"), "a is given twice"),
        (("--model-args", "in_chans=1"), "expected in_chans 3, got 1"),
    ],
)
def test_wrong_model_arguments(arguments: tuple[str, ...], expected: str) -> None:
    answer = nullspace("kernel", DIGITS, *arguments)
    assert answer.is_one_error and expected in answer.err and answer.err.count("\n") == 1


def test_weights_and_random_exclude_each_other() -> None:
    answer = nullspace("kernel", DIGITS, "--random", "--weights", "w.safetensors")
    assert answer.is_one_error and "exclude each other" in answer.err


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("serch.trials=3", "serch: unknown key; did you mean 'search'?"),
        ("search.trails=3", "search.trails: unknown key; did you mean 'trials'?"),
        ("search.trials=many", "search.trials: "),
        ("search.trials=0", "search.trials: "),
        ("search.steps=[9,3]", "search.steps: expected [low, high]"),
        ("models=[]", "models: "),
        ("search.trials", "expected key=value"),
        ("models.7.weights=random", "there is no 'models.7.weights'"),
    ],
)
def test_wrong_configs(tmp_path: Path, override: str, expected: str) -> None:
    for answer in (run(tmp_path, override), nullspace("config", "show", "demo", "--set", override)):
        assert answer.is_one_error and expected in answer.err
        assert answer.err.replace("'", "").startswith(f"error: --set {override.partition('=')[0]}")
        assert answer.err.count("\n") == 1 and ".yaml" not in answer.err
    assert not (tmp_path / "work").exists(), "refused before anything is made"


def test_a_config_that_is_not_there() -> None:
    answer = nullspace("run", "dmo")
    assert answer.is_one_error and "shipped are: deit_tiny, demo, imagenet" in answer.err


def test_no_such_device(tmp_path: Path) -> None:
    answer = run(tmp_path, arguments=("--device", "gpu"))
    assert answer.is_one_error and "gpu" in answer.err


@pytest.mark.parametrize("kind", ["auto", "folder", "unlabelled", "csv", "parquet"])
@pytest.mark.parametrize("there", [False, True], ids=["missing", "empty"])
def test_no_images(tmp_path: Path, kind: str, there: bool) -> None:
    images = tmp_path / "images"
    if there:
        images.mkdir()
    answer = run(tmp_path, f"source={{kind: {kind}, path: {images}}}")
    assert answer.is_one_error and str(images) in answer.err


def test_class_folders_where_a_table_was_expected(tmp_path: Path) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "cat" / "0.png")
    (tmp_path / "labels.csv").write_text("file,label\nother.png,0\n")
    for labels in ("away.csv", "labels.csv"):
        settings = f"source={{kind: csv, path: {tmp_path / 'images'}, labels: {tmp_path / labels}}}"
        answer = run(tmp_path, settings)
        assert answer.is_one_error and "set source.kind=auto and source.labels=null" in answer.err, answer.err
    answer = run(tmp_path, settings, "source.kind=auto", "source.labels=null", arguments=("--dry-run",))
    assert answer.code == 0, answer.err


def test_a_work_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = nullspace("run", "demo", "--workdir", str(tmp_path / "file" / "work"))
    assert answer.is_one_error and "cannot write to the work folder" in answer.err and "--workdir" in answer.err


def test_status_and_ui_of_a_folder_where_nothing_ran(tmp_path: Path) -> None:
    for command in ("status", "ui"):
        answer = nullspace(command, str(tmp_path))
        assert answer.is_one_error and str(tmp_path) in answer.err


def test_an_error_in_color_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert nullspace("status", str(tmp_path)).err.startswith("\x1b[31merror: ")


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for the runs below; a run that finds one uses it and leaves it."""
    import ray

    with patient_start():
        # Not one that somebody else left or has under way here.
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=150 * 1024**2,
        )
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("good", [0, 3])
def test_too_many_broken_images(ray_here: None, tmp_path: Path, good: int) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(good):
        Image.new("RGB", (32, 32), (80 * number, 0, 0)).save(images / f"{number}.png")
    for number in range(2):
        (images / f"broken-{number}.png").write_bytes(b"\x89PNG no more")
    answer = run(tmp_path, f"source={{path: {images}}}", arguments=("--json",))
    assert answer.code == 1 and not answer.out and "Traceback" not in answer.err
    (error,) = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert f"2 of {2 + good} images cannot be read" in error and "ingest.max_error_fraction" in error
    assert "allows: broken-0.png (" in error and "), broken-1.png (" in error
    content = workfolder.read_run(tmp_path / "work")
    assert content is not None and content["state"] == "failed"


def run(folder: Path, *overrides: str, arguments: tuple[str, ...] = ()):
    sets = [word for override in overrides for word in ("--set", override)]
    return nullspace("run", "demo", "--workdir", str(folder / "work"), *sets, *arguments)
