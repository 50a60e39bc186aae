"""Fonts for texts in any script: matplotlib's own, then others that are installed, or a note about what to install.

Since matplotlib 3.11, marks are placed and right-to-left texts are drawn in reading order; older versions draw both
letter by letter, in the order in which they are stored.
"""

import sys
import unicodedata
from collections.abc import Iterable

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from ...training.bars import tqdm

_chosen: dict[str, FT2Font] = {}  # family -> font, of the system's fonts that were needed so far
_nowhere: set[str] = set()  # characters that no font has
_told: set[str] = set()  # scripts that the note has named


def add_fonts(texts: Iterable[Text]) -> None:
    """Adds fonts with the missing characters to those of each text; notes, once, the scripts that no font has."""
    missing = {text: missing_in(text) for text in texts}
    _choose(set().union(*missing.values()))
    for text in filter(missing.get, missing):
        text.set_fontfamily([*dict.fromkeys([*text.get_fontfamily(), *_chosen])])
    scripts = {script_of(c) for characters in missing.values() for c in characters & _nowhere} - _told - {""}
    if scripts:
        _told.update(scripts)
        todo = "install a Noto font (https://fonts.google.com/noto; on Debian: fonts-noto-core, fonts-noto-cjk)"
        tqdm.write(f"note: no font here can draw {', '.join(sorted(scripts))}: {todo}", file=sys.stderr)


def missing_in(text: Text) -> set[str]:
    """The characters of a text that its font lacks."""
    font = font_manager.get_font(font_manager.findfont(text.get_fontproperties()))
    return {c for c in text.get_text() if not c.isspace() and not font.get_char_index(ord(c))}


def script_of(character: str) -> str:
    """The script of a character by the first word of its name, "Devanagari"; "" if it is invisible by itself."""
    kind, word = unicodedata.category(character), unicodedata.name(character, "unnamed").split()[0].capitalize()
    if kind in ("Cc", "Cf", "Cn"):
        return ""
    chinese = word in ("Cjk", "Ideographic", "Fullwidth", "Halfwidth")
    return "emoji and symbols" if kind in ("So", "Sk") else "Chinese characters" if chinese else word


def _choose(characters: set[str]) -> None:
    """Adds installed fonts to `_chosen`, the one with the most missing characters first."""
    left = {c for c in characters - _nowhere if not any(font.get_char_index(ord(c)) for font in _chosen.values())}
    # matplotlib's own list of fonts is from when it first ran: fonts installed since then are not in it
    found = {path: _has(path, left) for path in sorted(font_manager.findSystemFonts())} if left else {}
    while left and found:
        best = max(found, key=lambda path: (len(found[path] & left), _plain(path)))
        if not found[best] & left:
            break
        left -= found.pop(best)
        font_manager.fontManager.addfont(best)
        font = font_manager.get_font(best)
        _chosen.setdefault(font.family_name, font)
    _nowhere.update(left)


def _plain(path: str) -> int:
    return ("Sans" in path) + any(style in path for style in ("Regular", "Book"))  # neither bold nor italic


def _has(path: str, characters: set[str]) -> set[str]:
    """Those of `characters` that a font can draw."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # a format that FreeType doesn't know
        return set()
    # colored glyphs are no outlines; and macOS's .LastResort has a box for every character
    if not font.scalable or "Color" in font.family_name or "LastResort" in font.family_name:
        return set()
    return {c for c in characters if font.get_char_index(ord(c))}
