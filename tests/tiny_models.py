"""Random weights that tell inputs apart, for the tests of what is computed with a model."""

import torch

from minclip.model import CLIP


def far_from_start(model: CLIP) -> CLIP:
    """The model for use, its matrices four times as large as they begin: so that vectors of different inputs differ."""
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.mul_(4)
    return model.eval()
