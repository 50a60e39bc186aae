"""Paints the scenes of the shapes world, and shifts of them, with integers and with floats that round in one way only."""

import numpy as np

from ...config import MinclipError
from .hashing import below, draws
from .text import FRUIT, SHAPES, WORDS, Scenes

SHIFTS = ("sketch", "inverted", "blurred", "noisy", "rotated", "tinted")
RGB = np.array([list(bytes.fromhex(c)) for c in "d62424 f48a12 eed828 2ca038 32c8d0 2c48d0 802cb2 f480bc".split()])
LEAF = np.array([40, 120, 40])


def _distance(shape: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the outline of a shape of radius 1: negative inside; x points right, y down."""
    r = np.sqrt(x * x + y * y)
    name = (*SHAPES, "fruit", "leaf")[shape]
    if name in ("circle", "fruit"):
        return r - 0.92
    if name == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.8
    if name == "triangle":
        return np.maximum(y - 0.72, (1.72 * np.abs(x) - 0.98 * (y + 1)) / 1.9796)
    if name == "star":  # a point of a pentagram lies inside at least four of its five lines
        right = ((0.95105652, -0.30901699), (0.58778525, 0.80901699))
        normals = ((0, -1), *right, *((-nx, ny) for nx, ny in right))
        return np.sort(np.stack([nx * x + ny * y - 0.36 for nx, ny in normals]), axis=0)[-2]
    if name == "heart":  # a square on its corner and a half circle on each upper edge
        lobe = np.sqrt((np.abs(x) - 0.42) ** 2 + (y + 0.28) ** 2) - 0.55
        return np.minimum(lobe, (np.abs(x) + np.abs(y - 0.14) - 0.84) * 0.70710678)
    if name == "cross":
        return np.minimum(np.maximum(np.abs(x) - 0.3, np.abs(y) - 0.92), np.maximum(np.abs(x) - 0.92, np.abs(y) - 0.3))
    if name == "ring":
        return np.abs(r - 0.68) - 0.27
    if name == "crescent":
        return np.maximum(r - 0.95, 0.78 - np.sqrt((x - 0.42) ** 2 + (y + 0.1) ** 2))
    return np.sqrt((x - 0.3) ** 2 * 0.6 + (y + 0.85) ** 2 * 2.2) - 0.32  # leaf


def _stamps(image_size: int, radii: np.ndarray) -> np.ndarray:
    """Opacity stamps (10 shapes, 3 fills, len(radii), 4 tilts, P, P) uint8 for one image size, edges smoothed."""
    scale = image_size / 64
    half = int(18.5 * scale) + 2
    grid = np.arange(-half, half + 1) + 0.0
    out = np.zeros((10, 3, len(radii), 4, 2 * half + 1, 2 * half + 1), dtype=np.uint8)
    for k, radius in enumerate(radii):
        pixels = radius * scale
        for t, h in enumerate((-0.12, -0.04, 0.04, 0.12)):  # tangents of half the angle: -14, -5, 5 and 14 degrees
            cos, sin = (1 - h * h) / (1 + h * h), 2 * h / (1 + h * h)
            x = (cos * grid[None, :] + sin * grid[:, None]) / pixels
            y = (cos * grid[:, None] - sin * grid[None, :]) / pixels
            for shape in range(10):
                d = _distance(shape, x, y) * pixels
                line = max(1.7 * scale, 1.0)
                band = np.abs((y * pixels / (4.4 * scale)) % 1 - 0.5) * 4.4 * scale - 1.1 * scale
                fills = (d, np.maximum(d, np.minimum(band, -d - 0.7 * line)), np.maximum(d, -d - line))
                for fill, inside in enumerate(fills):
                    out[shape, fill, k, t] = np.floor(np.clip(0.5 - inside, 0, 1) * 255 + 0.5)
    return out


# 5 × 7 letters: seven rows of five bits each, a byte a row
FONT = {
    letter: np.array([[int(bit) for bit in f"{row:05b}"] for row in bytes.fromhex(rows)], dtype=bool)
    for letter, rows in zip(
        "ABCDEGHILNORSTU",
        """0e11111f111111 1e11111e11111e 0e11101010110e 1e11111111111e 1f10101e10101f 0e11101711110f 1111111f111111
        0e04040404040e 1010101010101f 11191515131111 0e11111111110e 1e11111e141211 0f10100e01011e 1f040404040404
        1111111111110e""".split(),
    )
}


def _word_stamps(image_size: int) -> np.ndarray:
    """Each written word as a mask (len(WORDS), 14, 60) in 64ths, resized to the image's side."""
    pixels = np.arange(image_size) * 64 // image_size
    out = np.zeros((len(WORDS), 64, 64), dtype=bool)
    for i, word in enumerate(WORDS):
        rows = np.concatenate([np.pad(FONT[letter], ((0, 0), (0, 1))) for letter in word], axis=1)[:, :-1]
        big = rows.repeat(2, axis=0).repeat(2, axis=1)
        left = (64 - big.shape[1]) // 2
        out[i, :14, left : left + big.shape[1]] = big
    return out[:, pixels][:, :, pixels]


def _backgrounds(s: Scenes, image_size: int) -> np.ndarray:
    """(n, S, S, 3) int64: one tone, a gradient of two, or noise; pale or dark and never vivid, so that objects stand out."""

    def tone(u: np.ndarray) -> np.ndarray:
        gray = below(u[:, :1], 60) + np.where(s.dark == 1, 14, 184)[:, None]
        return gray + below(u[:, 1:4], 17) - 8

    a, b = tone(s.noise[:, 0:4])[:, None, None, :], tone(s.noise[:, 4:8])[:, None, None, :]
    ramp = np.arange(image_size) * 256 // image_size
    across = np.where((s.noise[:, 8] & 1)[:, None, None] == 1, ramp[None, None, :], ramp[None, :, None])[..., None]
    out = a + (b - a) * across // 256 * (s.background == 1)[:, None, None, None]
    noisy = np.flatnonzero(s.background == 2)
    grain = draws(s.seed, s.split + "/grain", s.index[noisy], image_size * image_size)
    out[noisy] += (below(grain, 49) - 24).reshape(-1, image_size, image_size, 1)
    return np.broadcast_to(out, (len(s.index), image_size, image_size, 3)).copy()


def paint(s: Scenes, image_size: int = 64, *, sketch: bool = False) -> np.ndarray:
    """Scenes as images (n, 3, S, S) uint8; `sketch` draws dark outlines on white paper instead."""
    radii = np.unique(s.radius)
    stamps, words = _stamps(image_size, radii), _word_stamps(image_size)
    blocks = (s.take(slice(i, i + 1000)) for i in range(0, len(s.index), 1000))
    return np.concatenate([_paint(block, image_size, sketch, radii, stamps, words) for block in blocks])


def _paint(
    s: Scenes, image_size: int, sketch: bool, radii: np.ndarray, stamps: np.ndarray, words: np.ndarray
) -> np.ndarray:
    n, scale, pad = len(s.index), image_size / 64, stamps.shape[-1] // 2
    canvas = np.full((n, image_size + 2 * pad, image_size + 2 * pad, 3), 250, dtype=np.int32)
    if not sketch:
        canvas[:, pad:-pad, pad:-pad] = np.clip(_backgrounds(s, image_size), 0, 255)

    cells = np.arange(stamps.shape[-1])

    def stamp(rows: np.ndarray, k: int, shape: np.ndarray | int, fill: np.ndarray | int, rgb: np.ndarray) -> None:
        alpha = stamps[shape, fill, np.searchsorted(radii, s.radius[rows, k]), s.tilt[rows, k]][..., None]
        alpha, rgb = alpha.astype(np.int32), np.int32(30) if sketch else rgb[:, None, None, :].astype(np.int32)
        # the padding equals half a stamp: a center in the image is the stamp's corner on the canvas
        y, x = (np.floor(center[rows, k] * scale).astype(int)[:, None] + cells for center in (s.y, s.x))
        where = (rows[:, None, None], y[:, :, None], x[:, None, :])
        under = canvas[where]
        canvas[where] = under + rgb * alpha // 255 - under * alpha // 255

    for k in range(4):
        rows = np.flatnonzero(s.count > k)
        rgb = RGB[s.color[rows, k]] + below(s.tint[rows, k], 25) - 12
        stamp(rows, k, s.shape[rows, k], 2 if sketch else s.fill[rows, k], rgb)
        fruits = rows[s.shape[rows, k] == FRUIT]
        stamp(fruits, k, FRUIT + 1, 0, np.broadcast_to(LEAF, (len(fruits), 3)))

    out = canvas[:, pad:-pad, pad:-pad]
    written = np.flatnonzero(s.word >= 0)
    shift = np.where(s.word_top[written] == 1, int(3 * scale), int(47 * scale))
    rows = (np.arange(image_size)[None, :] - shift[:, None]) % image_size
    mask = words[s.word[written][:, None], rows][..., None]
    ink = np.where((s.dark[written] == 1) & (not sketch), 240, 20)[:, None, None, None]
    out[written] = np.where(mask, ink, out[written])
    return np.ascontiguousarray(np.clip(out, 0, 255).astype(np.uint8).transpose(0, 3, 1, 2))


def shift(images: np.ndarray, kind: str, *, seed: int = 0) -> np.ndarray:
    """A distribution shift of images (n, 3, S, S) uint8, for the robustness experiment (paper, section 3.3)."""
    n, size, x = len(images), images.shape[-1], images.astype(np.int32)
    index = np.arange(n)
    if kind == "inverted":
        x = 255 - x
    elif kind == "blurred":
        for _ in range(2):
            p = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
            x = sum(p[:, :, i : i + size, j : j + size] for i in range(3) for j in range(3)) // 9
    elif kind == "noisy":
        x = x + (below(draws(seed, "shift/noisy", index, 3 * size * size), 121) - 60).reshape(x.shape)
    elif kind == "rotated":  # 20 degrees, nearest pixel, edges repeated: (12, 35, 37) is a right triangle
        grid = np.arange(size) * 2 - (size - 1)
        u = (35 * grid[None, :] + 12 * grid[:, None]) // 37
        v = (35 * grid[:, None] - 12 * grid[None, :]) // 37
        x = x[:, :, np.clip((v + size) // 2, 0, size - 1), np.clip((u + size) // 2, 0, size - 1)]
    elif kind == "tinted":
        x = x * (256 - below(draws(seed, "shift/tinted", index, 3), 128))[:, :, None, None] // 256
    else:
        raise MinclipError(f"there is no shift {kind!r}: choose from {', '.join(SHIFTS)}")
    return np.clip(x, 0, 255).astype(np.uint8)
