"""The noise as MLflow loads it: images in, clean and noised predictions out.

MLflow stores this very file and runs it when the model is loaded ("models from code"); nothing is pickled.

    model = mlflow.pyfunc.load_model("models:/NAME@champion")
    model.predict(images)                        # uint8 (B,H,W,3) at the model's input size
    model.predict(images, params={"scale": 2})   # the noise twice as long
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel

COLUMNS = ("clean_prediction", "noised_prediction", "clean_confidence", "noised_confidence", "agree")
DEFAULTS = {"device": "auto", "batch_size": 64}  # stored with the model: MLflow drops what it does not find there


class NoiseModel(PythonModel):
    """A ViT with null noise on its patch tokens.

    Configuration (`load_model(uri, model_config={…})`): see `DEFAULTS`; the rest is set when the noise is registered.
    """

    def load_context(self, context: Any) -> None:
        """Load the ViT and its noise; refuses weights the noise was not learned for."""
        # Only the public interface: a stored copy of this file must still load after modules have moved.
        from nullspace import NullNoise, SplitViT, choose_device

        register_own_models()
        config = {**DEFAULTS, **(context.model_config or {})}
        self.batch_size = int(config["batch_size"])
        self.device = choose_device(config["device"])
        self.noise = NullNoise.load(context.artifacts["noise"])
        described = context.artifacts.get("config")  # of a model that timm knows by its folder alone
        self.model = SplitViT.load(
            f"local-dir:{Path(described).parent}" if described else self.noise.model_name,
            weights=context.artifacts.get("weights") or config.get("weights", "pretrained"),
            seed=int(config.get("seed", 0)),
            device=self.device,
            model_args=config.get("model_args"),
        )

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  MLflow's own has no return type to match
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predictions of the clean and the noised model.

        Args:
            model_input: uint8 (B,H,W,3), RGB, at the model's input size.
            params: `scale` (1.0) multiplies the noise.

        Returns one row per image: `clean_prediction`, `noised_prediction` (class indices), `clean_confidence`,
        `noised_confidence` (probability of each one's own prediction), `agree`.
        Raises ImageRangeError for anything but such an array.
        """
        images = self._checked(model_input)
        scale = float((params or {}).get("scale", 1.0))
        starts = range(0, len(images), self.batch_size)
        parts = [self._outcomes(images[start : start + self.batch_size], scale) for start in starts]
        return pd.concat(parts, ignore_index=True)

    def _checked(self, images: np.ndarray) -> np.ndarray:
        from nullspace.errors import ImageRangeError

        height, width = self.model.preprocessing.input_size
        shape, kind = getattr(images, "shape", ()), getattr(images, "dtype", type(images).__name__)
        if not isinstance(images, np.ndarray) or kind != np.uint8 or shape[1:] != (height, width, 3) or not len(images):
            raise ImageRangeError(
                f"expected a uint8 NumPy array (B,{height},{width},3) with at least one RGB image in 0..255, "
                f"got {kind} {tuple(shape)}; resize with SplitViT.preprocessing.transform() first"
            )
        return images

    def _outcomes(self, images: np.ndarray, scale: float) -> pd.DataFrame:
        import torch

        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            clean = self.model(pixels).softmax(-1).max(-1)
            with self.noise.apply(self.model, scale=scale):
                noised = self.model(pixels).softmax(-1).max(-1)
        columns = (clean.indices, noised.indices, clean.values, noised.values, clean.indices == noised.indices)
        return pd.DataFrame({name: column.cpu().numpy() for name, column in zip(COLUMNS, columns, strict=True)})


def register_own_models() -> None:
    """Make the models this project adds to timm known, where they are installed."""
    try:
        digits = importlib.import_module("pipelines.digits")
    except ModuleNotFoundError as error:
        if error.name not in ("pipelines", "pipelines.digits"):
            raise  # it is there, but something it needs is not
    else:
        digits.register()


if __package__ != "pipelines.tracking":  # run by MLflow, not imported: importing must not change MLflow's global model
    mlflow.models.set_model(NoiseModel())
