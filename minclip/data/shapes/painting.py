"""Paints the scenes of the shapes world, and shifts of them, with integers and floats that round in one way only."""

from functools import lru_cache

import numpy as np

from .text import FRUIT, RADII, WORDS, Scenes

SHIFTS = ("sketch", "inverted", "blurred", "noisy", "rotated", "tinted")
RGB = np.array([list(bytes.fromhex(c)) for c in "d62424 f48a12 eed828 2ca038 32c8d0 2c48d0 802cb2 f480bc".split()])
LEAF = np.array([40, 120, 40])
BLOCK = 1000  # scenes painted at a time: this bounds the memory


def _mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele, Lea, Flood 2014): 64 well-mixed bits for each 64-bit counter."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def draws(seed: int, stream: str, index: np.ndarray, *, slots: int) -> np.ndarray:
    """Hashes (len(index), slots) in [0, 2**32) as random integers: row i depends on `index[i]` only."""
    state = np.zeros(1, dtype=np.uint64)
    for word in np.array([seed & (2**64 - 1), *stream.encode()], dtype=np.uint64):
        state = _mix(state * np.uint64(0x9E3779B97F4A7C15) + word + np.uint64(1))
    rows = _mix(state + np.asarray(index, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))[:, None]
    columns = np.arange(1, slots + 1, dtype=np.uint64)[None, :] * np.uint64(0xD1B54A32D192ED03)
    return (_mix(rows + columns) >> np.uint64(32)).astype(np.int64)


def below(u: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """Integers in [0, n) from integers in [0, 2**32)."""
    return (u * n) >> 32


def _distances(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Signed distances to the outlines of all shapes of radius 1: negative inside; x points right, y down."""
    r, ax, ay = np.sqrt(x * x + y * y), np.abs(x), np.abs(y)
    # a point of a pentagram lies inside at least four of its five lines
    right = ((0.95105652, -0.30901699), (0.58778525, 0.80901699))
    lines = [nx * x + ny * y - 0.36 for nx, ny in ((0, -1), *right, *((-nx, ny) for nx, ny in right))]
    lobe = np.sqrt((ax - 0.42) ** 2 + (y + 0.28) ** 2) - 0.55  # of the heart: a half circle on each upper edge
    return (
        r - 0.92,  # circle
        np.maximum(ax, ay) - 0.8,  # square
        np.maximum(y - 0.72, (1.72 * ax - 0.98 * (y + 1)) / 1.9796),  # triangle
        np.sort(np.stack(lines), axis=0)[-2],  # star
        np.minimum(lobe, (ax + np.abs(y - 0.14) - 0.84) * 0.70710678),  # heart: a square on its corner, and lobes
        np.minimum(np.maximum(ax - 0.3, ay - 0.92), np.maximum(ax - 0.92, ay - 0.3)),  # cross
        np.abs(r - 0.68) - 0.27,  # ring
        np.maximum(r - 0.95, 0.78 - np.sqrt((x - 0.42) ** 2 + (y + 0.1) ** 2)),  # crescent
        r - 0.92,  # fruit
        np.sqrt((x - 0.3) ** 2 * 0.6 + (y + 0.85) ** 2 * 2.2) - 0.32,  # the fruit's leaf
    )


@lru_cache(maxsize=1)  # for all blocks and splits of scenes
def _stamps(image_size: int) -> np.ndarray:
    """Opacity stamps (10 shapes, 3 fills, 12 radii, 4 tilts, P, P) uint8 for one image size, edges smoothed."""
    scale = image_size / 64
    half = int(18.5 * scale) + 2
    grid, line = np.arange(-half, half + 1) + 0.0, max(1.7 * scale, 1.0)
    out = np.zeros((10, 3, len(RADII), 4, 2 * half + 1, 2 * half + 1), dtype=np.uint8)
    for k, radius in enumerate(RADII):
        pixels = radius * scale
        for t, h in enumerate((-0.12, -0.04, 0.04, 0.12)):  # tangents of half the angle: -14, -5, 5 and 14 degrees
            cos, sin = (1 - h * h) / (1 + h * h), 2 * h / (1 + h * h)
            x = (cos * grid[None, :] + sin * grid[:, None]) / pixels
            y = (cos * grid[:, None] - sin * grid[None, :]) / pixels
            band = np.abs((y * pixels / (4.4 * scale)) % 1 - 0.5) * 4.4 * scale - 1.1 * scale
            for shape, distance in enumerate(_distances(x, y)):
                d = distance * pixels
                fills = (d, np.maximum(d, np.minimum(band, -d - 0.7 * line)), np.maximum(d, -d - line))
                for fill, inside in enumerate(fills):
                    out[shape, fill, k, t] = np.floor(np.clip(0.5 - inside, 0, 1) * 255 + 0.5)
    return out


_LETTERS = """
A 0e11111f111111  B 1e11111e11111e  C 0e11101010110e  D 1e11111111111e  E 1f10101e10101f  G 0e11101711110f
H 1111111f111111  I 0e04040404040e  L 1010101010101f  N 11191515131111  O 0e11111111110e  R 1e11111e141211
S 0f10100e01011e  T 1f040404040404  U 1111111111110e
""".split()
FONT = dict(zip(_LETTERS[::2], _LETTERS[1::2]))  # 5 × 7 letters: seven rows of five bits each, a byte a row


def _word_stamps(image_size: int) -> np.ndarray:
    """The written words as masks (len(WORDS), S, S), at the top of the image; drawn at 64 × 64, then resized."""
    pixels = np.arange(image_size) * 64 // image_size
    out = np.zeros((len(WORDS), 64, 64), dtype=bool)
    for i, word in enumerate(WORDS):
        rows = np.array([list(bytes.fromhex(FONT[letter])) for letter in word], dtype=np.uint8).T
        letters = np.unpackbits(rows[:, :, None], axis=2)[:, :, 2:].reshape(7, -1)[:, 1:]  # 1 empty column between
        left = 32 - letters.shape[1]
        out[i, :14, left : 64 - left] = letters.repeat(2, axis=0).repeat(2, axis=1)
    return out[:, pixels][:, :, pixels]


def _backgrounds(s: Scenes, image_size: int) -> np.ndarray:
    """(n, S, S, 3) int64: one tone, a gradient of two, or noise; pale or dark, so that objects stand out."""
    u, gray = s.noise[:, :8].reshape(-1, 2, 1, 1, 4), np.where(s.dark == 1, 14, 184)[:, None, None, None, None]
    a, b = (below(u[..., :1], 60) + gray + below(u[..., 1:], 17) - 8).swapaxes(0, 1)
    ramp = np.arange(image_size) * 256 // image_size
    across = np.where((s.noise[:, 8] & 1)[:, None, None] == 1, ramp[None, None, :], ramp[None, :, None])[..., None]
    out = a + (b - a) * across // 256 * (s.background == 1)[:, None, None, None]
    noisy = np.flatnonzero(s.background == 2)
    grain = draws(s.seed, s.split + "/grain", s.index[noisy], slots=image_size**2)
    out[noisy] += (below(grain, 49) - 24).reshape(-1, image_size, image_size, 1)
    return out


def paint(s: Scenes, image_size: int = 64, *, sketch: bool = False) -> np.ndarray:
    """Scenes as images (n, 3, S, S) uint8; `sketch` draws dark outlines on white paper instead."""
    n, scale = len(s.index), image_size / 64
    if n > BLOCK:
        blocks = (s.take(slice(i, i + BLOCK)) for i in range(0, n, BLOCK))
        return np.concatenate([paint(block, image_size, sketch=sketch) for block in blocks])
    stamps = _stamps(image_size)
    cells, pad = np.arange(stamps.shape[-1]), stamps.shape[-1] // 2
    canvas = np.full((n, image_size + 2 * pad, image_size + 2 * pad, 3), 250, dtype=np.int32)
    if not sketch:
        canvas[:, pad:-pad, pad:-pad] = np.clip(_backgrounds(s, image_size), 0, 255)

    def stamp(rows: np.ndarray, k: int, shape: np.ndarray | int, fill: np.ndarray | int, rgb: np.ndarray) -> None:
        alpha = stamps[shape, fill, np.searchsorted(RADII, s.radius[rows, k]), s.tilt[rows, k]][..., None]
        alpha, rgb = alpha.astype(np.int32), np.int32(30) if sketch else rgb[..., None, None, :].astype(np.int32)
        # the padding is half a stamp, so an object's center in the image is the corner of its stamp on the canvas
        y, x = (np.floor(center[rows, k] * scale).astype(int)[:, None] + cells for center in (s.y, s.x))
        where = (rows[:, None, None], y[:, :, None], x[:, None, :])
        under = canvas[where]
        canvas[where] = under + rgb * alpha // 255 - under * alpha // 255

    for k in range(4):
        rows = np.flatnonzero(s.count > k)
        rgb = RGB[s.color[rows, k]] + below(s.tint[rows, k], 25) - 12
        stamp(rows, k, s.shape[rows, k], 2 if sketch else s.fill[rows, k], rgb)
        stamp(rows[s.shape[rows, k] == FRUIT], k, FRUIT + 1, 0, LEAF)

    out = canvas[:, pad:-pad, pad:-pad]
    written = np.flatnonzero(s.word >= 0)
    down = np.where(s.word_top[written] == 1, int(3 * scale), int(47 * scale))
    rows = (np.arange(image_size)[None, :] - down[:, None]) % image_size
    mask = _word_stamps(image_size)[s.word[written][:, None], rows][..., None]
    ink = np.where((s.dark[written] == 1) & (not sketch), 240, 20)[:, None, None, None]
    out[written] = np.where(mask, ink, out[written])
    return np.ascontiguousarray(np.clip(out, 0, 255).astype(np.uint8).transpose(0, 3, 1, 2))


def shift(images: np.ndarray, kind: str, *, seed: int = 0) -> np.ndarray:
    """Applies a distribution shift to images (n, 3, S, S) uint8; a sketch stays as it is (paper, section 3.3)."""
    size, x, index = images.shape[-1], images.astype(np.int32), np.arange(len(images))
    if kind == "inverted":
        x = 255 - x
    elif kind == "blurred":
        for _ in range(2):
            p = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
            x = sum(p[:, :, i : i + size, j : j + size] for i in range(3) for j in range(3)) // 9
    elif kind == "noisy":
        x = x + (below(draws(seed, "shift/noisy", index, slots=3 * size * size), 121) - 60).reshape(x.shape)
    elif kind == "rotated":  # 20 degrees, nearest pixel, edges repeated: (12, 35, 37) is a right triangle
        grid = np.arange(size) * 2 - (size - 1)
        u = (35 * grid[None, :] + 12 * grid[:, None]) // 37
        v = (35 * grid[:, None] - 12 * grid[None, :]) // 37
        x = x[:, :, np.clip((v + size) // 2, 0, size - 1), np.clip((u + size) // 2, 0, size - 1)]
    elif kind == "tinted":
        x = x * (256 - below(draws(seed, "shift/tinted", index, slots=3), 128))[:, :, None, None] // 256
    return np.clip(x, 0, 255).astype(np.uint8)
