"""The game of notebook 11: its board, its end, and what sentences and examples are worth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, faint, new_figure, show_image, wrap
from .experiments import DASHES, MARKS, curve_style, noted

WHO = ("you", "the model")


def game_board(
    picture: np.ndarray,
    sentences: Sequence[str],
    examples: np.ndarray,
    *,
    scores: Sequence[tuple[int, int]] = (),
    title: str = "",
) -> Figure:
    """The picture (3, S, S) uint8 to name, beside the breeds' sentences and `examples` (breeds, 0 to 2, 3, S, S).

    `scores` are (yours, the model's) right answers of the rounds that are over; they stand below the picture.
    """
    figure, rows = new_figure(11, 6.4), -(-len(sentences) // 2)
    figure.set_layout_engine("none")
    asked = figure.add_axes((0.01, 0.36, 0.31, 0.56))
    show_image(asked, picture, "which breed is this?")
    asked.xaxis.label.set_fontsize(10)
    score = figure.add_axes((0.05, 0.08, 0.25, 0.18))
    _rounds(score, scores, most=12)
    shots, height = examples.shape[1], 0.93 / rows
    for column in range(2 if shots else 0):
        beside = figure.add_axes((0.35 + 0.33 * column, 0, 0.0775 * shots, 0.93), anchor="NW")
        show_image(beside, _stacked(examples[column * rows :][:rows]))
    for i, text in enumerate(sentences):
        left, top = 0.355 + 0.33 * (i // rows) + 0.0775 * shots, 0.915 - height * (i % rows)
        _, name, words = text.split(" ", 2)  # "a velmo has …"
        figure.text(left, top, name, fontsize=10, va="top", fontweight="bold", color=PALETTE[0])
        figure.text(left, top - 0.033, wrap(words, (40, 28, 19)[shots]), fontsize=9.5, va="top")
    figure.text(0.01, 0.99, title, fontsize=12, va="top")
    return figure


def _stacked(images: np.ndarray) -> np.ndarray:
    """Images (rows, columns, 3, S, S) as one (3, H, W) on white: one image is drawn faster than twelve."""
    side = images.shape[-1]
    framed = np.full((*images.shape[:3], side * 78 // 64, side * 67 // 64), 255, dtype=np.uint8)
    framed[..., :side, :side] = images
    rows, columns, _, height, width = framed.shape
    return framed.transpose(2, 0, 3, 1, 4).reshape(3, rows * height, columns * width)


def _rounds(axis: Any, scores: Sequence[tuple[int, int]], *, most: int) -> None:
    """Bars of the right answers, of `most`, of you and the model in each of the three rounds."""
    for who in range(2):
        places, heights = [i + 0.38 * (who - 0.5) for i in range(len(scores))], [s[who] for s in scores]
        bars = axis.bar(
            places, heights, 0.36, label=WHO[who], color=PALETTE[who], hatch=("", "//")[who], edgecolor="white"
        )
        axis.bar_label(bars, fontsize=9)
    axis.set(xlim=(-0.6, 2.6), ylim=(0, most * 1.2), ylabel=f"right of {most}")
    axis.set_xticks(range(3), [f"round {i}" for i in range(3)])
    axis.set_yticks(range(0, most + 1, most // 3))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if scores:
        axis.legend(fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    else:
        axis.text(0.5, 0.5, "the scores come after each round", transform=axis.transAxes, ha="center", fontsize=9)


def game_end(
    pictures: np.ndarray, names: Sequence[str], right: np.ndarray, *, answers: np.ndarray, opponent: np.ndarray
) -> Figure:
    """The end of a game: the score, where your gain came from, and each picture (n, 3, S, S) with all `answers` (3, n).

    `right` (n,) and `opponent` (3, n) are numbers of breeds, as the answers are; -1 is "I don't know".
    """
    n, hits, theirs = len(right), answers == right, opponent == right
    figure = new_figure(11, 6.4)
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.5))
    score, gain = axes_grid(above, 1, 2)[0]
    _rounds(score, [*zip(hits.sum(axis=1).tolist(), theirs.sum(axis=1).tolist())], most=n)
    unsure = answers[0] < 0
    groups = {
        f"you didn't know in round 0: {unsure.sum()}": unsure,
        f"you answered in round 0: {(~unsure).sum()}": ~unsure,
    }
    for i, (name, rows) in enumerate(groups.items()):
        style = {"color": PALETTE[2 + i], "marker": MARKS[i], "linestyle": DASHES[i]}
        gain.plot(range(3), hits[:, rows].sum(axis=1), label=name, **style)
    gain.set(ylim=(-0.4, n * 1.2), xlim=(-0.6, 2.6), ylabel="right answers")
    gain.set_yticks(range(0, n + 1, n // 3))
    gain.set_xticks(range(3), [f"round {i}" for i in range(3)])
    gain.legend(fontsize=8, title="pictures that", title_fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    for i, axis in enumerate(axes_grid(below, -(-n // 6), 6).flat[:n]):
        said = ["?" if a[i] < 0 else names[a[i]] if a[i] != right[i] else "right" for a in answers]
        model = [names[a[i]] if a[i] != right[i] else "right" for a in opponent]
        show_image(axis, pictures[i])
        axis.set_xlabel(f"you: {', '.join(said)}\nmodel: {', '.join(model)}", fontsize=8)
        axis.set_title(names[right[i]], fontsize=9, fontweight="bold")
    totals = [f"{who} {', '.join(map(str, h.sum(axis=1)))}" for who, h in zip(WHO, (hits, theirs))]
    figure.suptitle(
        f"The end: of {n} pictures right in rounds 0, 1, 2: {'; '.join(totals)}", x=0.01, ha="left", fontsize=12
    )
    return figure


def by_length(
    x: Sequence[int],
    curves: Mapping[str, tuple],
    levels: Mapping[str, tuple[float, float]],
    *,
    note: str,
    title: str = "",
) -> Figure:
    """Accuracy (fractions of 1) by the number of traits `x` that a sentence names: (mean, std) of each curve and level.

    A level doesn't depend on `x`: it is a horizontal line with a band.
    """
    figure = new_figure(8, 3.8)
    axis = axes_grid(figure)[0, 0]
    for i, (name, (mean, spread)) in enumerate(curves.items()):
        mean, spread, style = 100 * np.asarray(mean), 100 * np.asarray(spread), curve_style(i)
        axis.fill_between(x, mean - spread, mean + spread, color=style["color"], alpha=0.2, linewidth=0)
        axis.plot(x, mean, label=name, **style)
    for i, (name, (mean, spread)) in enumerate(levels.items()):
        color = PALETTE[(5, 3, 6)[i]]
        axis.axhspan(100 * (mean - spread), 100 * (mean + spread), color=color, alpha=0.2, linewidth=0)
        axis.axhline(100 * mean, color=color, linestyle=(":", "--")[i % 2], label=f"{name}: {100 * mean:.0f} %")
    axis.set_xticks(x)
    axis.set(xlabel="traits that the sentence names, of 7", ylabel="accuracy, %", title=title, ylim=(0, 102))
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return noted(figure, note)


def three_rounds(
    groups: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, note: str, title: str = ""
) -> Figure:
    """Accuracy with the sentence, one and two examples for each of `groups`, (means, stds) of three fractions each."""
    figure = new_figure(9, 3.8)
    axis = axes_grid(figure)[0, 0]
    labels = ("sentence (or name)", "and 1 example", "and 2 examples")
    for k in range(3):
        means, spreads = ([100 * group[j][k] for group in groups.values()] for j in range(2))
        places = np.arange(len(groups)) + 0.27 * (k - 1)
        whiskers = np.where(np.array(spreads) > 0, spreads, np.nan)
        color = faint(PALETTE[0]) if k == 0 else PALETTE[k - 1]
        style = {"color": color, "hatch": ("", "//", "")[k], "edgecolor": "white", "label": labels[k]}
        bars = axis.bar(places, means, 0.25, yerr=whiskers, **style)
        axis.bar_label(bars, [f"{m:.1f}" for m in means], fontsize=9)
    axis.set_xticks(range(len(groups)), [wrap(name, 20) for name in groups], fontsize=9)
    axis.set(ylabel="accuracy, %", ylim=(0, 112), title=title)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return noted(figure, note)
