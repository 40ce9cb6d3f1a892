"""`nullspace explain` on files, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from cluster import cli
from pipelines.digits import MODEL_NAME
from tests.pipelines import tiny

DIGITS = ["--model", MODEL_NAME]
ATTENTION = "gradient_weighted_attention"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run `nullspace explain WORDS` in a folder with one picture: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(tiny.digits().images[0]).resize((90, 104)).save(tmp_path / "one.png")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["nullspace", "explain", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code if isinstance(ended.value.code, int) else 0, printed.out, printed.err

    return run


def test_noise_in_the_kernel_leaves_maps_over_tokens_and_moves_pixels(call, tmp_path: Path) -> None:
    code, out, err = call("one.png", *DIGITS, "--json")
    assert code == 0, err
    row = json.loads(out)
    assert row["page"] == "one-explained.png" and row["explained"]["predicted"]
    noised, permuted = row["noised"], row["permuted"]
    assert noised["top"][0]["class"] == row["picture"]["top"][0]["class"] == row["explained"]["class"]
    alike = dict(noised["alike"])
    assert alike.pop("pixels") < 0.5 < permuted["alike"]["pixels"] + 0.4
    assert set(alike) == {"attention_rollout", ATTENTION, "input_times_gradient"}
    assert min(alike.values()) > 0.99 > min(permuted["alike"].values())
    with Image.open(tmp_path / "one-explained.png") as page:
        assert page.width > page.height > 600


def test_a_search_moves_the_first_map_and_says_so(call) -> None:
    words = ("--noise", "search", "--epsilon", 32, "--steps", 15, "--map", ATTENTION, "--map", "grad_cam")
    code, out, err = call("one.png", *DIGITS, *words, "-o", "pages/page.png")
    assert code == 0, err
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0].startswith("one.png  explained: ") and lines[0].endswith("noise: search")
    moved = next(line for line in lines if line.startswith(f"{ATTENTION}: rank correlation"))
    assert float(moved.rpartition(" ")[2]) < 0.5
    assert Path("pages/page.png").is_file() and lines[-1].endswith("pages/page.png")


def test_learned_noise_is_looked_at_on_tokens(call, tmp_path: Path) -> None:
    tiny.noise(0.05).save(tmp_path / "noise.safetensors")
    code, out, err = call("one.png", *DIGITS, "--noise", "noise.safetensors", "--map", ATTENTION, "--json")
    assert code == 0, err
    row = json.loads(out)
    assert row["noise"].endswith("noise.safetensors") and 0 < row["noised"]["alike"][ATTENTION] < 1


def test_without_noise_there_is_the_picture_alone_and_any_class_can_be_explained(call) -> None:
    code, out, err = call("one.png", *DIGITS, "--noise", "none", "--class", 3, "--map", "gradient", "--json")
    assert code == 0, err
    row = json.loads(out)
    assert row["explained"]["class"] == 3 and "noised" not in row and "permuted" not in row


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["one.png", "--map", "saliency"], "expected a map of gradient"),
        (["one.png", "--epsilon", "4"], "--epsilon and --steps belong to --noise search"),
        (["one.png", "--noise", "search", "--class", "3"], "the map of the predicted class; leave --class out"),
        (["one.png", "--class", "10"], "--class 10: expected 0 to 9"),
        (["one.png", "-o", "page.jpg"], "expected a name that ends in .png"),
        (["one.png", "-o", "one.png", "--force"], "is the picture and would be overwritten"),
        (["two.png"], "two.png"),
        (["one.png", "--noise", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(call, words: list[str], message: str) -> None:
    code, out, err = call(*words, *DIGITS)
    assert code != 0 and message in err and "Traceback" not in err and out == ""


def test_a_page_is_not_replaced_unless_asked(call, tmp_path: Path) -> None:
    (tmp_path / "one-explained.png").write_text("mine")
    code, _, err = call("one.png", *DIGITS)
    assert code != 0 and "add --force" in err and (tmp_path / "one-explained.png").read_text() == "mine"


def test_a_model_without_a_kernel_is_told_what_to_do(call, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trivial:
        is_trivial = True

    monkeypatch.setattr("pipelines.commands.explain.explainer.exact_kernel", lambda model: Trivial())
    code, _, err = call("one.png", *DIGITS)
    assert code != 0 and "take --noise search, or none" in err
