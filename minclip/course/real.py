"""Images for notebook 16: the reader's photograph or a painted scene, a folder of scenes, and a word on an image."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..config import need
from ..data import shapes
from ..data.photos.images import open_image
from ..data.shapes.painting import FONT

SIDE = 336  # pixels: the input size of OpenAI's ViT-L/14@336px
ORANGE_STAR = 255  # number of a test scene: one orange star, large and outlined


def scene(split: str, number: int, *, side: int = SIDE) -> Image.Image:
    """Scene `number`, from 0, of a split of the shapes world, as an RGB image of `side` × `side` pixels."""
    pixels = shapes.paint(shapes.scenes(split, number + 1).take(slice(number, number + 1)), side)[0]
    return Image.fromarray(pixels.transpose(1, 2, 0))


def photograph(path: str, labels: Sequence[str]) -> tuple[Image.Image, list[str]]:
    """The photograph at `path`, cropped to SIDE × SIDE pixels, and its labels; for "" and [], a star and eight shapes.

    Raises MinclipError if the file is missing or not an image, if only one of the two is given, if `labels` is a
    single text, or if it has one label only.
    """
    need(bool(path) == bool(labels), "PHOTOGRAPH and LABELS belong together: give both, or neither")
    need(
        not isinstance(labels, str), f'LABELS must be a list of texts, ["a dog", "a cat"], not the text {labels!r:.60}'
    )
    need(len(labels) != 1, "LABELS has a single label, which always gets 100 %: give at least two")
    image = ImageOps.fit(open_image(path, SIDE).convert("RGB"), (SIDE, SIDE)) if path else scene("test", ORANGE_STAR)
    return image, [*(labels or shapes.SHAPES)]


def painted_folder(folder: str | Path, count: int = 160, *, side: int = 128) -> Path:
    """Writes `count` test scenes of one object without a word into an existing folder, and returns the folder.

    PNG files of `side` × `side` pixels, named FILL-COLOR-SHAPE-NUMBER.png.
    """
    scenes = shapes.scenes("test", 5 * count)
    one = (scenes.count == 1) & (scenes.word < 0) & (scenes.shape[:, 0] != shapes.FRUIT)
    for place, i in enumerate(np.flatnonzero(one)[:count]):
        what = (shapes.FILLS[scenes.fill[i, 0]], shapes.COLORS[scenes.color[i, 0]], shapes.SHAPES[scenes.shape[i, 0]])
        pixels = shapes.paint(scenes.take(slice(i, i + 1)), side)[0]
        Image.fromarray(pixels.transpose(1, 2, 0)).save(Path(folder) / f"{'-'.join(what)}-{place:03}.png")
    return Path(folder)


def with_sign(image: Image.Image, word: str, *, height: float = 0.22, letters: str = "printed") -> Image.Image:
    """An RGB copy of the image with a word, in capitals, at its top.

    `height` is that of a capital letter, as a fraction of the image's height; the word shrinks if it is too wide.
    `letters` are "printed", black on white paper, or "painted", in the shapes world's font and without paper; that
    font lacks some letters.  Raises MinclipError if `letters` is another word, or if a letter is missing.
    """
    need(letters in ("printed", "painted"), f"letters {letters!r}: choose printed or painted")
    out, word = image.convert("RGB"), word.upper()
    if not word or height <= 0:
        return out
    mask = (_printed if letters == "printed" else _painted)(word, round(height * out.height))
    mask.thumbnail((int(0.92 * out.width), out.height))
    left, top = (out.width - mask.width) // 2, round(0.05 * out.height)
    box = (left, top, left + mask.width, top + mask.height)
    if letters == "printed":
        pad = max(1, round(0.02 * out.height))
        ImageDraw.Draw(out).rectangle((box[0] - pad, box[1] - pad, box[2] + pad - 1, box[3] + pad - 1), fill="white")
        ink = 0
    else:
        ink = 240 if np.asarray(out.crop(box)).mean() < 128 else 20
    out.paste((ink,) * 3, box, mask)
    return out


def _printed(word: str, height: int) -> Image.Image:
    """The word as a mask (mode L) in DejaVu Sans Bold, which matplotlib ships; capitals have about `height` pixels."""
    path = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")
    font = ImageFont.truetype(str(path), max(4, round(height / 0.73)))  # capitals take 0.73 of this font's size
    left, top, right, bottom = font.getbbox(word)
    mask = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(mask).text((-left, -top), word, fill=255, font=font)
    return mask


def _painted(word: str, height: int) -> Image.Image:
    """The word as a mask (mode L) in the shapes world's letters of 5 × 7 dots.  MinclipError for other letters."""
    missing = sorted({*word} - FONT.keys())
    known = "".join(sorted(FONT))
    need(not missing, f'the shapes world has no letter {", ".join(missing)}: write with {known}, or letters="printed"')
    rows = np.array([list(bytes.fromhex(FONT[letter])) for letter in word], dtype=np.uint8).T  # (7, letters)
    dots = np.unpackbits(rows[:, :, None], axis=2)[:, :, 2:].reshape(7, -1)[:, 1:]  # one empty column between letters
    size = (max(1, round(dots.shape[1] * height / 7)), max(7, height))
    return Image.fromarray(255 * dots).resize(size, Image.Resampling.NEAREST)
