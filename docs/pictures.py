"""Makes the pictures of the README from two photographs that come with scikit-learn, by the commands themselves.

python docs/pictures.py --weights FILE    weights of deit_tiny_patch16_224

The photographs: flower.jpg by vultilion, china.jpg by danielbuechele, both CC BY 2.0.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images

HERE = Path(__file__).parent
QUALITY = 90  # JPEG: noise makes PNG four times as large


def draw(weights: Path, folder: Path) -> None:
    """docs/show.jpg and docs/mark.jpg."""
    china, flower = (Image.fromarray(pixels) for pixels in load_sample_images().images)
    flower.crop((106, 0, 533, 427)).save(folder / "flower.png")
    china.save(folder / "china.png")
    model = ["--weights", str(weights.resolve())]
    for words in (
        ["show", "flower.png", "-o", "show.png", *model],
        ["watermark", "visible", "china.png", "mark.png", "--text", "NULL", *model],
    ):
        subprocess.run(["nullspace", *words], cwd=folder, check=True)
    for name in ("show", "mark"):
        Image.open(folder / f"{name}.png").convert("RGB").save(HERE / f"{name}.jpg", quality=QUALITY, subsampling=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    with tempfile.TemporaryDirectory() as made:
        draw(parser.parse_args().weights, Path(made))
