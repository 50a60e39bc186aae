"""minclip classify: labels, none of these with its reason, the picture, and a user's mistakes."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import minclip
from minclip.cli import main
from minclip.cli.images import wrong_pairs_cosine
from minclip.course import plots
from minclip.data import load_pairs, open_data

DEMO = Path(__file__).parents[2] / "data" / "demo"


@pytest.fixture(scope="module")
def validation():
    """The shapes world's first validation scenes, at 64 pixels."""
    return load_pairs("shapes", "val", size=120)


@pytest.fixture
def here(tmp_path, monkeypatch, validation):
    """A folder with a copy of the demo as a run, a blue star and noise; validation is small."""
    monkeypatch.chdir(tmp_path)

    def opened(data):
        return SimpleNamespace(load=lambda *_, **__: validation) if data.name == "shapes" else open_data(data)

    monkeypatch.setattr("minclip.cli.images.open_data", opened)
    shutil.copytree(DEMO, tmp_path / "runs" / "mine")
    shutil.copy(DEMO / "blue-star.png", tmp_path / "star.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save("noise.png")
    return tmp_path


def classify(capsys, *options):
    assert main(["classify", "mine", *options, "--json"]) == 0
    *printed, last = capsys.readouterr().out.strip().splitlines()
    return json.loads(last), " ".join("\n".join(printed).split())


def test_one_image_gets_its_label_and_another_is_none_of_these(here, capsys):
    result, printed = classify(capsys, "star.png", "noise.png", "--labels", "blue star, red star, blue circle")
    star, noise = result["results"]
    assert star["label"] == "blue star" and "why" not in star
    assert max(noise["probabilities"].values()) > 0.9, "softmax is not confidence"
    assert noise["label"] is None
    nearest = max(noise["cosines"], key=noise["cosines"].get)
    facts = (nearest, f"{noise['cosines'][nearest]:.2f}", f"{result['none_below']:.2f}")
    assert all(fact in noise["why"] for fact in facts) and f"noise.png: {noise['why']}" in printed
    assert "star.png: blue star" in printed and result["none_below_from"] in printed
    assert Image.open("classify.png").width > 400


LABELS = {
    "commas": ("red star , blue ring,", ["red star", "blue ring"]),
    "semicolons": ("red, big star; blue ring;", ["red, big star", "blue ring"]),
    "Chinese commas": ("狗，猫、鸟", ["狗", "猫", "鸟"]),
    "Chinese semicolons": ("大，狗；猫", ["大，狗", "猫"]),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_may_have_commas(here, capsys, case):
    text, labels = LABELS[case]
    (star,) = classify(capsys, "star.png", "--labels", text, "--none-below", "off")[0]["results"]
    assert list(star["cosines"]) == labels


def test_images_may_come_after_the_labels(here, capsys):
    result, _ = classify(capsys, "--labels", "a, b", "star.png", "noise.png", "--none-below", "off")
    assert [list(r["cosines"]) for r in result["results"]] == [["a", "b"]] * 2


@pytest.mark.parametrize("text", ["blue star\n\nred star, large\r\n", "blue star; red star, large"])
def test_labels_may_lie_in_a_file(here, capsys, text):
    Path("labels.txt").write_text(text)
    for options in (["star.png", "--labels", "labels.txt"], ["--labels", "labels.txt", "star.png"]):
        (result,) = classify(capsys, *options)[0]["results"]
        assert result["label"] == "blue star" and [*result["cosines"]] == ["blue star", "red star, large"]


def test_a_file_of_labels_that_is_not_there_is_told(here, capsys):
    assert main(["classify", "mine", "star.png", "--labels", "lables.txt"]) == 2
    assert "lables.txt" in capsys.readouterr().err


def test_a_folder_stands_for_its_images(here, capsys):
    for name in ("in/a.png", "in/deep/b.PNG", "in/.hidden/c.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("star.png", name)
    Path("in/notes.txt").write_text("no image")
    result, _ = classify(capsys, "star.png", "in", "--labels", "a, b", "--none-below", "off")
    assert [Path(r["image"]).as_posix() for r in result["results"]] == ["star.png", "in/a.png", "in/deep/b.PNG"]
    shutil.copy("star.png", "odd[1].png")
    assert len(classify(capsys, "odd[1].png", "--labels", "a, b", "--none-below", "off")[0]["results"]) == 1


def test_many_images_are_embedded_in_batches_and_a_few_are_drawn(here, capsys, monkeypatch):
    Path("many").mkdir()
    for i in range(70):
        Image.new("RGB", (9, 9), (3 * i, 0, 0)).save(f"many/{i:02}.png")
    drawn = []
    monkeypatch.setattr("minclip.cli.images.classified", lambda pictures, *a, **k: drawn.append(len(pictures)))
    monkeypatch.setattr("minclip.cli.images.save_picture", lambda *_: "none")
    result, _ = classify(capsys, "many", "--labels", "a, b", "--none-below", "off")
    assert [Path(r["image"]).name for r in result["results"]] == [f"{i:02}.png" for i in range(70)] and drawn == [24]
    one = classify(capsys, "many/69.png", "--labels", "a, b", "--none-below", "off")[0]["results"][0]
    assert result["results"][69]["cosines"] == pytest.approx(one["cosines"], abs=1e-5)


def test_weights_that_are_no_run_have_no_threshold_and_are_not_called_missing(here, capsys):
    model, _, tokenizer = minclip.load(DEMO)
    minclip.weights.load.save("plain", model, tokenizer=tokenizer)
    shutil.rmtree("runs")
    for path in ("plain", "plain/model.safetensors"):
        assert main(["classify", path, "star.png", "--labels", "a, b"]) == 0
        told = capsys.readouterr().out
        assert f"{path} is a model, not a run" in told and "no run or model is named" not in told


def test_cosines_and_probabilities_are_the_models_own(here, capsys):
    (star,) = classify(capsys, "star.png", "--labels", "a dog, a cat", "--template", "see {}")[0]["results"]
    model, preprocess, tokenizer = minclip.load(DEMO)
    with torch.no_grad():
        x = preprocess(Image.open("star.png"))[None]
        ids = tokenizer(["see a dog", "see a cat"], model.config.text.context_length)
        image, text, scale = model(x, ids)
    cosines = (image @ text.T)[0]
    assert list(star["cosines"].values()) == pytest.approx(cosines.tolist(), abs=1e-5)
    assert list(star["probabilities"].values()) == pytest.approx((scale * cosines).softmax(0).tolist(), abs=1e-5)


def test_the_threshold_is_what_nine_in_ten_wrong_pairs_stay_below(validation):
    model, _, tokenizer = minclip.load(DEMO)
    pairs = minclip.Pairs(validation.images[:12], validation.captions[:12], validation.names[:12])
    wrong = []
    with torch.no_grad():
        x = (torch.from_numpy(pairs.images) / 255 - 0.5) / 0.25
        image = model.encode_image(x, normalize=True)
        for i, captions in enumerate(pairs.captions):
            text = model.encode_text(tokenizer(captions, model.config.text.context_length), normalize=True)
            wrong += (text @ image[(i + 1) % 12]).tolist()
    for share in (0.5, 0.9):
        below = wrong_pairs_cosine(model, tokenizer, pairs, quantile=share)
        assert below == pytest.approx(np.quantile(wrong, share), abs=1e-4)
        assert np.mean(np.array(wrong) < below) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(("below", "none"), [("0.99", True), ("-1", False), ("off", False)])
def test_the_threshold_may_be_said_or_switched_off(here, capsys, below, none):
    result, printed = classify(capsys, "star.png", "--labels", "blue star, red star", "--none-below", below)
    assert (result["results"][0]["label"] is None) == none
    assert result["none_below_from"] in printed and result["none_below"] == (None if below == "off" else float(below))


def test_one_label_is_a_question_where_there_is_a_threshold(here, capsys):
    result, _ = classify(capsys, "star.png", "noise.png", "--labels", "blue star")
    assert [r["label"] for r in result["results"]] == ["blue star", None]
    assert [r["probabilities"] for r in result["results"]] == [{"blue star": 1.0}] * 2
    assert main(["classify", "mine", "star.png", "--labels", "blue star", "--none-below", "off"]) == 2
    assert "100 %" in capsys.readouterr().err


def change_data(here, **fields):
    path = here / "runs" / "mine" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "data": {**values["data"], **fields}}))


def test_where_the_validation_pairs_are_not_here_it_is_off_and_says_why(here, capsys):
    change_data(here, name="flickr8k", root="gone.zip")
    result, printed = classify(capsys, "noise.png", "--labels", "blue star, red star")
    assert result["results"][0]["label"] and result["none_below"] is None
    assert "gone.zip" in printed and "--none-below 0.2" in printed


def test_a_few_validation_pairs_are_too_few(here, capsys, monkeypatch, validation):
    few = minclip.Pairs(validation.images[:50], validation.captions[:50], validation.names[:50])
    monkeypatch.setattr("minclip.cli.images.open_data", lambda _: SimpleNamespace(load=lambda *_, **__: few))
    assert classify(capsys, "noise.png", "--labels", "blue star, red star")[0]["none_below"] is None


def test_the_picture_goes_where_it_is_told_and_labels_may_hold_markup(here, capsys):
    result, printed = classify(capsys, "star.png", "--labels", "[bold] $x$, red star", "--out", "some/where")
    assert (here / "some" / "where" / "classify.png").exists() and "[bold] $x$" in printed
    assert Path(result["picture"]) == Path("some/where/classify.png")


def test_the_picture_marks_the_threshold_and_greys_what_is_below():
    pictures = [Image.new("RGB", (30, 20)), Image.new("RGB", (20, 30))]
    cosines = [{"a": 0.1, "b": 0.5}, {"a": -0.2, "b": 0.1}]
    figure = plots.classified(
        pictures, ["x: b", "y: none of these"], cosines, probabilities=[{"a": 0.0, "b": 1.0}] * 2, below=0.3
    )
    first, second = figure.axes[1], figure.axes[3]
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["b", "a"]
    assert [bar.get_width() for bar in first.patches] == [0.5, 0.1]
    assert [text.get_text() for text in first.texts] == ["0.50  (100%)", "0.10  (0%)"]
    colours = [bar.get_facecolor() for axis in (first, second) for bar in axis.patches]
    assert colours[0] != colours[1] == colours[2] == colours[3]
    assert first.get_lines()[0].get_xdata() == [0.3, 0.3]
    assert (
        not plots.classified(pictures, ["x", "y"], cosines, probabilities=[{"a": 0.0, "b": 1.0}] * 2)
        .axes[1]
        .get_lines()
    )


MISTAKES = [
    (["star.png"], "--labels"),
    (["star.png", "--labels", " , ,"], "--labels"),
    (["--labels", "a dog, a cat"], "IMAGE"),
    (["star.png", "--labels", "a dog, a cat, a dog"], "'a dog'"),
    (["star.png", "--labels", "a, b", "--template", ""], "template"),
    (["star.png", "--labels", "a, b", "--template", "a photo"], "'a photo'"),
    (["runs/mine/config.json", "--labels", "a, b"], "config.json"),
    (["star.png", "gone.png", "--labels", "a, b"], "gone.png"),
    (["empty", "--labels", "a, b"], "empty has no image"),
    (["star.png", "--labels", " ; ;"], "--labels"),
    (["star.png", "--labels", "a dog", "a cat"], "quotes"),
    (["star.png", "--labels", "a", "dog,", "a", "cat"], "quotes"),
    (["*.png", "--labels", "a, b"], "*.png"),
    (["star.png", "--labels", "a, b", "--none-below", "20"], "--none-below 20.0"),
    (["star.png", "--labels", "a, b", "--none-below", "nan"], "--none-below nan"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[" ".join(o)[:40] for o, _ in MISTAKES])
def test_a_mistake_is_one_sentence_and_exit_2(here, capsys, options, message):
    Path("empty").mkdir()
    assert main(["classify", "mine", *options]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err and not Path("classify.png").exists()


def test_a_run_without_tokenizer_is_told(here, capsys):
    (here / "runs" / "mine" / "tokenizer.json").unlink()
    assert main(["classify", "mine", "star.png", "--labels", "a dog, a cat"]) == 2
    assert "mine has no tokenizer.json" in capsys.readouterr().err
