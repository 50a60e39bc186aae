"""The first part of notebook 10: checks, plots and the widget of the search with a cap."""

import math

import numpy as np
import pytest
from course_answers import exercises

from minclip.course import checks, plots, widgets


def pmi(both, first, second, total):
    return np.log2(both * total / (first * second))


def capped_search(found, cap):
    return sorted({row for rows in found.values() for row in rows[:cap]})


SOLUTIONS = [
    (checks.pmi, pmi),
    (checks.pmi, lambda b, f, s, n: math.log2(b / n / (f / n) / (s / n))),
    (checks.capped_search, capped_search),
    (checks.capped_search, lambda found, cap: np.unique(np.concatenate([rows[:cap] for rows in found.values()]))),
]
WRONG = [
    (checks.pmi, lambda b, f, s, n: math.log(b * n / (f * s)), "natural logarithm"),
    (checks.pmi, lambda b, f, s, n: math.log10(b * n / (f * s)), "base 10"),
    (checks.pmi, lambda b, f, s, n: b * n / (f * s), "take its log2"),
    (checks.pmi, lambda b, f, s, n: math.log2(b / (f * s)), "these are counts"),
    (checks.pmi, lambda b, f, s, n: math.log2(b / n), "divide by the words' probabilities"),
    (checks.pmi, lambda b, f, s, n: math.log2(f * s / (b * n)), "is inverted"),
    (checks.pmi, lambda b, f, s, n: math.log2(b / f), "second . first"),
    (checks.pmi, lambda b, f, s, n: max(0.0, pmi(b, f, s, n)), "negative PMI"),
    (checks.pmi, lambda b, f, s, n: "5 bits", "one number"),
    (checks.capped_search, lambda found, cap: capped_search(found, 99), "there is no cap"),
    (checks.capped_search, lambda found, cap: [r for rows in found.values() for r in rows[:cap]], "list it once$"),
    (checks.capped_search, lambda found, cap: sorted(r for rows in found.values() for r in rows[:cap]), "are sorted"),
    (checks.capped_search, lambda found, cap: capped_search(found, 99)[:cap], "not the union"),
    (checks.capped_search, lambda found, cap: capped_search({q: r[-cap:] for q, r in found.items()}, cap), "last rows"),
    (checks.capped_search, lambda found, cap: list(dict.fromkeys(r for x in found.values() for r in x[:cap])), "order"),
    (checks.capped_search, lambda found, cap: {*capped_search(found, cap)}, "sorted list"),
    (checks.capped_search, lambda found, cap: capped_search(found, cap + 1), "one row too many"),
    (checks.capped_search, lambda found, cap: [rows.pop() and 0 for rows in found.values() if rows], "expected"),
]


TestExercises = exercises(SOLUTIONS, WRONG)


# ---- pictures


def test_a_data_set_is_as_long_as_its_size_and_the_chosen_one_has_another_color():
    axis = plots.data_sizes({"a": (1e5, "0.1 M"), "b": (4e8, "400 M")}, note="section", marked="b").axes[0]
    assert [bar.get_width() for bar in axis.patches] == [1e5, 4e8] and axis.get_xscale() == "log"
    assert [text.get_text() for text in axis.texts] == ["0.1 M", "400 M"]
    assert axis.patches[0].get_facecolor() != axis.patches[1].get_facecolor()


def test_pairs_of_words_at_the_threshold_are_kept():
    axis = plots.word_pairs([100, 200, 300], [4.0, 4.5, 5.0], {2: "orange fruit"}, threshold=4.5).axes[0]
    out, kept = (dots.get_offsets().data.tolist() for dots in axis.collections)
    assert out == [[100, 4.0]] and kept == [[200, 4.5], [300, 5.0]]
    assert [text.get_text() for text in axis.texts] == ["“orange fruit”"]


def test_ranks_count_from_0_and_kinds_without_a_pair_stay_on_the_axis():
    axis = plots.counts_by_rank({"web": [8, 4, 2, 0], "found": [2, 2, 2, 0]}).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "1", "3"]
    assert [line.get_ydata().tolist() for line in axis.lines] == [[8, 4, 2, 0.7], [2, 2, 2, 0.7]]


def test_bars_are_in_percent_with_their_spread():
    figure = plots.grouped_bars(["head", "tail"], {"no cap": ([0.8, 0.4], [0.05, 0.1])}, note="stored")
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.texts] == ["80", "40"]
    assert [bar.get_height() for bar in axis.patches] == pytest.approx([80, 40])
    (whiskers,) = (c[2][0].get_segments() for c in axis.containers if hasattr(c, "has_yerr"))
    assert [segment[:, 1].tolist() for segment in whiskers] == [pytest.approx([75, 85]), pytest.approx([30, 50])]
    assert figure.texts[0].get_text() == "stored"


# ---- the widget


def counts(cap, exponent):
    before = np.round(1000.0 * np.arange(1, 65) ** -exponent)
    return before, np.minimum(cap, before)


def test_the_shares_of_head_middle_and_tail_are_those_of_the_counts():
    figure = widgets.cap_figure(counts, cap=10, exponent=1.0)
    before, after = counts(10, 1.0)
    bars = figure.axes[1].patches
    for i, of in enumerate((before, after)):
        shares = [100 * part.sum() / of.sum() for part in (of[:8], of[8:32], of[32:])]
        assert [bar.get_width() for bar in bars[3 * i : 3 * i + 3]] == pytest.approx(shares)
    ratio = before[:8].mean() / before[32:].mean()
    assert f"{ratio:.1f} times" in figure.get_suptitle() and figure.get_suptitle().endswith("then 1.0")


def test_each_slider_redraws_the_picture():
    cap, exponent, picture = widgets.cap_playground(counts).children
    for control, value in ((cap, 20), (exponent, 0.5)):
        before = picture.value
        control.value = value
        assert picture.value != before


@pytest.mark.parametrize("exponent", [0, 1.6])
def test_the_ends_of_the_sliders_can_be_drawn(exponent):
    for cap in (10, 20_000):
        assert plots.png(widgets.cap_figure(counts, cap=cap, exponent=exponent))
