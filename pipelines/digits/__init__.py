"""The embedded default of the demo: scikit-learn's handwritten digits and a small timm ViT trained on them.

`data.py` holds the images and their fixed split, `model.py` the architecture, `train.py` the script that made
`digits_vit.safetensors`. Call `register()` once per process before asking timm for the model by name.
May import: nothing of pipelines/. May not import: any folder beside it; stored MLflow models import it by this name.
"""

from __future__ import annotations

MODEL_NAME = "nullspace_digits_vit"

__all__ = ["MODEL_NAME", "register"]


def register() -> None:
    """Make `timm.create_model("nullspace_digits_vit")` work in this process; calling it again changes nothing."""
    from pipelines.digits.model import register as register_model

    register_model()
