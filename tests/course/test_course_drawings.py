"""Notebook 14 on technical drawings: the pages, NT-Xent against trusted values, checks, plots, the widget."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from course_answers import exercises, experiment_cells

from minclip import MinclipError, clip_loss
from minclip.course import checks, drawings, plots, widgets


@pytest.fixture(scope="module")
def notebook():
    return experiment_cells("14_search_by_image")


# ---- NT-Xent: the loss of the notebook equals a trusted implementation, in values and gradients

A = [[1.0, 2.0, -1.0], [0.5, -1.0, 3.0], [2.0, 2.0, 1.0], [-1.0, 0.0, 2.0]]
B = [[1.5, 2.0, 0.0], [0.0, -1.0, 2.0], [2.0, 1.0, -1.0], [-2.0, 1.0, 1.0]]
# SelfSupervisedLoss(NTXentLoss(temperature=0.5))(A, B) of pytorch-metric-learning 2.9.0, in float64: it normalizes
VALUE = 1.1114532396265067
GRADIENT_A = [
    [0.009840044670905407, -0.012819255093564304, -0.01579846551622324],
    [-0.008362905562580247, 0.048776558585837834, 0.01765267045570932],
    [-0.060886250856545206, 0.023112714003544282, 0.07554707370600186],
    [0.1420085294250409, -0.09038994728711458, 0.07100426471252044],
]
GRADIENT_B = [
    [0.03703979477995007, -0.027779846084962548, 0.07644832545495012],
    [-0.055167002540304245, 0.03824799196033871, 0.019123995980169353],
    [-0.03560841185060667, 0.00047013280910022806, -0.07074669089211312],
    [0.006727771324640142, 0.05040922560938794, -0.036953682960107585],
]


def by_formula(a, b, temperature):  # formula (1) of Chen et al. 2020, pair by pair
    z, n = [*a, *b], len(a)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(2 * n):
        others = torch.stack([z[i] @ z[k] / temperature for k in range(2 * n) if k != i])
        total = total - z[i] @ z[(i + n) % (2 * n)] / temperature + others.exp().sum().log()
    return total / (2 * n)


def value_and_gradients(loss, a, b):
    a, b = (torch.as_tensor(x, dtype=torch.float64).clone().requires_grad_() for x in (a, b))
    value = loss(F.normalize(a, dim=-1), F.normalize(b, dim=-1))
    return [value.detach(), *torch.autograd.grad(value, (a, b))]


def test_nt_xent_has_the_value_and_the_gradients_of_pytorch_metric_learning(notebook):
    found = value_and_gradients(lambda a, b: notebook.nt_xent(a, b, 0.5), A, B)
    for mine, theirs in zip(found, (VALUE, GRADIENT_A, GRADIENT_B)):
        torch.testing.assert_close(mine, torch.tensor(theirs, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_nt_xent_is_the_papers_formula(notebook, temperature):
    a, b = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    mine = value_and_gradients(lambda x, y: notebook.nt_xent(x, y, temperature), a, b)
    theirs = value_and_gradients(lambda x, y: by_formula(x, y, temperature), a, b)
    for x, y in zip(mine, theirs):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-10)


def test_nt_xent_with_negatives_of_the_other_view_only_is_clips_loss():
    a, b = F.normalize(torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(2)), dim=-1)
    z, within = torch.cat([a, b]), torch.block_diag(torch.ones(5, 5), torch.ones(5, 5)).bool()
    logits = (z @ z.T / 0.2).masked_fill(within, -torch.inf)
    across = F.cross_entropy(logits, torch.arange(10).roll(5))
    torch.testing.assert_close(across, clip_loss(a, b, 5.0))


# ---- the pages


@pytest.fixture(scope="module")
def few():
    return drawings.pages("test", 8, others=24)


def test_each_part_is_drawn_once_by_each_company(few):
    assert few.images.shape == (88, 3, 64, 64) and few.images.dtype == np.uint8
    assert few.part.tolist() == [i // 8 for i in range(64)] + [-1] * 24
    assert few.company[:64].reshape(8, 8).tolist() == [[*range(8)]] * 8
    assert sorted(few.kind[:64:8].tolist()) == [*range(8)] and few.kind[64:].tolist() == [-1] * 8 + [-2] * 8 + [-3] * 8


def test_a_seed_gives_the_same_pages_and_another_seed_others(few):
    assert (drawings.pages("test", 8, others=24).images == few.images).all()
    assert (drawings.pages("test", 8, others=24, seed=1).images != few.images).mean() > 0.3


def test_no_part_and_no_caption_is_in_two_splits():
    said = {}
    for split in drawings.SPLITS:
        found = drawings.parts(split, 200)
        assert len({tuple(part) for part in found.tolist()}) == 200
        said[split] = {drawings.sentence(part) for part in found}
    assert not said["train"] & said["test"] and not said["val"] & said["test"] and not said["train"] & said["val"]
    with pytest.raises(MinclipError, match="split must be one of"):
        drawings.parts("tests", 3)
    with pytest.raises(MinclipError, match="asked for 2000"):
        drawings.parts("train", 2000)


def test_the_corner_holds_the_title_block_and_nothing_else_tells_the_company(few):
    empty = few.images[few.kind == -3].astype(int)
    covered = drawings.masked(empty).astype(int)
    inner = (slice(None), slice(None), slice(6, 58), slice(6, 58))
    assert covered[inner].min() > 220  # no ink is left
    assert (empty[inner] < 120).sum() > 500
    assert (drawings.masked(few.images)[..., :46, :] == few.images[..., :46, :]).all()


def test_captions_say_the_part_and_if_asked_the_company(few):
    traits = [2, 4, 1, 1, 0]
    assert drawings.sentence(traits) == "a gear with six holes and a small bore, hatched"
    assert drawings.sentence(traits, wording=1, company="Arvo") == (
        "drawing of a gear with six holes and a small bore, hatched, Arvo"
    )
    assert drawings.sentence([0, 0, 0, 0, 2], wording=2) == "technical drawing: a plate"
    assert drawings.sentence("table", company="Falun") == "a page with a table from Falun"
    for caption, company in zip(few.captions(0, company=True), few.company):
        assert drawings.COMPANIES[company] in caption
    assert not any(name in " ".join(few.captions(0)) for name in drawings.COMPANIES)


# ---- what is measured


def test_a_feature_of_the_part_is_right_in_all_five_and_one_of_the_company_in_none(notebook):
    pages = drawings.pages("test", 16)
    part, company = (torch.from_numpy(x) for x in (pages.part, pages.company))
    perfect = notebook.measured(F.one_hot(part).float(), pages)
    assert perfect["part"] == 1 and perfect["kind"] == 1 and perfect["company"] == 0
    assert notebook.measured(F.one_hot(company).float(), pages)["company"] == 1
    assert notebook.one_company(F.one_hot(part).float(), pages) == 1


def test_painting_over_the_block_moves_only_features_of_the_block(notebook):
    pages = drawings.pages("test", 8)
    corner = notebook.moved(lambda images: torch.from_numpy(images[:, 0, 46:, 33:]).flatten(1), pages)
    assert corner["block"] > 0.5 and corner["part"] < 1e-5


# ---- exercises


def precision_at_k(found, asked, k):
    return (found[:, :k] == asked[:, None]).float().mean()


def recall_at_k(found, asked, k):
    right = found == asked[:, None]
    return (right[:, :k].sum(dim=1) / right.sum(dim=1).clamp(min=1)).mean()


def nt_xent(a, b, temperature, diagonal=-torch.inf):
    z = torch.cat([a, b])
    logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), diagonal)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(a)))


def first_rows_only(a, b, temperature):
    z = torch.cat([a, b])
    logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits[: len(a)], torch.arange(len(a)) + len(a))


SOLUTIONS = [(checks.precision_at_k, precision_at_k), (checks.nt_xent, nt_xent), (checks.nt_xent, by_formula)]
WRONG = [
    (checks.precision_at_k, lambda f, a, k: (f == a[:, None]).float().mean(), "all n columns"),
    (checks.precision_at_k, lambda f, a, k: (f[:, :k] == a[:, None]).any(dim=1).float().mean(), "recall"),
    (checks.precision_at_k, lambda f, a, k: (f[:, :k] == a[:, None]).float().sum(), "the number of right labels"),
    (checks.precision_at_k, lambda f, a, k: (f[:, :k] == a[:, None]).float().mean(dim=1), "return their mean"),
    (checks.precision_at_k, lambda f, a, k: (f[:, :k] == a[:, None]).float().sum() / len(a), "divide by k, too"),
    (checks.precision_at_k, recall_at_k, "right pages in the list"),
    (checks.precision_at_k, lambda f, a, k: (f[:, k] == a).float().mean(), "column k alone"),
    (checks.precision_at_k, lambda f, a, k: 0.5, "should be a tensor"),
    (checks.nt_xent, lambda a, b, t: nt_xent(a, b, t, diagonal=1 / t), "the diagonal takes part"),
    (checks.nt_xent, lambda a, b, t: clip_loss(a, b, 1 / t), "CLIP's loss"),
    (checks.nt_xent, lambda a, b, t: nt_xent(a, b, t, diagonal=0.0), "e\\^0 = 1"),
    (checks.nt_xent, lambda a, b, t: nt_xent(a, b, 1 / t), "divide by it"),
    (checks.nt_xent, lambda a, b, t: nt_xent(a, b, 1.0), "no effect"),
    (checks.nt_xent, lambda a, b, t: nt_xent(a, b, t) * 2 * len(a), "return the mean"),
    (checks.nt_xent, first_rows_only, "only N of the 2N"),
]

TestExercises = exercises(SOLUTIONS, WRONG)


# ---- pictures and the widget


def test_the_frames_say_what_a_found_page_shares(few):
    figure = plots.found_pages(few, [0], [[1, 8, 70]], title="")
    frames = [axis.patches[0].get_linestyle() for axis in figure.axes[1:]]
    assert frames == ["-", "--", ":"]  # page 1: the same part; page 8: the same company; page 70: neither
    assert [axis.get_xlabel() for axis in figure.axes] == ["query: Arvo", "Belka", "Arvo", "Gresk"]


def test_the_quarters_of_the_losses_are_drawn_where_they_are():
    axis = plots.two_losses(torch.arange(16.0).reshape(4, 4)).axes[0]
    hatched = [(p.get_y() + 0.5, p.get_x() + 0.5) for p in axis.patches if p.get_hatch()]
    assert hatched == [(0, 1), (1, 0), (2, 3), (3, 2)]


def test_dots_show_means_in_percent_beside_chance():
    ways = {"as drawn": {"pixels": (0.25, 0.01), "SimCLR": (0.5, 0.0)}}
    axis = plots.kept_dots({"part": ways}, chance={"part": 0.1}, title="", note="live").axes[0]
    assert [text.get_text() for text in axis.texts] == ["25.0", "50.0"]
    assert axis.lines[-1].get_xdata()[0] == pytest.approx(10)


def test_bars_show_how_far_features_move():
    axis = plots.block_or_part({"a": {"block": (0.5, 0.0), "part": (0.25, 0.1)}}, title="", note="live").axes[0]
    assert [text.get_text() for text in axis.texts] == ["0.50", "0.25"]


def test_an_occlusion_map_names_its_largest_drop(few):
    drops = np.array([[0.0, 0.1], [0.25, 0.0]])
    figure = plots.occlusion_maps(few, 0, {"pixels": (8, drops), "half": (8, drops / 2)})
    *maps, bar = figure.axes
    names = ["query: Arvo", "nearest: Arvo", "largest drop 0.25", "nearest: Arvo", "largest drop 0.12"]
    assert [axis.get_xlabel() for axis in maps] == names
    assert [maps[i].images[-1].get_clim() for i in (2, 4)] == [(0, 0.25)] * 2 and bar.get_ylim() == (0, 0.25)


def test_the_widget_counts_what_the_neighbors_share(few):
    part, company = (torch.from_numpy(x) for x in (few.part, few.company))
    features = {"part": F.one_hot(part + 1).float(), "company": F.one_hot(company).float()}
    title = widgets.drawing_search_figure(few, features, query=3, keeps="part").get_suptitle()
    assert title == "part: of 5 neighbors, 5 show the same part, 0 share the company"
    assert (
        "5 share the company" in widgets.drawing_search_figure(few, features, query=3, keeps="company").get_suptitle()
    )
    box = widgets.drawing_search(few, features)
    query, keeps, picture = box.children
    for control, value in ((query, 9), (keeps, "company")):
        before = picture.value
        control.value = value
        assert picture.value != before
