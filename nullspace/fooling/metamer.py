from dataclasses import dataclass
import torch
from nullspace.model.images import round_to_uint8
@dataclass
class M:
    saved: torch.Tensor
    passes: torch.Tensor
def metamers(model, images, looks, *, at="logits", epsilon=None, steps=40):
    e=epsilon if epsilon is not None else 1.0
    low,high=(looks-e).clamp(0,1),(looks+e).clamp(0,1)
    with torch.no_grad(): t=model(images)
    x=looks.clone(); m=torch.zeros_like(x); step=min(e,.1)/4
    for i in range(steps):
        x.requires_grad_(True); l=(model(x)-t).square().sum(1); g,=torch.autograd.grad(l.sum(),x); x=x.detach()
        m=.8*m+g/g.abs().mean((1,2,3),keepdim=True); x=torch.minimum(torch.maximum(x-step*(1-i/steps)*m.sign(),low),high)
    return M(round_to_uint8(x), torch.full((len(x),),float(steps)))
