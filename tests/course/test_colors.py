"""Every plot is readable with any color vision: its colors come from the palette, grays, or suitable color maps."""

import ast
import colorsys
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from minclip.course.setup import PALETTE

ROOT = Path(__file__).parents[2]
MAPS = {
    "cividis",
    "gray",
    "RdBu_r",
    "PuOr_r",
}  # from dark to light, or two hues that nobody confuses with white between


def strings(source):
    return {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def allowed(color):
    hue, _, saturation = colorsys.rgb_to_hls(*mpl.colors.to_rgb(color))
    hues = [colorsys.rgb_to_hls(*mpl.colors.to_rgb(known))[0] for known in PALETTE]
    return saturation == 0 or min(abs(hue - known) for known in hues) < 0.02  # a gray, or a tint of the palette


@pytest.mark.parametrize("file", sorted((ROOT / "minclip" / "course" / "plots").glob("*.py")), ids=lambda p: p.name)
def test_plots_take_colors_from_the_palette(file):
    found = [s for s in strings(file.read_text(encoding="utf-8")) if len(s) > 1]
    assert [s for s in found if mpl.colors.is_color_like(s) and not allowed(s)] == []
    assert [s for s in found if s in mpl.colormaps and s not in MAPS] == []


@pytest.mark.parametrize("file", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.name)
def test_notebooks_take_maps_that_all_can_read(file):
    assert set(re.findall(r'cmap=\\"(\w+)\\"', file.read_text(encoding="utf-8"))) <= MAPS


# Machado, Oliveira and Fernandes (2009): linear RGB as people see it who lack the cones for red, or for green
BLINDNESS = {
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_colors_of_the_palette_differ_without_one_kind_of_cone(kind):
    rgb = np.array([mpl.colors.to_rgb(color) for color in PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(BLINDNESS[kind]).T, 0, 1) ** (1 / 2.4)
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(PALETTE), 1)]
    assert apart.min() > 0.15
