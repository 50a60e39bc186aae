"""The linear probe equals scikit-learn's, its C is chosen as in the paper, and few-shot draws what it says."""

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_files import folders
from hypothesis import given, settings
from hypothesis import strategies as st

import minclip
from minclip.cli import main
from minclip.config import MinclipError
from minclip.course import plots
from minclip.data import load_pairs
from minclip.evaluate.metrics import accuracy, mean_per_class
from minclip.evaluate.probe import choose_c, crossing, few_shot, fit, linear_probe, predict
from minclip.evaluate.tasks import probe_sets, run_tasks

DEMO = Path(__file__).parents[2] / "data" / "demo"


def clouds(classes, n=200, width=6, seed=0, spread=1.0):
    """n features in one cloud a class, and their labels; every class occurs."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    y = np.r_[np.arange(classes), rng.integers(0, classes, n - classes)]
    return torch.from_numpy(centres[y] + spread * rng.normal(size=(n, width))), torch.from_numpy(y)


# ---- one fit


def objective(x, y, w, c):
    """scikit-learn's, written out: C × the sum of log losses + ½‖W‖²."""
    scores = (x @ w[:-1] + w[-1]).numpy()
    scores = np.c_[np.zeros(len(x)), scores] if scores.shape[1] == 1 else scores
    losses = np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1)) + scores.max(1) - scores[range(len(y)), y]
    return c * losses.sum() + 0.5 * float((w[:-1] ** 2).sum())


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 6), st.integers(1, 12), st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 30.0]), st.integers(0, 1000))
def test_a_fit_equals_scikit_learns(classes, width, c, seed):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = clouds(classes, 60 + 20 * classes, width, seed)
    ours = fit(x, y, c)
    peer = linear_model.LogisticRegression(C=c, max_iter=10_000, tol=1e-9).fit(x.numpy(), y.numpy())
    theirs = torch.from_numpy(np.r_[peer.coef_.T, peer.intercept_[None]])
    assert ours.shape == theirs.shape
    assert objective(x, y, ours, c) == pytest.approx(objective(x, y, theirs, c), rel=1e-5)
    new_x, new_y = clouds(classes, 2000, width, seed + 1)
    assert accuracy(predict(new_x, ours), new_y) == pytest.approx(peer.score(new_x.numpy(), new_y.numpy()), abs=0.001)
    if c <= 1:  # above, the minimum is flat
        np.testing.assert_allclose(ours[:-1], theirs[:-1], atol=2e-3 * float(theirs.abs().max()))
        np.testing.assert_allclose(ours[-1] - ours[-1].mean(), theirs[-1] - theirs[-1].mean(), atol=2e-3)


def test_intercepts_are_not_penalised():
    x, y = clouds(3)
    far = fit(x + 10, y, 1.0)  # what the shift does is an intercept's affair
    np.testing.assert_allclose(far[:-1], fit(x, y, 1.0)[:-1], atol=2e-3)


def test_a_smaller_c_means_smaller_weights():
    x, y = clouds(4)
    norms = [float(fit(x, y, c)[:-1].norm()) for c in (1e-6, 1e-3, 1.0, 1e3)]
    assert norms == sorted(norms) and norms[0] < 1e-3


def test_a_fit_may_begin_anywhere():
    x, y = clouds(4)
    near = fit(x, y, 0.1, start=fit(x, y, 10.0))
    np.testing.assert_allclose(near[:-1], fit(x, y, 0.1)[:-1], atol=1e-3)


@pytest.mark.parametrize("c", [0.0, -1.0, float("nan"), float("inf")])
def test_c_must_be_a_positive_number(c):
    with pytest.raises(MinclipError, match=f"c must be .* {c}$"):
        linear_probe(clouds(2), clouds(2), c=c)


# ---- the choice of C


def grid():
    return [10 ** (i / 8 - 6) for i in range(97)]


def test_the_search_finds_the_peak_of_the_whole_grid(monkeypatch):
    """Each peak of a hill over the 97 values is found with seven values and two a halving."""
    x, y = clouds(2, 20)
    for peak in (0, 1, 7, 40, 53, 95, 96):
        tried = []
        monkeypatch.setattr(
            "minclip.evaluate.probe.fit", lambda x, y, c, *, start, t=tried: t.append(c) or torch.tensor(c)
        )
        monkeypatch.setattr("minclip.evaluate.probe.predict", lambda x, w: w)
        c, results = choose_c(x, y, (x, y), metric=lambda w, y, p=peak: -abs(np.log10(float(w)) - np.log10(grid()[p])))
        assert c == pytest.approx(grid()[peak])
        assert len(tried) == len(results) <= 15
        assert tried[:7] == pytest.approx([1e-6, 1e-4, 1e-2, 1, 1e2, 1e4, 1e6])


def test_of_equals_the_strongest_regularisation_is_chosen(monkeypatch):
    x, y = clouds(2, 20)
    monkeypatch.setattr("minclip.evaluate.probe.fit", lambda x, y, c, *, start: torch.tensor(c))
    monkeypatch.setattr("minclip.evaluate.probe.predict", lambda x, w: w)
    c, _ = choose_c(x, y, (x, y), metric=lambda w, y: float(w > 3e-3))  # one step is 1.33 times the last
    assert 3e-3 < c < 4.01e-3


def test_the_search_is_scikit_learns_on_the_same_values():
    linear_model = pytest.importorskip("sklearn.linear_model")
    (x, y), (val_x, val_y) = clouds(3, 60, 10, 0, 2.0), clouds(3, 1000, 10, 1, 2.0)
    _, results = choose_c(x, y, (val_x, val_y))
    assert len(results) == 15
    for c, found in results.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = linear_model.LogisticRegression(C=c, max_iter=10_000, tol=1e-8).fit(x.numpy(), y.numpy())
        assert found == pytest.approx(peer.score(val_x.numpy(), val_y.numpy()), abs=0.0011)


# ---- the probe


def test_c_is_chosen_on_validation_and_never_on_test_images():
    train, val = clouds(3, 90, spread=2.0), clouds(3, 200, seed=1, spread=2.0)
    results = [linear_probe(train, clouds(3, 200, seed=seed, spread=2.0), val=val) for seed in (2, 3)]
    assert results[0]["c"] == results[1]["c"] and results[0]["validated"] == results[1]["validated"]
    assert results[0]["accuracy"] != results[1]["accuracy"]
    assert max(results[0]["validated"].values()) == results[0]["validated"][results[0]["c"]]


def test_the_validation_images_are_learned_from_in_the_end():
    (x, y), (val_x, val_y), (test_x, test_y) = clouds(3, 60), clouds(3, 50, seed=1), clouds(3, 99, seed=2)
    result = linear_probe((x, y), (test_x, test_y), val=(val_x, val_y))
    both = fit(torch.cat([x, val_x]), torch.cat([y, val_y]), result["c"])
    torch.testing.assert_close(result["scores"], predict(test_x, both))
    assert result["accuracy"] == accuracy(result["scores"], test_y)


def test_without_validation_images_a_fifth_of_each_class_is_held_out():
    train, test = clouds(3, 200), clouds(3, 100, seed=2)
    result = linear_probe(train, test)
    assert len(result["validated"]) == 15 and result["accuracy"] > 0.6
    assert linear_probe(train, test, c=result["c"])["accuracy"] == pytest.approx(result["accuracy"], abs=0.05)
    few = linear_probe(clouds(10, 20), clouds(10, 100, seed=2))  # no class has five
    assert few["c"] == 1 and few["validated"] == {} and few["accuracy"] > 0.3


def test_labels_may_have_gaps_and_be_arrays():
    (x, y), (test_x, test_y) = clouds(3), clouds(3, seed=1)
    names = torch.tensor([2, 5, 40])
    plain = linear_probe((x, y), (test_x, test_y), c=1.0)
    gaps = linear_probe((x.numpy(), names[y].numpy()), (test_x.numpy(), names[test_y].numpy()), c=1.0)
    assert gaps["accuracy"] == plain["accuracy"] and torch.equal(gaps["scores"], plain["scores"])


def test_another_metric_is_used_for_the_choice_and_for_the_report():
    train, val, test = clouds(4, 100), clouds(4, 100, seed=1), clouds(4, 100, seed=2)
    result = linear_probe(train, test, val=val, metric=mean_per_class)
    assert result["accuracy"] == mean_per_class(result["scores"], test[1])


# what is given instead, and the facts in the message
MISTAKES = [
    (lambda x, y: {"train": (x, y[:-1])}, r"training.*\(40, 6\).*\(39,\)"),
    (lambda x, y: {"test": (x, torch.stack([y, y], 1))}, r"test.*\(40, 6\).*\(40, 2\)"),
    (lambda x, y: {"test": (x[:0], y[:0])}, r"test.*\(0, 6\)"),
    (lambda x, y: {"test": (x, y.double())}, "test.*float64"),
    (lambda x, y: {"test": (x[:, :3], y)}, "6 numbers, test features 3"),
    (lambda x, y: {"train": (x, 0 * y + 3)}, "40 training images have label 3"),
    (lambda x, y: {"train": (x / (torch.arange(40) > 7)[:, None], y)}, "8 of 40 training.* 0$"),
    (lambda x, y: {"val": (x, None)}, "validation"),
    (lambda x, y: {"test": (x, y + (y == 1))}, "'pear' has 2. test images"),
]


@pytest.mark.parametrize(("change", "facts"), MISTAKES, ids=[m[:30] for _, m in MISTAKES])
@pytest.mark.parametrize("function", [linear_probe, few_shot])
def test_a_mistake_is_told(function, change, facts):
    x, y = clouds(2, 40)
    given_ = {"train": (x, y), "test": (x, y), "class_names": ("apple", "plum", "pear")}
    with pytest.raises(MinclipError, match=facts):
        function(**{**given_, **change(x, y)})


# ---- few-shot


def test_k_images_of_each_class_are_drawn_and_those_of_fewer_are_among_them(monkeypatch):
    import minclip.evaluate.probe as module

    seen, original = [], module.fit
    monkeypatch.setattr(module, "fit", lambda x, y, c: seen.append((x, y)) or original(x, y, c))
    x, y = clouds(3, 60)
    few_shot((x, y), (x, y), ks=(1, 4), repeats=3)
    ones, fours = seen[:3], seen[3:]
    for k, draws in ((1, ones), (4, fours)):
        for drawn_x, drawn_y in draws:
            assert drawn_y.bincount().tolist() == [k] * 3 and len(drawn_x.unique(dim=0)) == 3 * k
            for row, label in zip(drawn_x, drawn_y):  # with their own labels
                assert y[(x == row).all(dim=1)].tolist() == [label]
    for (one, _), (four, _) in zip(ones, fours):
        assert all((four == row).all(dim=1).any() for row in one)
    assert not torch.equal(fours[0][0], fours[1][0])


def test_few_shot_tells_mean_and_spread_of_its_repeats():
    train, test = clouds(4, 200), clouds(4, 300, seed=1)
    results = few_shot(train, test, ks=(1, 16), repeats=5)
    for of_k in results.values():
        assert len(of_k["accuracies"]) == 5 and of_k["c"] == 1.0
        assert of_k["mean"] == pytest.approx(np.mean(of_k["accuracies"]))
        assert of_k["std"] == pytest.approx(np.std(of_k["accuracies"], ddof=1))
    assert results[16]["mean"] > results[1]["mean"] + 0.1
    assert few_shot(train, test, ks=(1, 16), repeats=5) == results
    assert few_shot(train, test, ks=(1,), repeats=5, seed=1)[1]["accuracies"] != results[1]["accuracies"]
    assert few_shot(train, test, ks=(1,), repeats=1)[1]["std"] == 0


def test_few_shot_chooses_c_on_validation_images():
    train, val = clouds(3, 90, spread=2.0), clouds(3, 200, seed=1, spread=2.0)
    chosen = [few_shot(train, clouds(3, 50, seed=s), ks=(2,), repeats=2, val=val)[2]["c"] for s in (2, 3)]
    assert chosen[0] == chosen[1] != 1.0


def test_a_class_with_too_few_images_is_named():
    x, y = clouds(2, 40)
    keep = torch.cat([(y == 0).nonzero()[:, 0], (y == 1).nonzero()[:3, 0]])
    with pytest.raises(MinclipError, match="class 'plum' has 3 training images, too few for 4 shots"):
        few_shot((x[keep], y[keep]), (x, y), ks=(1, 4), class_names=("apple", "plum"))


@pytest.mark.parametrize(("ks", "repeats"), [((), 3), ((0, 1), 3), ((1,), 0)])
def test_nothing_to_draw_is_an_error(ks, repeats):
    with pytest.raises(MinclipError, match=rf"at least 1.*{re.escape(str(ks))} and {repeats}"):
        few_shot(clouds(2), clouds(2), ks=ks, repeats=repeats)


@pytest.mark.parametrize(
    ("zero_shot", "k"), [(0.5, 2.0), (0.4, 2**0.5), (0.65, 2**1.75), (0.3, 1.0), (0.2, 1.0), (0.71, None)]
)
def test_the_crossing_lies_on_a_line_over_log2_k(zero_shot, k):
    found = crossing({1: 0.3, 2: 0.5, 4: 0.7}, zero_shot)
    assert found == (k if k is None else pytest.approx(k))


def test_the_first_crossing_counts():
    assert crossing({4: 0.4, 1: 0.2, 2: 0.6}, 0.5) == pytest.approx(2**0.75)


# ---- the picture and the command


def test_the_picture_has_a_star_at_0_and_the_crossing():
    curve = {1: [0.2, 0.4], 4: [0.6, 0.7]}
    (axis,) = plots.few_shot_curve(curve, 0.5, "title", chance=0.125, crossing=2.5, probe=0.9).axes
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert lines["k labeled images per class"].get_ydata() == pytest.approx([30, 65])
    assert lines["k labeled images per class"].get_xdata() == pytest.approx([0, 2])
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0", "1", "4"]
    assert lines["zero-shot"].get_xdata() == [-1] and lines["zero-shot"].get_ydata() == [50]
    assert lines["crossing, k = 2.5"].get_xdata() == pytest.approx([np.log2(2.5)])
    assert len(plots.few_shot_curve({1: [0.2]}, 0.5).axes[0].get_lines()) == 3


@pytest.fixture(scope="module")
def small_world():
    """The shapes world with fewer scenes: the command paints 20,000."""
    pairs = {split: load_pairs("shapes", split, size=n) for split, n in (("train", 400), ("val", 120), ("test", 120))}
    return lambda name, split, image_size: pairs[split]


@pytest.fixture
def here(tmp_path, monkeypatch, small_world):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minclip.evaluate.tasks.load_pairs", small_world)
    shutil.copytree(DEMO, tmp_path / "runs" / "mine")
    return tmp_path


def test_the_command_compares_zero_shot_with_both_probes(here, capsys):
    assert main(["probe", "mine", "--task", "fill", "--shots", "8,1", "--repeats", "3", "--json"]) == 0
    *printed, last = capsys.readouterr().out.strip().splitlines()
    result, text = json.loads(last), "\n".join(printed)
    assert result["task"] == "fill" and result["chance"] == pytest.approx(1 / 3)
    assert result["zero_shot"] > 0.9 and result["probe"]["accuracy"] > 0.9
    assert list(result["few_shot"]) == ["1", "8"] and len(result["few_shot"]["8"]["accuracies"]) == 3
    assert result["crossing"] == crossing(
        {int(k): v["mean"] for k, v in result["few_shot"].items()}, result["zero_shot"]
    )
    assert all(word in text for word in ("chance", "zero-shot", "linear probe", "33.3%"))
    assert (here / "runs" / "mine" / "few-shot.png").stat().st_size > 5000


def test_the_command_asks_about_each_scenes_own_objects_too(here, capsys):
    assert main(["probe", "mine", "--task", "relation", "--shots", "1", "--repeats", "1", "--json"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out.strip().splitlines()[-1])["zero_shot"] < 1


WRONG = [
    (["--task", "shpae"], "no task is named 'shpae' (did you mean 'shape'?)"),
    (["--shots", "1,two"], "--shots '1,two'"),
    (["--shots", "0,1"], "--shots '0,1'"),
    (["--repeats", "0"], "--repeats 0"),
    (["--shots", "4000"], "too few for 4000 shots"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[m[:25] for _, m in WRONG])
def test_a_mistake_on_the_command_line_is_told(here, capsys, options, message):
    assert main(["probe", "mine", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_tokenizer_is_told(here, capsys):
    (here / "runs" / "mine" / "tokenizer.json").unlink()
    assert main(["probe", "mine"]) == 2
    assert "mine has no tokenizer.json" in capsys.readouterr().err


# ---- the paper's data sets


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val", "test")])
def test_a_data_set_of_the_paper_is_probed_by_name(here, capsys, splits):
    for i, split in enumerate(splits):
        folders(here / "sets" / "cifar10" / split, ["dog", "frog", "ship"], count=6, first=10 + i)
    command = ["probe", "mine", "--task", "cifar10", "--root", "sets", "--shots", "1,2", "--repeats", "2", "--json"]
    assert main(command) == 0
    *printed, last = capsys.readouterr().out.strip().splitlines()
    result = json.loads(last)
    validated = 18 if "val" in splits else 0
    assert re.findall(r"\b\d+\b", printed[0].partition("cifar10")[2]) == ["18", str(validated), "18"]
    assert result["metric"] == "accuracy" and result["chance"] == pytest.approx(1 / 3)
    # three greys are three lines of features: a probe tells them apart, whatever their names
    assert result["probe"]["accuracy"] == 1 and 0 <= result["zero_shot"] <= 1


def test_zero_shot_beside_a_probe_is_what_eval_says(here):
    model, preprocess, tokenizer = minclip.load("mine")
    for split in ("train", "test"):
        folders(here / "sets" / "flowers102" / split, ["rose", "lotus", "iris"], count=3)
    given = (model, preprocess, tokenizer)
    _, asked = probe_sets(given, "flowers102", root=here / "sets")
    evaluated = run_tasks(given, ["flowers102"], root=here / "sets")["flowers102"]
    assert asked == evaluated and asked.metric == "mean per class"


def test_too_few_images_are_told_before_any_is_embedded(here, monkeypatch):
    given = minclip.load("mine")
    for split in ("train", "test"):
        folders(here / "sets" / "cifar10" / split, ["dog", "frog"], count=3)
    monkeypatch.setattr("minclip.evaluate.tasks.tower_features", None)
    for name in ("cifar10", "shape"):
        with pytest.raises(MinclipError, match=r"class '\w+' has \d+ training images, too few for 500 shots"):
            probe_sets(given, name, root=here / "sets", shots=500)


@pytest.mark.parametrize(
    ("name", "train", "message"),
    [
        ("voc2007", ["dog", "cat"], "voc2007 has several labels per image"),
        ("dtd", ["banded", "dotted"], "class 'cat' has 1 test images and no training image"),
        ("mnist", [], "mnist was not found"),
    ],
)
def test_a_data_set_that_can_not_be_probed_is_told(here, capsys, name, train, message):
    folders(here / "sets" / name / "train", train)
    if train:
        folders(here / "sets" / name / "test", ["dog", "cat"])
    assert main(["probe", "mine", "--task", name, "--root", "sets", "--shots", "1"]) == 2
    assert message in capsys.readouterr().err
