"""Plots of the tokenizer: bytes, merges, tokens, vocabularies."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle

from ...tokenizer import Tokenizer, byte_characters, spell
from ..setup import PALETTE
from .base import axes_grid, faint, new_figure

Box = tuple[str, str, str]  # the text in a box, the text below it, its color


def boxes(rows: Sequence[tuple[str, Sequence[Box | None]]], title: str = "") -> Figure:
    """Rows of boxes as wide as their text, each row with a label on its left; None leaves a gap between two words."""
    margin = max(len(label) for label, _ in rows) + 2
    places, widest = [], len(title)
    for _, row in rows:
        x, starts = margin, []
        for box in row:
            starts.append(x)
            x += max(len(box[0]), len(box[1])) + 1.4 if box else 1.6
        places.append(starts)
        widest = max(widest, x)
    figure = new_figure(0.088 * widest, 0.58 * len(rows) + 0.4)
    axis = axes_grid(figure)[0, 0]
    axis.set(xlim=(0, widest), ylim=(-len(rows), 0), title=title)
    axis.set_axis_off()
    write = {"va": "center", "family": "monospace"}
    for y, ((label, row), starts) in enumerate(zip(rows, places)):
        axis.text(0, -y - 0.35, label, fontsize=9, **write)
        for box, x in zip(row, starts):
            if box:
                width = max(len(box[0]), len(box[1])) + 1
                style = {"facecolor": box[2], "edgecolor": "#444444", "linewidth": 0.7}
                axis.add_patch(Rectangle((x, -y - 0.6), width, 0.5, **style))
                axis.text(x + width / 2, -y - 0.36, box[0], ha="center", fontsize=9, **write)
                axis.text(x + width / 2, -y - 0.74, box[1], ha="center", fontsize=7, color="#555555", **write)
    return figure


def bytes_of(text: str, title: str = "") -> Figure:
    """A row for each character of `text`: its number in Unicode, and its UTF-8 bytes as boxes."""
    mono = FT2Font(findfont("DejaVu Sans Mono"))
    rows = []
    for character in text:
        seen = character if mono.get_char_index(ord(character)) else " "  # the font has no emoji, for example
        color = faint(PALETTE[len(character.encode()) > 1])
        row = [(str(byte), byte_characters()[byte], color) for byte in character.encode()]
        rows.append((f"{seen} U+{ord(character):04X}", row))
    return boxes(rows, title)


def byte_table(title: str = "") -> Figure:
    """The 256 bytes, 16 per row, with the character that stands for each; orange where it isn't the byte's own."""
    own = np.array([character == chr(byte) for byte, character in enumerate(byte_characters())]).reshape(16, 16)
    figure = new_figure(5.6, 5.4)
    axis = axes_grid(figure)[0, 0]
    axis.imshow(own, cmap=mpl.colors.ListedColormap([faint(PALETTE[1]), faint(PALETTE[0])]))
    for byte, character in enumerate(byte_characters()):
        axis.text(byte % 16, byte // 16, character, ha="center", va="center")
    axis.set_xticks(range(16), [f"+{i}" for i in range(16)], fontsize=8)
    axis.set_yticks(range(16), range(0, 256, 16), fontsize=8)
    axis.tick_params(length=0)
    axis.set_title(title)
    return figure


def merge_steps(steps: Sequence[tuple[str, Sequence[Sequence[str]], str]], title: str = "") -> Figure:
    """Words while their symbols are merged, one row per step: label, words (lists of symbols), new symbol."""
    rows = []
    for label, words, new in steps:
        row: list[Box | None] = []
        for symbols in words:
            row += [*((symbol, "", faint(PALETTE[symbol == new])) for symbol in symbols), None]
        rows.append((label, row[:-1]))
    return boxes(rows, title)


def token_boxes(tokens: Sequence[str], ids: Sequence[int], title: str = "", *, width: int = 76) -> Figure:
    """Tokens with their ids below, colored by id, in rows of about `width` letters."""
    rows: list[tuple[str, list[Box | None]]] = [("", [])]
    used = 0
    for token, i in zip(tokens, ids):
        used += max(len(token), len(str(i))) + 1.4
        if used > width and rows[-1][1]:
            rows.append(("", []))
            used = max(len(token), len(str(i))) + 1.4
        rows[-1][1].append((token, str(i), faint(PALETTE[i % 6])))
    return boxes(rows, title)


def merge_tree(tokenizer: Tokenizer, words: Sequence[str], title: str = "") -> Figure:
    """A tree for each word: its symbols at the bottom, and each merge, with its number, above its two parts."""
    rank = {pair: i for i, pair in enumerate(tokenizer.merges)}
    figure = new_figure(0.62 * sum(len(spell(word)) for word in words) + 0.5, 3.4)
    axes = axes_grid(figure, 1, len(words), width_ratios=[len(spell(word)) for word in words], sharey=True)[0]
    for axis, word in zip(axes, words):
        nodes = [(symbol, x, 0) for x, symbol in enumerate(spell(word))]  # text, x, y
        made = [(*node, "") for node in nodes]
        while len(nodes) > 1:
            number, i = min((rank.get((a[0], b[0]), math.inf), i) for i, (a, b) in enumerate(zip(nodes, nodes[1:])))
            if number == math.inf:
                break
            left, right = nodes[i : i + 2]
            node = (left[0] + right[0], (left[1] + right[1]) / 2, max(left[2], right[2]) + 1)
            axis.plot([left[1], node[1], right[1]], [left[2], node[2], right[2]], color="#888888", zorder=1)
            made.append((*node, f"{number + 1}"))
            nodes[i : i + 2] = [node]
        for symbol, x, y, number in made:
            box = {"boxstyle": "round,pad=0.25", "edgecolor": "#444444", "linewidth": 0.7}
            box["facecolor"] = faint(PALETTE[(symbol, x, y) in nodes])
            axis.text(x, y, symbol, ha="center", va="center", fontsize=9, bbox=box)
            axis.annotate(number, (x, y), (0, 11), textcoords="offset points", ha="center", va="bottom", fontsize=7)
        axis.set_xlim(-0.6, len(spell(word)) - 0.4)
        axis.set_title(f"{word}: {len(nodes)} token{'s' * (len(nodes) > 1)}", loc="left")
        axis.margins(y=0.2)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def vocabulary_curve(
    sizes: Sequence[int], tokens: dict[str, Sequence[float]], words: dict[str, float], *, title: str = ""
) -> Figure:
    """Tokens per text by vocabulary size, a line for each kind of text; dashed: its `words` per text."""
    figure = new_figure(6.5, 3.6)
    axis = axes_grid(figure)[0, 0]
    for color, (name, values) in zip(PALETTE, tokens.items()):
        axis.plot(sizes, values, marker="o", color=color, label=name)
        axis.axhline(words[name], color=color, linestyle="--", linewidth=1, label="the same, one token per word")
    axis.legend(loc="upper right")
    axis.set(xlabel="requested vocabulary size", ylabel="tokens per text", title=title, ylim=(0, None))
    return figure
