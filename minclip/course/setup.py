"""What every notebook starts with: one seed, two threads, one plot style, and the data set to use."""

import os
import random
import warnings

import matplotlib as mpl
import numpy as np
import torch

from ..config import MinclipError, nearest
from ..data.kaggle import fetched
from ..training.engine import pick_device

# Okabe and Ito (2008): eight colors that people with any color vision can tell apart; yellow last: faint on white
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")

STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "axes.prop_cycle": mpl.cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.size": 10,
    "image.cmap": "cividis",
    "legend.frameon": False,
}


def setup(seed: int = 0) -> torch.device:
    """Seeds everything, sets the plot style and returns the device: the CPU, unless MINCLIP_DEVICE names another.

    Tests compare the numbers that the notebooks print on a CPU; on a GPU the last digits differ.
    """
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    mpl.rcParams.update(STYLE)
    return torch.device(os.environ.get("MINCLIP_DEVICE", "cpu"))


def dataset(name: str) -> str:
    """`name` if its photographs are downloaded and, for "flickr30k", there is a GPU; else "shapes".  Prints the reason.

    Always "shapes" if the environment variable MINCLIP_COURSE_SHAPES is set, as it is when outputs are stored.
    Raises MinclipError if `name` is none of these three.
    """
    choices = ("shapes", "flickr8k", "flickr30k")
    if name not in choices:
        raise MinclipError(f"DATA must be one of {', '.join(choices)}, got {name!r}{nearest(name, choices)}")
    if name == "shapes":
        reason = "as asked"
    elif os.environ.get("MINCLIP_COURSE_SHAPES") or not fetched(name):
        reason = f"{name} is not here (minclip fetch {name} brings it)"
    elif name == "flickr30k" and pick_device("auto", "fp32")[0].type == "cpu":
        reason = 'flickr30k is here, but there is no GPU to train on it (DATA = "flickr8k" trains on a CPU)'
    else:
        print(f"{name}: {fetched(name)}")
        return name
    print(f"{reason}: the same cells run on the shapes world.")
    return "shapes"
