"""The course's pictures: each function draws one figure from arrays and returns it."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle
from torch import Tensor

from ..checkpoint import Run
from ..tokenizer import Tokenizer, byte_characters, spell
from .setup import PALETTE, STYLE


def new_figure(width: float, height: float) -> Figure:
    """A figure in the course's style; not pyplot's, so that nothing has to be closed and no screen is needed."""
    with mpl.rc_context(STYLE):
        return Figure(figsize=(width, height))


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes, for files and for image widgets."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    return buffer.getvalue()


def show(figure: Figure) -> None:
    """Displays the figure in a notebook, as a PNG: the same in JupyterLab, in Colab and on a page."""
    from IPython.display import Image, display  # only notebooks have it

    display(Image(data=png(figure)))


def save(figure: Figure, path: Path) -> None:
    """Writes the figure to a PNG file, whole or not at all."""
    from ..folder import atomic_write

    atomic_write(path, png(figure))


def _axes(figure: Figure, rows: int = 1, columns: int = 1, **keywords: Any) -> np.ndarray:
    with mpl.rc_context(STYLE):
        return figure.subplots(rows, columns, squeeze=False, **keywords)


def wrap(text: str, width: int) -> str:
    """Breaks a caption into lines of at most `width` characters, between words."""
    lines = [""]
    for word in text.split():
        lines = [*lines[:-1], f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [*lines, word]
    return "\n".join(lines)


def show_image(axis: Any, image: np.ndarray | Tensor, caption: str = "", width: int = 24) -> None:
    """One (3, S, S) uint8 image with its caption below."""
    axis.imshow(np.asarray(image).transpose(1, 2, 0))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel(wrap(caption, width), fontsize=8)
    for spine in axis.spines.values():
        spine.set_visible(False)


def image_grid(images: np.ndarray, captions: Sequence[str], columns: int = 5, title: str = "") -> Figure:
    """Images (n, 3, S, S) uint8 in rows, each above its caption."""
    rows = math.ceil(len(images) / columns)
    figure = new_figure(1.75 * columns, 2.3 * rows + 0.3)
    axes = list(_axes(figure, rows, columns).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, image, caption in zip(axes, images, captions):
        axis.set_axis_on()
        show_image(axis, image, caption)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def similarity_matrix(
    matrix: Tensor | np.ndarray, images: np.ndarray, captions: Sequence[str], title: str = ""
) -> Figure:
    """A similarity matrix (n, n): image i is drawn above column i, caption j beside row j, the number into each cell."""
    matrix, n = np.asarray(matrix), len(captions)
    figure = new_figure(3.2 + 0.85 * n, 0.85 * n + 1.4)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    with mpl.rc_context(STYLE):
        grid = figure.add_gridspec(2, n, height_ratios=[1, n])
        axis = figure.add_subplot(grid[1, :])
        for i, image in enumerate(images):
            show_image(figure.add_subplot(grid[0, i]), image)
    axis.imshow(matrix, cmap="cividis", aspect="auto")
    axis.set_xticks([])
    axis.set_yticks(range(n), [wrap(caption, 34) for caption in captions], fontsize=8)
    middle = (matrix.max() + matrix.min()) / 2
    for (row, column), value in np.ndenumerate(matrix):
        axis.text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=8,
            color="black" if value > middle else "white",
        )
    return figure


def probabilities(image: np.ndarray, labels: Sequence[str], values: Sequence[float], title: str = "") -> Figure:
    """One image, and beside it a bar for each label's probability."""
    figure = new_figure(7, max(2.0, 0.35 * len(labels) + 0.9))
    left, right = _axes(figure, 1, 2, width_ratios=[1, 2.2])[0]
    show_image(left, image)
    best = int(np.argmax(values))
    right.barh(labels, values, color=[PALETTE[1] if i == best else PALETTE[0] for i in range(len(labels))])
    right.invert_yaxis()
    right.set_xlim(0, 1.12)
    right.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    for i, value in enumerate(values):
        right.text(value + 0.01, i, f"{value:.0%}", va="center")
    right.set_title(title)
    return figure


def loss_curve(losses: Sequence[float], batch_size: int, title: str = "") -> Figure:
    """Loss by step, with the line ln(B) of a model that knows nothing."""
    figure = new_figure(6, 3)
    axis = _axes(figure)[0, 0]
    axis.plot(range(1, len(losses) + 1), losses)
    _mark_ln_b(axis, batch_size)
    axis.set(xlabel="step", ylabel="loss", title=title, ylim=(0, None))
    return figure


def _mark_ln_b(axis: Any, batch_size: int) -> None:
    axis.axhline(math.log(batch_size), color="black", linestyle="--", linewidth=1)
    axis.annotate(
        f"ln {batch_size}: knows nothing",
        (1, math.log(batch_size)),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=9,
    )


def curves(run: Run) -> Figure:
    """A run's loss, temperature, gradient norm and validation recall by step: what `curves.png` shows."""
    steps = [line for line in run.metrics if "loss" in line]
    validations = [line for line in run.metrics if "val" in line]
    figure = new_figure(9, 5.5)
    (loss, recall), (scale, norm) = _axes(figure, 2, 2, sharex=True)
    x = [line["step"] for line in steps]
    loss.plot(x, [line["loss"] for line in steps])
    _mark_ln_b(loss, run.config.train.batch_size)
    loss.set(title="training loss", ylim=(0, None))
    for way, label in (("text_to_image_r@5", "text→image"), ("image_to_text_r@5", "image→text")):
        recall.plot(
            [line["step"] for line in validations],
            [100 * line["val"][way] for line in validations],
            marker="o",
            markersize=4,
            label=label,
        )
    recall.set(title="validation recall@5, %", ylim=(0, 100))
    recall.legend()
    scale.plot(x, [line["scale"] for line in steps])
    scale.set(title="scale (1 / temperature)", xlabel="step")
    norm.plot(x, [line["grad_norm"] for line in steps])
    norm.axhline(run.config.train.grad_clip, color="black", linestyle="--", linewidth=1)
    norm.set(title="gradient norm, clipped at the dashed line", xlabel="step", yscale="log")
    return figure


Box = tuple[str, str, str]  # what stands in a box, what below it, and the box's colour


def boxes(rows: Sequence[tuple[str, Sequence[Box | None]]], title: str = "") -> Figure:
    """Rows of boxes as wide as their text, each row with a label at its left; None leaves a gap between two words."""
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
    axis = _axes(figure)[0, 0]
    axis.set(xlim=(0, widest), ylim=(-len(rows), 0), title=title)
    axis.set_axis_off()
    write = {"va": "center", "family": "monospace", "parse_math": False}
    for y, ((label, row), starts) in enumerate(zip(rows, places)):
        axis.text(0, -y - 0.35, label, fontsize=9, **write)
        for box, x in zip(row, starts):
            if box:
                width = max(len(box[0]), len(box[1])) + 1
                look = {"facecolor": box[2], "edgecolor": "#444444", "linewidth": 0.7}
                axis.add_patch(Rectangle((x, -y - 0.6), width, 0.5, **look))
                axis.text(x + width / 2, -y - 0.36, box[0], ha="center", fontsize=9, **write)
                axis.text(x + width / 2, -y - 0.74, box[1], ha="center", fontsize=7, color="#555555", **write)
    return figure


def faint(colour: str) -> str:
    """A colour mixed with white: a background on which black text can be read."""
    return mpl.colors.to_hex(0.35 * np.array(mpl.colors.to_rgb(colour)) + 0.65)


def bytes_of(text: str, title: str = "") -> Figure:
    """A row for each character of `text`: its number in Unicode, and its UTF-8 bytes as boxes."""
    mono = FT2Font(findfont("DejaVu Sans Mono"))
    rows = []
    for character in text:
        seen = character if mono.get_char_index(ord(character)) else " "  # matplotlib's font has no emoji, for one
        colour = faint(PALETTE[len(character.encode()) > 1])
        row = [(str(byte), byte_characters()[byte], colour) for byte in character.encode()]
        rows.append((f"{seen} U+{ord(character):04X}", row))
    return boxes(rows, title)


def byte_table(title: str = "") -> Figure:
    """The 256 bytes, 16 in a row, with the character that stands for each; orange where it isn't the byte's own."""
    own = np.array([character == chr(byte) for byte, character in enumerate(byte_characters())]).reshape(16, 16)
    figure = new_figure(5.6, 5.4)
    axis = _axes(figure)[0, 0]
    axis.imshow(own, cmap=mpl.colors.ListedColormap([faint(PALETTE[1]), faint(PALETTE[0])]))
    for byte, character in enumerate(byte_characters()):
        axis.text(byte % 16, byte // 16, character, ha="center", va="center", parse_math=False)
    axis.set_xticks(range(16), [f"+{i}" for i in range(16)], fontsize=8)
    axis.set_yticks(range(16), range(0, 256, 16), fontsize=8)
    axis.tick_params(length=0)
    axis.set_title(title)
    return figure


def merge_steps(steps: Sequence[tuple[str, Sequence[Sequence[str]], str]], title: str = "") -> Figure:
    """Words while their symbols are joined, a row a step: its label, the words (lists of symbols), the new symbol."""
    rows = []
    for label, words, new in steps:
        row: list[Box | None] = []
        for symbols in words:
            row += [*((symbol, "", faint(PALETTE[symbol == new])) for symbol in symbols), None]
        rows.append((label, row[:-1]))
    return boxes(rows, title)


def token_boxes(tokens: Sequence[str], ids: Sequence[int], title: str = "", width: int = 76) -> Figure:
    """Tokens with their ids below, coloured by id, in rows of about `width` letters."""
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
    """How each word's symbols are joined: symbols at the bottom, each join above its two parts, with its merge's number."""
    rank = {pair: i for i, pair in enumerate(tokenizer.merges)}
    figure = new_figure(0.62 * sum(len(spell(word)) for word in words) + 0.5, 3.4)
    axes = _axes(figure, 1, len(words), width_ratios=[len(spell(word)) for word in words], sharey=True)[0]
    for axis, word in zip(axes, words):
        nodes = [(symbol, x, 0) for x, symbol in enumerate(spell(word))]  # what it spells, its place, its height
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
            axis.text(x, y, symbol, ha="center", va="center", fontsize=9, bbox=box, parse_math=False)
            axis.annotate(number, (x, y), (0, 11), textcoords="offset points", ha="center", va="bottom", fontsize=7)
        axis.set_xlim(-0.6, len(spell(word)) - 0.4)
        axis.set_title(f"{word}: {len(nodes)} token{'s' * (len(nodes) > 1)}", loc="left")
        axis.margins(y=0.2)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def vocabulary_curve(
    sizes: Sequence[int], tokens: dict[str, Sequence[float]], words: dict[str, float], title: str = ""
) -> Figure:
    """Tokens a text by vocabulary size, a line for each kind of text; dashed, where each word would be one token."""
    figure = new_figure(6.5, 3.6)
    axis = _axes(figure)[0, 0]
    for colour, (name, values) in zip(PALETTE, tokens.items()):
        axis.plot(sizes, values, marker="o", color=colour, label=name)
        axis.axhline(words[name], color=colour, linestyle="--", linewidth=1, label="the same, one token a word")
    axis.legend(loc="upper right")
    axis.set(xlabel="vocabulary size that was asked for", ylabel="tokens a text", title=title, ylim=(0, None))
    return figure


def token_attention(
    maps: Tensor | np.ndarray, tokens: Sequence[str], names: Sequence[str], title: str = "", top: float = 1.0
) -> Figure:
    """Causal maps (n, L, L) side by side, from 0 to `top`: who (row) looks at whom (column); the future is grey.

    Up to four tokens get their numbers, more of them a colour bar.
    """
    maps, length = np.asarray(maps), len(tokens)
    later = np.triu(np.ones((length, length), dtype=bool), k=1)
    numbers = length <= 4
    figure = new_figure((2.3 if numbers else 2.5) * len(maps) + 0.9, 3.0 if numbers else 3.3)
    axes = _axes(figure, 1, len(maps), sharey=True)[0]
    for axis, values, name in zip(axes, maps, names):
        cells = np.ma.masked_where(later & (values == 0), values)
        shown = axis.imshow(cells, vmin=0, vmax=top, cmap="cividis")
        axis.set_facecolor("#d8d8d8")
        axis.set_title(name, fontsize=9)
        axis.set_xticks(range(length), tokens, fontsize=8, rotation=0 if numbers else 90, parse_math=False)
        axis.set_yticks(range(length), tokens, fontsize=8, parse_math=False)
        axis.tick_params(length=0)
        for (row, column), value in np.ndenumerate(values if numbers else np.empty((0, 0))):
            dark = value < 0.5 and not np.ma.getmaskarray(cells)[row, column]
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if dark else "black")
    if not numbers:
        figure.colorbar(shown, ax=axes, shrink=0.7, extend="neither" if top == 1 else "max", label="share")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def token_counts(counts: dict[str, int], title: str = "") -> Figure:
    """A bar for each way to compute the same thing, with its number of tokens."""
    figure = new_figure(7.5, 0.45 * len(counts) + 0.8)
    axis = _axes(figure)[0, 0]
    axis.barh(list(counts), list(counts.values()), color=PALETTE[: len(counts)])
    axis.invert_yaxis()
    axis.set_xlim(0, 1.18 * max(counts.values()))
    axis.xaxis.set_visible(False)
    axis.spines["bottom"].set_visible(False)
    for i, count in enumerate(counts.values()):
        axis.text(count, i, f" {count:,}", va="center")
    axis.set_title(title)
    return figure


def accuracy_curves(steps: Sequence[int], runs: dict[str, Sequence[Sequence[float]]], title: str = "") -> Figure:
    """Accuracy (shares of 1) by step: a colour for each model, a line for each of its runs; the first model's are thick."""
    figure = new_figure(6.5, 3.2)
    axis = _axes(figure)[0, 0]
    for i, (name, lines) in enumerate(runs.items()):
        look = {"color": PALETTE[i], "linestyle": ["-", "--", "-"][i % 3], "linewidth": 1.5 if i else 7}
        axis.plot(steps, 100 * np.array(lines).T, label=[name, *[None] * (len(lines) - 1)], **look)
    axis.set(xlabel="step", ylabel="right answers, %", ylim=(0, 104), title=title)
    axis.legend(loc="lower right")
    return figure


def moved_cosines(
    captions: Sequence[str], before: Sequence[float], after: Sequence[float], names: tuple[str, str], title: str = ""
) -> Figure:
    """For each caption the cosine with a vector before (circle) and after (diamond) it moved, and a line between."""
    figure = new_figure(7.5, 0.34 * len(captions) + 1.5)
    axis = _axes(figure)[0, 0]
    rows = range(len(captions))
    axis.hlines(rows, before, after, color="#999999", linewidth=2, zorder=1)
    axis.scatter(before, rows, s=70, facecolor="white", edgecolor=PALETTE[0], linewidth=2, label=names[0])
    axis.scatter(after, rows, s=40, color=PALETTE[5], marker="D", label=names[1])
    axis.set_yticks(rows, [wrap(caption, 46) for caption in captions], fontsize=9, parse_math=False)
    axis.set(xlim=(-1.05, 1.05), ylim=(len(captions) - 0.5, -0.5), xlabel="cosine similarity")
    axis.set_title(title, parse_math=False)  # a reader may type a $
    axis.grid(axis="x", color="#e5e5e5")
    axis.set_axisbelow(True)
    for text in figure.legend(loc="outside lower left", ncols=2, fontsize=9).get_texts():
        text.set_parse_math(False)
    return figure


def patch_grid(image: np.ndarray | Tensor, patch_size: int, title: str = "") -> Figure:
    """A (3, S, S) uint8 image, and beside it its patches, cut apart and numbered in the order of the sequence."""
    pixels, gap = np.asarray(image).transpose(1, 2, 0), max(1, patch_size // 8)
    side, step = len(pixels) // patch_size, patch_size + gap
    cut = np.full((side * step - gap, side * step - gap, 3), 255, dtype=np.uint8)
    figure = new_figure(8, 4.2)
    left, right = _axes(figure, 1, 2)[0]
    for i in range(side * side):
        row, column = divmod(i, side)
        y, x = row * patch_size, column * patch_size
        cut[row * step :, column * step :][:patch_size, :patch_size] = pixels[y : y + patch_size, x : x + patch_size]
        label = {"boxstyle": "square,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
        right.text(column * step + 1, row * step + 1, i, fontsize=6, ha="left", va="top", bbox=label)
    show_image(left, pixels.transpose(2, 0, 1))
    show_image(right, cut.transpose(2, 0, 1))
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def heat_maps(
    maps: Sequence[np.ndarray | Tensor],
    names: Sequence[str],
    title: str = "",
    limits: tuple[float, float] = (0.0, 1.0),
    marks: Sequence[tuple[int, int]] = (),
    columns: int = 4,
    colours: str = "cividis",
) -> Figure:
    """Maps (h, w) in rows, on one scale from `limits`; `marks[i]`, a row and a column of map i, gets a cross."""
    rows, columns = math.ceil(len(maps) / columns), min(columns, len(maps))
    figure = new_figure(1.9 * columns + 0.9, 2.1 * rows + 0.4)
    axes = _axes(figure, rows, columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, (axis, values, name) in enumerate(zip(axes.flat, maps, names)):
        shown = axis.imshow(np.asarray(values), vmin=limits[0], vmax=limits[1], cmap=colours, interpolation="nearest")
        axis.set_title(name, fontsize=9, loc="left")
        if marks:
            axis.plot(*reversed(marks[i]), marker="x", color="black", markersize=7, markeredgewidth=2)
    figure.colorbar(shown, ax=axes, shrink=0.7)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def looked_at(images: np.ndarray, maps: Tensor | np.ndarray, names: Sequence[str], title: str = "") -> Figure:
    """Images (n, 3, S, S) uint8, and below each one its map (G, G) of attention, on a scale of its own.

    A single image has its map beside it, in percent.
    """
    n, maps = len(images), 100 * np.asarray(maps)
    figure = new_figure(*((5.2, 2.8) if n == 1 else (1.75 * n, 4.1)))
    axes = _axes(figure, *((1, 2) if n == 1 else (2, n)))
    for image, values, name, (above, below) in zip(images, maps, names, axes.reshape(2, n).T):
        show_image(above, image)
        above.set_title(name, fontsize=9, loc="left")
        shown = below.imshow(values, vmin=0, cmap="cividis")
        below.set_axis_off()
    if n == 1:
        figure.colorbar(shown, ax=axes[-1], shrink=0.9, label="% of the attention")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def lines(
    x: Sequence[float], ys: dict[str, Sequence[float]], title: str = "", log: bool = False, **labels: str
) -> Figure:
    """A line for each of `ys` over `x` (`log`: by powers of two), drawn in different ways; `xlabel` and `ylabel` name the axes."""
    figure = new_figure(6, 3)
    axis = _axes(figure)[0, 0]
    for i, (name, values) in enumerate(ys.items()):
        axis.plot(x, values, label=name, linestyle=["-", "--", ":"][i % 3], linewidth=2, marker="o" if log else None)
    if log:
        axis.set_xscale("log", base=2)
        axis.set_xticks(x, [str(value) for value in x])
        axis.minorticks_off()
    axis.legend()
    axis.set(title=title, **labels)
    return figure
