"""Pages of technical drawings: parts from a grammar of five traits, each with a company's title block in the corner.

A seed gives the same pages on every machine with the same Pillow: random numbers are hashes, and coordinates are whole
numbers at four times the final size, averaged down afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ..config import need
from ..data.shapes.painting import below, draws

TRAITS = {
    "kind": ("plate", "disc", "gear", "nut", "bracket", "shaft", "flange", "yoke"),
    "holes": ("no", "two", "three", "four", "six"),
    "center": ("nothing", "small bore", "large bore", "horizontal slot", "vertical slot", "square opening"),
    "section": ("plain", "hatched"),
    "proportion": ("slim", "medium", "thick"),
}
SIZES = tuple(len(options) for options in TRAITS.values())
COUNT = int(np.prod(SIZES))  # 1,440 possible parts
COMPANIES = ("Arvo", "Belka", "Corin", "Dovra", "Elmet", "Falun", "Gresk", "Hanto")
OTHERS = ("text", "table", "empty")  # pages without a part
SPLITS = {"test": (0,), "val": (1,), "train": (2, 3, 4)}  # fifths of the captions: parts that share one share a split
BLOCK = (slice(46, 64), slice(33, 64))  # rows and columns that hold every title block
_FINE = 4  # the pages are drawn this many times larger
_SIDE = 64 * _FINE


@dataclass(frozen=True)
class Pages:
    """N pages; page i shows part `part[i]` as company `company[i]` draws it, or no part (-1)."""

    images: np.ndarray  # (N, 3, 64, 64) uint8, gray
    part: np.ndarray  # (N,) int64: a row of `traits`, or -1
    kind: np.ndarray  # (N,) int64: index in TRAITS["kind"], or -1, -2, -3 for the three of OTHERS
    company: np.ndarray  # (N,) int64: index in COMPANIES
    traits: np.ndarray  # (parts, 5) int64

    def __len__(self) -> int:
        return len(self.images)

    def captions(self, seed: int, *, company: bool = False) -> list[str]:
        """N captions, each in one of three wordings, chosen by `seed`; with `company`, they also name the company."""
        wording = below(draws(seed, "drawings/wording", np.arange(len(self)), slots=1)[:, 0], 3)
        rows = zip(self.part, self.kind, self.company, wording)
        return [
            sentence(
                self.traits[p] if p >= 0 else OTHERS[-1 - k], wording=int(w), company=COMPANIES[c] if company else ""
            )
            for p, k, c, w in rows
        ]


def parts(split: str, count: int, *, seed: int = 0) -> np.ndarray:
    """Traits (count, 5) int64 of distinct parts of a split, spread over the kinds as evenly as possible.

    Raises MinclipError if the split is unknown or has fewer than `count` parts.
    """
    need(split in SPLITS, f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    fifth = draws(0, "drawings/split", np.arange(COUNT) // SIZES[-1], slots=1)[:, 0] % 5
    kept = np.flatnonzero(np.isin(fifth, SPLITS[split]))
    need(count <= len(kept), f"{split} has {len(kept)} parts, asked for {count}")
    order = kept[np.argsort(draws(seed, f"drawings/{split}", kept, slots=1)[:, 0], kind="stable")]
    kind = order // (COUNT // SIZES[0])
    rank = np.array([(kind[:i] == k).sum() for i, k in enumerate(kind)])  # among the parts of its kind, from 0
    chosen = order[np.argsort(rank, kind="stable")[:count]]
    return np.stack(np.unravel_index(chosen, SIZES), axis=1)


def pages(split: str, count: int, *, others: int = 0, seed: int = 0) -> Pages:
    """8 · count + others pages: each of `count` parts drawn by each company, then pages of text, tables or nothing.

    No part and no caption of a part is in two splits.  Raises MinclipError as `parts` does.
    """
    traits, n = parts(split, count, seed=seed), len(COMPANIES)
    part = np.r_[np.repeat(np.arange(count), n), np.full(others, -1)]
    company = np.r_[np.tile(np.arange(n), count), np.arange(others) % n]
    kind = np.r_[np.repeat(traits[:, 0], n), -1 - np.arange(others) // n % len(OTHERS)]
    u = draws(seed, f"drawings/{split}/pages", np.arange(len(part)), slots=64)
    drawn = [_page(traits[p] if p >= 0 else None, -1 - k, c, row) for p, k, c, row in zip(part, kind, company, u)]
    grain = below(draws(seed, f"drawings/{split}/grain", np.arange(len(part)), slots=64 * 64), 13).reshape(-1, 64, 64)
    gray = np.clip(np.stack(drawn).astype(np.int64) + grain - 6, 0, 255).astype(np.uint8)
    return Pages(gray[:, None].repeat(3, axis=1), part, kind, company, traits)


def masked(images: np.ndarray, tone: int = 245) -> np.ndarray:
    """A copy of images (N, 3, 64, 64) uint8, the title block's corner filled with gray `tone` (0 to 255), as paper."""
    out = np.array(images)
    out[..., BLOCK[0], BLOCK[1]] = tone
    return out


def sentence(part: Sequence[int] | str, *, wording: int = 0, company: str = "") -> str:
    """Describes a page: "a gear with six holes and a small bore, hatched, drawn by Arvo"; never gives the proportion.

    `part` is five traits (indices into TRAITS) or one of OTHERS; `wording` is 0, 1 or 2.
    """
    if isinstance(part, str):
        what = {"text": "a page of text", "table": "a page with a table", "empty": "an empty page"}[part]
        return f"{what}{f' from {company}' if company else ''}"
    kind, holes, center, section, _ = (options[int(t)] for options, t in zip(TRAITS.values(), part))
    within = [f"{holes} holes"] if holes != "no" else []
    within += [f"a {center}"] if center != "nothing" else []
    what = " ".join(filter(None, (f"a {kind}", "with" * bool(within), " and ".join(within))))
    what += ", hatched" if section == "hatched" else ""
    by = (f", drawn by {company}", f", {company}", f" from {company}")[wording] if company else ""
    return f"{('', 'drawing of ', 'technical drawing: ')[wording]}{what}{by}"


# ---- drawing: parts in coordinates from about -1 to 1, x to the right and y down


def _ring(corners: int, *, radius: float = 1.0) -> np.ndarray:
    """Points (corners, 2) on a circle, rounded so that they are the same on every machine."""
    angle = np.deg2rad(360 * np.arange(corners) / corners)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1).round(6)


def _box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _outline(kind: str, p: int) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Outline (points, 2), centers of up to six holes (6, 2), center of the opening; `p` is the proportion, 0 to 2."""
    round_holes, (a, b, c) = _ring(6, radius=0.72), _HOLES
    if kind == "plate":
        h = (0.5, 0.68, 0.86)[p]
        return _box(-1, -h, 1, h), np.stack([a * 0.8, b * h * 0.72], axis=1), (0, 0)
    if kind == "gear":
        teeth = (9, 14, 22)[p]
        radius = np.tile([1.0, 1.0, 0.82, 0.82], teeth)[:, None]
        return radius * _ring(4 * teeth), 0.78 * round_holes, (0, 0)
    if kind == "nut":
        return _ring(6), 0.88 * round_holes, (0, 0)
    if kind == "bracket":
        t = (0.55, 0.75, 0.95)[p]
        points = np.array(
            [(-0.9, -0.9), (-0.9 + t, -0.9), (-0.9 + t, 0.9 - t), (0.9, 0.9 - t), (0.9, 0.9), (-0.9, 0.9)]
        )
        x, y = -0.9 + t / 2, 0.9 - t / 2
        return points, np.array([(x, -0.65), (0.65, y), (x, -0.2), (0.3, y), (x, 0.2), (0, y)]), (x, y)
    if kind == "shaft":
        w = (0.3, 0.45, 0.6)[p]
        x = np.array([-1, -0.6, -0.6, 0.1, 0.1, 0.65, 0.65, 1])
        y = np.array([w, w, w + 0.25, w + 0.25, w, w, w * 0.6, w * 0.6])
        points = np.concatenate([np.stack([x, -y], axis=1), np.stack([x, y], axis=1)[::-1]])
        return points, np.stack([c * 0.8, b * 0.25], axis=1), (-0.25, 0)
    if kind == "flange":
        h = (0.5, 0.65, 0.8)[p]
        return _ring(40) * (1, h), np.stack([a * 0.72, b * h * 0.45], axis=1), (0, 0)
    if kind == "yoke":
        g = (0.22, 0.35, 0.5)[p]
        points = np.array(
            [(-0.9, -0.9), (-g, -0.9), (-g, 0.05), (g, 0.05), (g, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]
        )
        x = (0.9 + g) / 2
        return points, np.array([(-x, -0.6), (x, -0.6), (-x, 0), (x, 0), (-x, 0.6), (x, 0.6)]), (0, 0.5)
    return _ring(48), round_holes, (0, 0)  # disc


_HOLES = (  # x, y and, for the shaft, x again: two at the sides, then corners, then the middles
    np.array([-1, 1, 0, -1, 1, 0]),
    np.array([-1, 1, -1, 1, -1, 1]),
    np.array([-1, 1, 0.4, -0.4, 0.75, -0.75]),
)
_ON_CIRCLE = {2: (0, 3), 3: (0, 2, 4), 4: (0, 1, 3, 4), 6: range(6)}


def _draw_part(image: Image.Image, traits: np.ndarray, u: np.ndarray) -> None:
    kind, holes, center, section, proportion = (int(t) for t in traits)
    name, ink, pen = TRAITS["kind"][kind], int(20 + below(u[0], 50)), int(3 + below(u[1], 3))
    scale = 56 + int(below(u[2], 20))
    x, y = 118 + int(below(u[3], 36)) - 18, 102 + int(below(u[4], 24)) - 12
    draw, at = ImageDraw.Draw(image), np.array([x, y])

    def place(points: np.ndarray | Sequence[float]) -> list[tuple[int, int]]:
        return [(int(a), int(b)) for a, b in np.floor(np.atleast_2d(points) * scale + at + 0.5)]

    def circle(middle: tuple[int, int], radius: float, fill: int | None = None) -> None:
        r = int(radius * scale + 0.5)
        draw.ellipse([middle[0] - r, middle[1] - r, middle[0] + r, middle[1] + r], outline=ink, width=pen, fill=fill)

    outline, spots, middle = _outline(name, proportion)
    corners, paper = place(outline), image.getpixel((2, 2))
    if section:  # the left half is cut: hatched
        mask = Image.new("L", image.size, 0)
        ImageDraw.Draw(mask).polygon(corners, fill=255)
        mask.paste(0, (x, 0, _SIDE, _SIDE))
        lines = Image.new("L", image.size, paper)
        step, tilt = 12 + 2 * int(below(u[5], 3)), 1 if u[6] & 1 else -1
        for start in range(-_SIDE, 2 * _SIDE, step):
            ImageDraw.Draw(lines).line([(start, 0), (start + tilt * _SIDE, _SIDE)], fill=ink, width=2)
        image.paste(lines, mask=mask)
    draw.line([*corners, corners[0], corners[1]], fill=ink, width=pen, joint="curve")
    if name in ("disc", "nut"):
        circle((x, y), (0.45, 0.58, 0.86)[proportion])
    if count := (0, 2, 3, 4, 6)[holes]:
        on_circle = name in ("disc", "gear", "nut")
        for hole in place(spots[list(_ON_CIRCLE[count])] if on_circle else spots[:count]):
            circle(hole, 0.11, fill=paper)
    if center:
        (mx, my), s = place(middle)[0], scale
        w, h = ((0, 0), (0.13, 0.13), (0.27, 0.27), (0.34, 0.1), (0.1, 0.34), (0.2, 0.2))[center]
        box = [mx - int(w * s), my - int(h * s), mx + int(w * s), my + int(h * s)]
        if center <= 2:
            draw.ellipse(box, outline=ink, width=pen, fill=paper)
        else:
            draw.rounded_rectangle(box, int(s * min(w, h)) if center < 5 else 0, outline=ink, width=pen, fill=paper)
    _dimensions(draw, np.array(corners), u[8:16], ink)


def _dimensions(draw: ImageDraw.ImageDraw, corners: np.ndarray, u: np.ndarray, ink: int) -> None:
    """One dimension line above or below the part and one at its left or right, with a number."""
    (x0, y0), (x1, y1) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    away = 10 + int(below(u[0], 8))
    y = y0 - away if u[1] & 1 else y1 + away
    x = x0 - away if u[2] & 1 else x1 + away
    for ends in ([x0, y, x1, y], [x, y0, x, y1]):
        draw.line(ends, fill=ink, width=2)
    for end in (x0, x1):
        draw.line([end - 3, y + 4, end + 3, y - 4], fill=ink, width=2)
    for end in (y0, y1):
        draw.line([x - 4, end + 3, x + 4, end - 3], fill=ink, width=2)
    middle = (x0 + x1) // 2
    _text(draw, (middle - 10, y - 10, middle + 10, y - 3), u[3:], ink)


def _text(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], u: np.ndarray, ink: int) -> None:
    """Strokes that look like one line of small writing."""
    x, i = box[0], 0
    while x < box[2]:
        bits = int(u[i % len(u)]) >> (i // len(u) % 20)
        if bits & 7:  # one in eight is a gap between words
            draw.line([x, box[1] + (bits >> 3 & 1) * 3, x, box[3]], fill=ink, width=2)
        x, i = x + 4 + (bits >> 4 & 1) * 2, i + 1


# each company's block: width, height, number of rows, side of the logo (0 left, 1 right), shape of the logo
_BLOCKS = (
    (108, 52, 3, 0, "square"), (92, 44, 2, 1, "disc"), (112, 36, 2, 0, "bars"), (80, 56, 4, 0, "wedge"),
    (100, 56, 3, 1, "ring"), (112, 48, 4, 1, "square"), (72, 48, 3, 0, "disc"), (96, 32, 1, 1, "wedge"),
)  # fmt: skip


def _title_block(draw: ImageDraw.ImageDraw, company: int, u: np.ndarray) -> None:
    """The table in the corner: a logo and rows of writing; of one company, only the writing differs between pages."""
    wide, high, rows, side, logo = _BLOCKS[company]
    right = bottom = _SIDE - 9
    x0, y0 = right - wide, bottom - high
    draw.rectangle([x0, y0, right, bottom], outline=15, width=3)
    split = x0 + high if side == 0 else right - high
    draw.line([split, y0, split, bottom], fill=15, width=3)
    left, end = (split, right) if side == 0 else (x0, split)
    for row in range(rows):
        top, low = y0 + row * high // rows, y0 + (row + 1) * high // rows
        draw.line([left, low, end, low], fill=15, width=2)
        stop = left + 8 + (end - left - 14) * (4 + int(below(u[row], 5))) // 8
        _text(draw, (left + 6, top + 4, stop, min(low - 3, top + 13)), u[4 + row :], 40)
    m = high // 2
    x, y, r = (x0 if side == 0 else split) + m, y0 + m, m - 7
    if logo == "disc":
        draw.ellipse([x - r, y - r, x + r, y + r], fill=25)
    elif logo == "ring":
        draw.ellipse([x - r, y - r, x + r, y + r], outline=25, width=8)
    elif logo == "wedge":
        draw.polygon([(x - r, y + r), (x + r, y + r), (x, y - r)], fill=25)
    elif logo == "bars":
        for k in (-1, 0, 1):
            draw.rectangle([x + k * 10 - 3, y - r, x + k * 10 + 2, y + r], fill=25)
    else:
        draw.rectangle([x - r, y - r, x + r, y + r], fill=25)


def _page(traits: np.ndarray | None, other: int, company: int, u: np.ndarray) -> np.ndarray:
    """One page (64, 64) uint8 without grain: a part, or OTHERS[other]; `u` (64,) in [0, 2**32) varies it."""
    paper = 236 + int(below(u[16], 16))
    image = Image.new("L", (_SIDE, _SIDE), paper)
    draw = ImageDraw.Draw(image)
    draw.rectangle([8, 8, _SIDE - 9, _SIDE - 9], outline=90, width=2)
    if traits is not None:
        _draw_part(image, traits, u)
    elif OTHERS[other] == "text":
        for line in range(6 + int(below(u[17], 5))):
            end = 120 + int(below(u[18 + line % 8], 110))
            _text(draw, (24, 24 + 16 * line, end, 33 + 16 * line), u[20 + line :], 40)
    elif OTHERS[other] == "table":
        rows, columns = 3 + int(below(u[17], 4)), 2 + int(below(u[18], 4))
        for row in range(rows + 1):
            draw.line([24, 24 + 22 * row, 232, 24 + 22 * row], fill=40, width=2)
            if row < rows:
                _text(draw, (30, 30 + 22 * row, 60, 38 + 22 * row), u[20 + row :], 40)
        for column in range(columns + 1):
            x = 24 + 208 * column // columns
            draw.line([x, 24, x, 24 + 22 * rows], fill=40, width=2)
    _title_block(draw, company, u[40:])
    return np.asarray(image.reduce(_FINE))
