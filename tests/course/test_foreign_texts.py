"""Captions, labels, file names and what a reader types are drawn whatever they hold, and never read as mathematics."""

import unicodedata
import warnings

import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.text import Text
from PIL import Image

from minclip.course import plots
from minclip.course.plots import fonts

# a broken formula, an escape sequence that clears a terminal, a byte of a file name that is no UTF-8, a null character
HOSTILE = "$x^$ \x1b[2J \udce9 \x00"
IMAGE = np.zeros((3, 8, 8), dtype=np.uint8)
PICTURE = Image.new("RGB", (8, 8))
FIGURES = {
    "boxes": lambda text: plots.boxes([(text, [(text, text, "#ffffff")])], text),
    "classified": lambda text: plots.classified(
        [PICTURE], [text], [{text: 0.5}], probabilities=[{text: 1.0}], below=0.2
    ),
    "confusion": lambda text: plots.confusion([[1]], [text], [text], title=text, xlabel=text),
    "contact_sheet": lambda text: plots.contact_sheet([PICTURE], [text], [0.5], title=text),
    "image_grid": lambda text: plots.image_grid(IMAGE[None], [text], title=text),
    "lengths_and_words": lambda text: plots.lengths_and_words([1, 2], [(text, 3), ("a", 2)], text),
    "lines": lambda text: plots.lines([1, 2], {text: [1, 2]}, text, xlabel=text),
    "looked_at": lambda text: plots.looked_at(IMAGE[None], torch.ones(1, 2, 2), [text], title=text),
    "moved_cosines": lambda text: plots.moved_cosines([text], [0.1], [0.2], names=(text, text), title=text),
    "probabilities": lambda text: plots.probabilities(IMAGE, [text, "a"], [0.4, 0.6], title=text),
    "prompt_table": lambda text: plots.prompt_table(IMAGE, [text], [text], values=[[1.0]], title=text),
    "retrieved": lambda text: plots.retrieved([text], [[IMAGE]], text),
    "row_dots": lambda text: plots.row_dots([text], {text: [0.1]}, text),
    "similarity_matrix": lambda text: plots.similarity_matrix(
        torch.eye(2), np.stack([IMAGE] * 2), [text, "a"], title=text
    ),
    "token_attention": lambda text: plots.token_attention(np.eye(2)[None], [text, "a"], [text], title=text),
    "with_texts": lambda text: plots.with_texts(IMAGE[None], [[text]], text),
}


@pytest.mark.parametrize("name", FIGURES)
def test_any_text_is_drawn(name):
    figure = FIGURES[name](HOSTILE)
    assert plots.png(figure).startswith(b"\x89PNG")
    drawn = "".join("".join(text.get_text().split()) for text in figure.findobj(Text))  # however it was wrapped
    assert r"$x^$\x1b[2J\udce9" in drawn and "\x1b" not in drawn and "\udce9" not in drawn


def test_powers_of_ten_beside_an_axis_are_still_mathematics():
    figure = plots.gradient_norms([1, 10, 100], np.array([[0.1, 0.2], [0.3, 0.4], [1e-5, 2.0]]), "$")
    plots.png(figure)
    labels = [label for label in figure.axes[0].get_yticklabels() if "10^{" in label.get_text()]
    assert labels and all(label.get_parse_math() for label in labels)


# ---- fonts

HINDI, CHINESE = "गेंद लाल", "红球"


def make_font(path, family, characters):
    """A TrueType font whose glyphs are all the same square."""
    pen = TTGlyphPen(None)
    for i, point in enumerate([(0, 0), (0, 500), (500, 500), (500, 0)]):
        (pen.lineTo if i else pen.moveTo)(point)
    pen.closePath()
    names = [".notdef", *(f"uni{ord(c):04X}" for c in sorted({*characters} - {" "}))]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({int(name[3:], 16): name for name in names[1:]})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Fonts that a test installs: {family: characters} makes their files, and matplotlib finds no others."""
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    for name, empty in (("_chosen", {}), ("_nowhere", set()), ("_told", set())):
        monkeypatch.setattr(fonts, name, empty)

    def install(families):
        files = [make_font(tmp_path / f"{family}-Regular.ttf", family, glyphs) for family, glyphs in families.items()]
        (tmp_path / "broken.ttf").write_bytes(b"no font")
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [*files, str(tmp_path / "broken.ttf")])

    yield install
    font_manager.fontManager._findfont_cached.cache_clear()


def draw(figure):
    """Draws a figure; returns what matplotlib would have warned of without `png`'s filter."""
    plots.png(figure)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.canvas.draw()
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_finds_the_fonts_that_are_installed(name, installed, capfd):
    installed({"Minclip Hindi": HINDI, "Minclip Chinese": CHINESE, "Minclip Latin": "abc"})
    assert draw(FIGURES[name](f"a {HINDI} {CHINESE}")) == []
    assert {*fonts._chosen} == {"Minclip Hindi", "Minclip Chinese"} and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", FIGURES)
def test_what_no_font_has_is_said_once(name, installed, capfd):
    installed({"Minclip Hindi": HINDI[:1]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.png(FIGURES[name](f"a {HINDI}"))
    out, note = capfd.readouterr()
    assert out == "" and note.count("\n") == 1 and "Devanagari" in note and "Noto" in note
    plots.png(FIGURES[name](HINDI))
    assert capfd.readouterr() == ("", "")
    plots.png(FIGURES[name](CHINESE))
    assert "Chinese" in (note := capfd.readouterr().err) and "Devanagari" not in note


def test_a_font_that_was_installed_since_is_found(installed):
    installed({})
    plots.png(plots.row_dots(["a"], {"a": [0.1]}, "a"))
    installed({"Minclip Chinese": CHINESE})
    assert draw(plots.row_dots([CHINESE], {"a": [0.1]}, "a")) == []


def test_latin_texts_look_for_no_font(monkeypatch):
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: pytest.fail("was asked"))
    plots.png(plots.row_dots(["Ça été, mèo, кошка"], {"λ": [0.1]}, "“½ × 2”"))


def test_invisible_characters_are_no_script():
    assert [fonts.script_of(c) for c in "\u200d\u200c\U000e0067क猫，한カ👩"] == [
        *["", "", ""],
        *["Devanagari", "Chinese characters", "Chinese characters", "Hangul", "Katakana", "emoji and symbols"],
    ]


# ---- lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a red circle", ["a red", "circle"]),
        ("abcdefgh", ["abcdef", "gh"]),
        ("abcdefgh a b", ["abcdef", "gh a b"]),
        ("a abcdefgh", ["a", "abcdef", "gh"]),
        ("红球红球红球红球", ["红球红球红球", "红球"]),
        ("", [""]),
    ],
)
def test_captions_are_wrapped_between_words_and_within_long_ones(text, lines):
    assert plots.wrap(text, 6).split("\n") == lines


def test_lines_end_between_graphemes():
    text = unicodedata.normalize("NFD", "é" * 7)
    assert plots.wrap(text, 6) == text[:12] + "\n" + text[12:]
