"""The widget of notebook 14: choose a page and a kind of features, and see the nearest pages."""

from collections.abc import Mapping

import ipywidgets
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from .. import plots
from ..drawings import Pages
from .playgrounds import redrawn


def nearest_pages(features: Tensor, query: int, k: int = 5) -> Tensor:
    """Rows (k,) int64 of the k < N nearest other pages, by cosine after subtracting the mean of features (N, D)."""
    x = features.float()
    x = F.normalize(x - x.mean(dim=0), dim=-1)
    cosines = x @ x[query]
    cosines[query] = -torch.inf
    return cosines.topk(k).indices


def drawing_search_figure(pages: Pages, features: Mapping[str, Tensor], *, query: int, keeps: str) -> Figure:
    """Page `query` and its five nearest pages by `features[keeps]` (N, D); the title counts what they share with it."""
    near = nearest_pages(features[keeps], query).numpy()
    part = int((pages.part[near] == pages.part[query]).sum()) if pages.part[query] >= 0 else 0
    company = int((pages.company[near] == pages.company[query]).sum())
    title = f"{keeps}: of 5 neighbors, {part} show the same part, {company} share the company"
    return plots.found_pages(pages, [query], [near], title=title)


def drawing_search(pages: Pages, features: Mapping[str, Tensor], *, query: int = 0) -> ipywidgets.VBox:
    """Controls for the page and the features above `drawing_search_figure`; `query` is the first page shown."""
    wide = ipywidgets.Layout(width="95%")
    return redrawn(
        lambda query, keeps: drawing_search_figure(pages, features, query=query, keeps=keeps),
        query=ipywidgets.IntSlider(query, 0, len(pages) - 1, description="page", layout=wide, continuous_update=False),
        keeps=ipywidgets.Dropdown(options=[*features], description="features", layout=wide),
    )
