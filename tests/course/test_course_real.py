"""Notebook 16 on the real CLIP: its cells with weights of OpenAI's format and of a hub, errors, checks, pictures."""

import hashlib
import http.server
import json
import re
import threading
import warnings
from dataclasses import fields, replace
from pathlib import Path

import huggingface_hub.constants as constants
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from course_answers import exercises
from local_hub import Hub, go_to
from PIL import Image

import minclip
from minclip import CLIP, CLIPConfig, MinclipError, TextConfig, Tokenizer, VisionConfig, cli
from minclip.course import checks, paper, plots, real, widgets
from minclip.data import shapes
from minclip.evaluate import benchmarks
from minclip.weights.load import FILES, TOKENIZER_FILE
from minclip.weights.openai import OPENAI

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "16_the_real_clip.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


# ---- exercises


def zero_shot(embed, image, labels, templates, scale, each=True, again=True, one=False):
    columns = []
    for label in labels:
        texts = embed([template.replace("{}", label) for template in templates[: 1 if one else None]])
        mean = (F.normalize(texts, dim=-1) if each else texts).mean(dim=0)
        columns.append(F.normalize(mean, dim=0) if again else mean)
    return (scale * torch.stack(columns) @ image).softmax(dim=0)


def averaged(embed, image, labels, templates, scale):
    return torch.stack([zero_shot(embed, image, labels, [t], scale) for t in templates]).mean(dim=0)


def cosines_only(embed, image, labels, templates, scale):
    return (zero_shot(embed, image, labels, templates, 1.0).log()).softmax(dim=0)


def raw_cosines(embed, image, labels, templates, scale):
    columns = []
    for label in labels:
        texts = F.normalize(embed([template.replace("{}", label) for template in templates]), dim=-1)
        columns.append(F.normalize(texts.mean(dim=0), dim=0))
    return torch.stack(columns) @ image


def nearest(vectors, names, query, k, normalize=True, sign=1, of_query=True):
    x = F.normalize(vectors, dim=-1) if normalize else vectors
    cosines = x @ (F.normalize(query, dim=0) if of_query else query)
    values, places = (sign * cosines).topk(min(k, len(names)))
    return [(names[i], sign * value) for i, value in zip(places.tolist(), values.tolist())]


SOLUTIONS = [(checks.zero_shot, zero_shot), (checks.nearest_pictures, nearest)]
WRONG = [
    (checks.zero_shot, lambda *a: zero_shot(*a, each=False), "normalize each text before"),
    (checks.zero_shot, lambda *a: zero_shot(*a, again=False), "normalize once more"),
    (checks.zero_shot, lambda *a: zero_shot(*a, each=False, again=False), "nothing was normalized"),
    (checks.zero_shot, lambda *a: zero_shot(*a[:4], 1.0), "the scale is missing"),
    (checks.zero_shot, lambda *a: zero_shot(*a, one=True), "one template only"),
    (checks.zero_shot, averaged, "average their vectors"),
    (checks.zero_shot, cosines_only, "the scale is missing"),
    (checks.zero_shot, raw_cosines, "these are cosines"),
    (checks.zero_shot, lambda e, *a: zero_shot(lambda texts: e(texts[0]), *a), "a list of texts"),
    (checks.zero_shot, lambda e, i, c, t, s: zero_shot(e, i, c, ["{} "], s), "replace {} in each template"),
    (checks.nearest_pictures, lambda *a: nearest(*a, normalize=False), "the longest vector"),
    (checks.nearest_pictures, lambda *a: nearest(*a, sign=-1), "the farthest"),
    (checks.nearest_pictures, lambda *a: nearest(*a, of_query=False), "both lengths"),
    (checks.nearest_pictures, lambda *a: nearest(*a)[:2], "your list has 2"),
    (checks.nearest_pictures, lambda *a: [name for name, _ in nearest(*a)], "list of pairs"),
    (checks.nearest_pictures, lambda *a: [(0, value) for _, value in nearest(*a)], "look it up in names"),
    (checks.nearest_pictures, lambda v, n, q, k: nearest(v, n, q, min(k, 4)), "return all 5"),
]

TestExercises = exercises(SOLUTIONS, WRONG)


# ---- the notebook with other weights than the demo's

CHANGES = {"NAME": '"demo"', "PHOTOGRAPH": '""', "LABELS": "[]", "FOLDER": '""', "DOWNLOAD": "False"}


def run_notebook(monkeypatch, **chosen):
    """The notebook's code, cell by cell in one namespace, after what a reader may change was changed."""
    monkeypatch.setattr("tempfile.tempdir", None)
    sources = {c["id"]: "".join(c["source"]) for c in CELLS if c["cell_type"] == "code"}
    namespace = {"get_ipython": lambda: "a shell"}
    left = dict(chosen)
    for name, source in sources.items():
        for key, old in CHANGES.items():
            line = re.compile(rf"^{key} = {re.escape(old)}(?=  #)", re.MULTILINE)
            if key in left and line.search(source):
                value = left.pop(key)
                source = line.sub(lambda _, k=key, v=value: f"{k} = {v!r}", source)
        exec(compile(source, name, "exec"), namespace)
    assert not left, f"no cell has the line of {left}"
    return namespace


def photographs(folder, names, side=90):
    """Small pictures of noise, each of its own colors, one per name, with folders."""
    rng = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        low, color = rng.integers(0, 256, (6, 8, 3)), rng.integers(0, 256, 3)
        pixels = ((low + color) // 2).astype(np.uint8)
        Image.fromarray(pixels).resize((side + 30, side)).save(path)
    return folder


def openais_archive(path, open_clip):
    """A tiny CLIP with random numbers in OpenAI's format: traced, in half precision, with OpenAI's vocabulary."""
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=2, width=128, head_width=64, patch_size=16, image_size=64)
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=64, heads=1, layers=1)
    model = open_clip.model.CLIP(32, vision, text, quick_gelu=True).eval()
    del model.context_length, model.vocab_size
    for name, value in {"input_resolution": 64, "context_length": 77, "vocab_size": 49408}.items():
        model.register_buffer(name, torch.tensor(value))
    inputs = {"encode_image": torch.randn(1, 3, 64, 64), "encode_text": torch.randint(1, 100, (1, 77))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.parent.mkdir(parents=True)
        torch.jit.save(torch.jit.trace_module(model, inputs, check_trace=False).half(), path)
    return path


@pytest.mark.slow
def test_with_openais_name_its_file_and_the_readers_own_pictures(here, monkeypatch, capsys):
    """NAME = "ViT-B/32", whose file lies where OpenAI's package keeps it; a photograph, a folder, and CIFAR-10."""
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(here / "home"))
    path = openais_archive(here / "home" / ".cache" / "clip" / "ViT-B-32.pt", open_clip)
    monkeypatch.setitem(OPENAI, "ViT-B/32", (hashlib.sha256(path.read_bytes()).hexdigest(), "none"))
    photographs(here, ["mine/holiday.jpg", *(f"mine/deep/{i}.png" for i in range(70))])
    photographs(here / "sets" / "cifar10" / "test", [f"{c}/{i}.png" for c in ("cat", "ship") for i in range(12)], 32)
    monkeypatch.setattr(benchmarks, "default_root", lambda: here / "sets")
    own = {"PHOTOGRAPH": str(here / "mine" / "holiday.jpg"), "LABELS": ["a dog", "an apple", "a bird"]}
    there = run_notebook(monkeypatch, NAME="ViT-B/32", FOLDER=str(here / "mine"), **own)
    out = capsys.readouterr().out
    assert not there["demo"] and there["source"] == "ViT-B/32, the weights that were loaded"
    assert there["plain"].config.activation == "quick_gelu" and there["tokenizer"].vocab_size == 49408
    assert there["TASK"] == "cifar10" and there["opened"].metric == "accuracy" and len(there["vectors"]) == 24
    assert there["labels"] == own["LABELS"] and there["answer"] in own["LABELS"]
    assert [*there["rates"]] == ["dog", "apple", "bird"] and there["LETTERS"] == "printed"
    assert there["controls"]("dog") == {"nothing": "", "other letters": "ATS", "reversed": "GOD", "the word": "DOG"}
    assert len(there["index"].paths) == 71 and len(there["pictures"]) == 36
    assert "ViT-B/32 on cifar10: 24 images, 2 classes" in out
    assert "8 shapes" not in out


class OwnHub(Hub):
    repo = "owner/clip"


@pytest.fixture
def hub(here, monkeypatch):
    OwnHub.files = {}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OwnHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    go_to(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(here / "cache"),
        "HF_HUB_DISABLE_XET": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    yield OwnHub
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_with_a_repository_of_the_hub_and_no_picture_the_scenes_are_painted(here, hub, monkeypatch, capsys):
    """NAME = "owner/clip": a ResNet in OpenCLIP's format, fetched by the real client from a hub on loopback."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(["a red circle", "a picture of a star"] * 4, 530)
    config = CLIPConfig(
        embed_dim=32,
        vision=VisionConfig(tower="resnet", image_size=64, width=8, heads=4, stages=(1, 1, 1, 1)),
        text=TextConfig(context_length=32, vocab_size=tokenizer.vocab_size, width=64, layers=1, heads=1),
    )
    CLIP(config).eval().save_pretrained(here / "files", format="open_clip", tokenizer=tokenizer)
    hub.files = {path.name: path.read_bytes() for path in (here / "files").iterdir()}
    assert {FILES["open_clip"][0], TOKENIZER_FILE} <= hub.files.keys()
    monkeypatch.setattr(benchmarks, "default_root", lambda: here / "sets")
    there = run_notebook(monkeypatch, NAME="owner/clip")
    out = capsys.readouterr().out
    assert there["TASK"] == "shape" and there["labels"] == list(shapes.SHAPES) and there["LETTERS"] == "printed"
    assert there["source"].startswith("random numbers") and there["shares"].shape[-1] == 8
    assert there["attention"](there["picture"]).shape == (2, 2)  # of the pooling: 64 pixels shrunk by 32
    assert "owner/clip on shape: 496 images" in out


@pytest.mark.slow
def test_with_a_run_that_has_no_attention_and_a_bag_of_words(here, monkeypatch, capsys):
    """NAME = a folder of minclip's own, as `minclip train flickr8k` leaves it."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(["a red circle", "a picture of a star"] * 4, 530)
    vision = VisionConfig("small_resnet", image_size=32, width=8, stages=(1, 1, 1, 1))
    text = TextConfig(tower="bag", context_length=32, vocab_size=tokenizer.vocab_size, width=32)
    CLIP(CLIPConfig(32, vision, text)).eval().save_pretrained(here / "run", tokenizer=tokenizer)
    monkeypatch.setattr(benchmarks, "default_root", lambda: here / "sets")
    there = run_notebook(monkeypatch, NAME=str(here / "run"))
    assert there["attention"](there["picture"]).tolist() == [[1.0]]
    assert "largest share 100.0%" in capsys.readouterr().out


# ---- what a reader may get wrong


@pytest.fixture
def alone(here, data_home, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(here / "home"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "ViT-B/16",
            r"not in the cache .*\(no network\?\)\.  On a machine with a network, download https://.*ViT-B-16\.pt",
        ),
        (
            "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
            r"\(no network\?\).*hf download laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        ),
        ("ViT-B/23", r"did you mean 'ViT-B/32'"),
        ("ViT-B-32.pt", "ViT-B-32.pt"),
        ("runs/gone", "runs/gone"),
    ],
)
def test_a_name_that_cannot_be_opened_says_what_to_do(alone, name, said):
    with pytest.raises(MinclipError, match=said):
        minclip.load(name)


def test_a_photograph_and_its_labels_belong_together(here):
    with pytest.raises(MinclipError, match=r"holiday\.jpg"):
        real.photograph("holiday.jpg", ["a", "b"])
    (here / "notes.txt").write_text("no image")
    with pytest.raises(MinclipError, match=r"notes\.txt.*not an image"):
        real.photograph("notes.txt", ["a", "b"])
    for path, labels, said in (
        ("", ["a", "b"], "belong together"),
        ("a.jpg", [], "belong together"),
        ("a.jpg", "a dog, a cat", "a list of texts"),
        ("a.jpg", ["a dog"], "at least two"),
    ):
        with pytest.raises(MinclipError, match=said):
            real.photograph(path, labels)


def test_a_photograph_is_cropped_to_its_middle(here):
    pixels = np.zeros((50, 200, 3), np.uint8)
    pixels[:, 75:125] = 255
    Image.fromarray(pixels).save("wide.png")
    image, labels = real.photograph("wide.png", ["a", "b"])
    assert image.size == (real.SIDE, real.SIDE) and labels == ["a", "b"]
    assert np.asarray(image).mean() > 250 and np.asarray(image)[:, 10:-10].min() > 250


def test_without_a_photograph_there_is_an_orange_star():
    image, labels = real.photograph("", [])
    scene = shapes.scenes("test", real.ORANGE_STAR + 1)
    assert labels == list(shapes.SHAPES) and image.size == (real.SIDE, real.SIDE)
    i = real.ORANGE_STAR
    what = (shapes.FILLS[scene.fill[i, 0]], shapes.COLORS[scene.color[i, 0]], shapes.SHAPES[scene.shape[i, 0]])
    assert (scene.count[i], scene.word[i], *what) == (1, -1, "outlined", "orange", "star")


def test_the_painted_folder_says_what_its_pictures_show(here):
    real.painted_folder(here, 6, side=32)
    found = sorted(path.name for path in here.glob("*.png"))
    assert len(found) == 6
    scenes = shapes.scenes("test", 30)
    rows = [i for i in range(30) if scenes.count[i] == 1 and scenes.word[i] < 0 and scenes.shape[i, 0] < 8]
    for name in found:
        *what, place = name.removesuffix(".png").split("-")
        i = rows[int(place)]
        truth = shapes.FILLS[scenes.fill[i, 0]], shapes.COLORS[scenes.color[i, 0]], shapes.SHAPES[scenes.shape[i, 0]]
        assert (*what,) == truth
        assert (np.asarray(Image.open(name)).transpose(2, 0, 1) == shapes.paint(scenes, 32)[i]).all()


# ---- signs


@pytest.mark.parametrize("word", ["RED", "BLUE", "GREEN", "STAR", "CROSS"])
def test_painted_letters_are_those_of_the_shapes_world(word):
    """At 64 pixels and a height of 14: the same bytes as a scene into which the world itself wrote the word."""
    scenes = shapes.scenes("test", 60)
    rows = np.flatnonzero((scenes.count == 1) & (scenes.word < 0))[:8]
    chosen = {f.name: v[rows] for f in fields(scenes) if isinstance(v := getattr(scenes, f.name), np.ndarray)}
    plain = replace(scenes, **chosen)
    number, top = np.full(len(rows), shapes.WORDS.index(word)), np.ones(len(rows), dtype=int)
    world = shapes.paint(replace(plain, word=number, word_top=top))
    for before, after in zip(shapes.paint(plain), world):
        ours = real.with_sign(Image.fromarray(before.transpose(1, 2, 0)), word, height=14 / 64, letters="painted")
        assert (np.asarray(ours).transpose(2, 0, 1) == after).all()


@pytest.mark.parametrize("letters", ["printed", "painted"])
def test_a_sign_is_as_high_as_asked_and_never_wider_than_the_picture(letters):
    gray = Image.new("RGB", (200, 200), (100, 100, 100))
    assert np.ptp(np.asarray(real.with_sign(gray, "", letters=letters))) == 0
    before = np.asarray(gray).copy()
    for word, height in (("RED", 0.1), ("RED", 0.2), ("CHRISTINEGREEN", 0.3)):
        out = np.asarray(real.with_sign(gray, word.lower(), height=height, letters=letters)).astype(int)
        ink = (out == 0).all(axis=2) if letters == "printed" else (out == 240).all(axis=2)
        rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
        assert columns[0] >= 4 and columns[-1] <= 195
        if word == "RED":
            assert rows[-1] - rows[0] + 1 == pytest.approx(200 * height, abs=3)
    assert (np.asarray(gray) == before).all()


def test_a_letter_that_the_shapes_world_lacks_is_named():
    gray = Image.new("RGB", (64, 64))
    with pytest.raises(MinclipError, match=r"no letter K, P.*printed"):
        real.with_sign(gray, "pink", letters="painted")
    with pytest.raises(MinclipError, match="choose printed or painted"):
        real.with_sign(gray, "red", letters="written")


# ---- the widget


@pytest.fixture(scope="module")
def loaded():
    return minclip.load("demo")


def test_each_control_of_the_playground_redraws_the_picture(loaded):
    picture, _ = real.photograph("", [])
    box = widgets.sign_playground(loaded, picture, shapes.COLORS, word="red", template="a {} shape")
    word, height, letters, template, image = box.children
    for control, value in ((height, 0.3), (letters, "printed"), (word, "pink"), (template, "{}")):
        before = image.value
        control.value = value
        assert image.value != before


def test_the_figure_says_how_the_answer_changed(loaded):
    picture, _ = real.photograph("", [])
    setting = {"word": "red", "height": 0.22, "template": "a {} shape"}
    turned = widgets.sign_figure(loaded, picture, shapes.COLORS, letters="painted", **setting)
    assert turned.get_suptitle() == "orange → red"
    same = widgets.sign_figure(loaded, picture, shapes.COLORS, letters="painted", **setting | {"word": "pink"})
    assert same.get_suptitle() == "the answer stays: orange" and "no letter K, P" in same.axes[3].get_title(loc="left")
    gap = widgets.sign_probabilities(loaded, [picture], shapes.COLORS, template="a {} shape")
    assert gap.shape == (1, 8) and gap.sum().item() == pytest.approx(1, abs=1e-5)


# ---- the paper's figure 5


def test_the_27_differences_are_the_papers():
    points = [row.points for row in paper.FIGURE_5]
    assert len(points) == 27 and points == sorted(points, reverse=True)
    assert (sum(p > 0 for p in points), sum(p < 0 for p in points)) == (16, 11)
    assert [round(sum(p for p in points if (p > 0) == won), 1) for won in (True, False)] == [141.9, -192.7]
    assert {row.key for row in paper.FIGURE_5} == {*benchmarks.BENCHMARKS}
    assert {row.kind for row in paper.FIGURE_5} == {*paper.KINDS}
    told = {row.key: row.points for row in paper.FIGURE_5}
    assert (told["pcam"], told["imagenet"], told["mnist"], told["gtsrb"]) == (-19.5, 1.9, -10.0, -18.4)


def test_the_figure_has_a_bar_and_a_question_for_each_data_set():
    axis = plots.data_sets(paper.FIGURE_5, paper.KINDS, title="", note="").axes[0]
    assert [bar.get_width() for bar in axis.patches] == [row.points for row in paper.FIGURE_5]
    texts = [text.get_text() for text in axis.texts]
    assert "+28.9" in texts and "−37.1" in texts and len(texts) == 54
    colors = {bar.get_facecolor() for bar in axis.patches}
    assert len(colors) == len(paper.KINDS)


def test_the_means_by_kind_are_written_beside_their_dots():
    axis = plots.by_kind({"a": [1.0, 3.0], "b": [-4.0]}, ["b", "a"], title="", note="").axes[0]
    assert [text.get_text() for text in axis.texts] == ["mean +2.0", "mean −4.0"]


def test_the_bars_of_signs_are_in_percent():
    axis = plots.sign_rates({"red": {"nothing": 0.1, "the word": 0.9}}, title="", note="").axes[0]
    assert [bar.get_height() for bar in axis.patches] == [10, 90]


def test_a_template_has_its_mark_and_the_best_is_on_top():
    axis = plots.template_dots({"a {}": 0.5, "{}": 0.75}, 0.7, chance=0.1, title="", note="").axes[0]
    assert [*axis.lines[0].get_xdata()] == [50, 75] and [*axis.lines[1].get_xdata()] == [70, 70]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a {}", "{}"]


# ---- what the notebook says


def prose():
    return "\n".join("".join(c["source"]) for c in CELLS if c["cell_type"] == "markdown")


def test_each_command_of_the_notebook_exists_with_its_options(capsys):
    commands = sorted(set(re.findall(r"`minclip ((?:classify|search|eval|probe|train|blend|export) [^`]*)`", prose())))
    assert len(commands) >= 8
    helped = {}
    for command in commands:
        words = command.split()
        verb = words[:2] if words[0] == "train" else words[:1]
        if tuple(verb) not in helped:
            assert cli.main([*verb, "--help"]) == 0
            helped[tuple(verb)] = capsys.readouterr().out
        for option in re.findall(r"--[\w.-]+", command):
            assert option in helped[tuple(verb)] or option == "--init", (command, option)


def test_the_names_in_the_notebook_are_those_of_the_documentation():
    docs = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    for name in ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B/32", "runs/shapes", "ViT-B-32.pt"):
        assert f'"{name}"' in docs and name in prose(), name


@pytest.mark.slow
def test_the_nine_models_have_as_many_parameters_as_open_clips():
    open_clip = pytest.importorskip("open_clip")
    (told,) = (c for c in CELLS if c["id"] == "cell-08")
    lines = "".join(told["outputs"][0]["text"]).splitlines()
    counts = {line.split()[0]: float(line.split()[1]) for line in lines[:9]}
    assert list(counts) == list(OPENAI)
    with torch.device("meta"):
        for name, count in counts.items():
            config = open_clip.get_model_config(name.replace("/", "-").replace("@", "-").removesuffix("px"))
            theirs = open_clip.model.CLIP(**config, quick_gelu=True)
            assert sum(p.numel() for p in theirs.parameters()) / 1e6 == pytest.approx(count, abs=0.051), name
    assert "151,277,313" in lines[-1] and "577 tokens" in lines[8]
