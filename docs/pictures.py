"""Makes the pictures of the README from two photographs that come with scikit-learn, by the commands themselves.

python docs/pictures.py --weights FILE    weights of deit_tiny_patch16_224

The photographs: flower.jpg by vultilion, china.jpg by danielbuechele, both CC BY 2.0.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont, ImageOps
from sklearn.datasets import load_sample_images

HERE = Path(__file__).parent
EXPLAINED = ("--noise", "search", "--map", "gradient_weighted_attention", "--map", "grad_cam")
LARGEST = 1400  # pixels of a side
QUALITY = 90  # JPEG: noise makes PNG four times as large


def draw(weights: Path, folder: Path) -> None:
    """docs/show.jpg, docs/mark.jpg, docs/explain.jpg and docs/fool.jpg."""
    china, flower = (Image.fromarray(pixels) for pixels in load_sample_images().images)
    flower.crop((106, 0, 533, 427)).save(folder / "flower.png")
    china.save(folder / "china.png")
    model = ["--weights", str(weights.resolve())]
    for words in (
        ["show", "flower.png", "-o", "show.png", *model],
        ["watermark", "visible", "china.png", "mark.png", "--text", "NULL", *model],
        ["explain", "china.png", *EXPLAINED, "-o", "explain.png", *model],
    ):
        subprocess.run(["nullspace", *words], cwd=folder, check=True)
    for name in ("show", "mark", "explain"):
        page = Image.open(folder / f"{name}.png").convert("RGB")
        page.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
        page.save(HERE / f"{name}.jpg", quality=QUALITY, subsampling=0)
    fooled(folder, model)


def fooled(folder: Path, model: list[str]) -> None:
    """docs/fool.jpg: the image, the look, and pictures that people see as the look or as nothing; below, the model."""
    captions = {}
    for name, like in (("near", "flower.png"), ("nothing", "grey")):
        words = ["fool", "china.png", "--like", like, "-o", f"{name}.png", "--json", *model]
        printed = subprocess.run(["nullspace", *words], cwd=folder, check=True, capture_output=True).stdout
        row = json.loads(printed)
        captions |= {"china": row["image"][0], name: row["fooled"][0]} | (
            {"flower": row["look"][0]} if name == "near" else {}
        )
    side, line = 320, 34
    sheet = Image.new("RGB", (4 * side + 3 * 12, side + line), "white")
    font = ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 18)
    for place, name in enumerate(("china", "flower", "near", "nothing")):
        left, said = place * (side + 12), captions[name]
        sheet.paste(ImageOps.fit(Image.open(folder / f"{name}.png").convert("RGB"), (side, side)), (left, 0))
        text = f"{said['name']} {100 * said['probability']:.1f} %"
        ImageDraw.Draw(sheet).text((left + 2, side + 7), text, font=font, fill="#1f2430")
    sheet.save(HERE / "fool.jpg", quality=QUALITY, subsampling=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    with tempfile.TemporaryDirectory() as made:
        draw(parser.parse_args().weights, Path(made))
