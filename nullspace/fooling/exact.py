from dataclasses import dataclass
import torch
from nullspace.model.images import round_to_uint8
from nullspace.pixels.projection import project_to_box
from nullspace.pixels.eight_bits import EightBits
@dataclass
class E:
    saved: torch.Tensor
def nearest_look(model, images, looks, kernel):
    p=model.patchify(images); d=project_to_box(p, model.patchify(looks)-p, kernel, iterations=200).delta
    return E(EightBits.of(model,kernel).save(images,(images+model.unpatchify(d.to(p))).clamp(0,1)))
