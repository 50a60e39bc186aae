"""Class folders of one's own as tasks: layouts, splits that are drawn, names, templates, and what is left out."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_files import folders, grey, put
from tiny_models import far_from_start
from tiny_zero_shot import TOKENIZER, class_vector

from minclip.cli import main
from minclip.config import CLIPConfig, MinclipError, TextConfig, VisionConfig
from minclip.evaluate.benchmarks import load_folders, read_names
from minclip.evaluate.tasks import probe_sets, run_tasks, task_names
from minclip.model import CLIP
from minclip.preprocess import Preprocess
from minclip.weights.load import save

ANIMALS = ("Cat", "golden_retriever", "狗")


@pytest.fixture(scope="module")
def loaded():
    torch.manual_seed(0)
    vision = VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2)
    text = TextConfig(context_length=96, vocab_size=TOKENIZER.vocab_size, width=16, layers=1, heads=2)
    model = far_from_start(CLIP(CLIPConfig(12, vision, text)))
    return model, Preprocess(vision), TOKENIZER


def shown(data):
    """(file, class name) of each image."""
    return sorted((path.name, data.class_names[label]) for path, label in zip(data.images.paths, data.labels))


# ---- layouts


def test_one_level_is_tested_whole_and_split_for_a_probe(tmp_path):
    folders(tmp_path, ANIMALS, 12)
    splits = load_folders(tmp_path)
    assert splits.keys() == {"all", "train", "test"} and len(splits["all"]) == 36
    assert splits["all"].class_names == ("Cat", "golden retriever", "狗")
    train, test = ({*splits[split].images.paths} for split in ("train", "test"))
    assert not train & test and train | test == {*splits["all"].images.paths}
    assert {*splits["train"].labels} == {*splits["test"].labels} == {0, 1, 2}
    assert all(path.parent.name.replace("_", " ") == s.class_names[y] for s in splits.values() for path, y in zip(s.images.paths, s.labels))  # fmt: skip


def test_a_drawn_split_depends_on_the_paths_below_alone(tmp_path):
    for place in ("here", "there/deeper"):
        folders(tmp_path / place, ANIMALS, 12)
    drawn = [shown(load_folders(tmp_path / place)["test"]) for place in ("here", "there/deeper")]
    assert drawn[0] == drawn[1]
    (tmp_path / "here/Cat/Cat_0.jpg").unlink()
    fewer = shown(load_folders(tmp_path / "here")["test"])
    assert {*drawn[0]} ^ {*fewer} <= {("Cat_0.jpg", "Cat")}  # the others stay where they are


def test_a_drawn_split_has_some_of_each_class_where_it_can(tmp_path):
    for i in range(9):
        folders(tmp_path / str(i), ("a", "b"), 2)
    folders(tmp_path / "0", ("c",), 1)
    for i in range(9):
        splits = load_folders(tmp_path / str(i))
        assert {0, 1} <= {*splits["train"].labels} and {0, 1} <= {*splits["test"].labels}
    assert np.array_equal(np.unique(load_folders(tmp_path / "0")["test"].labels), [0, 1, 2])


@pytest.mark.parametrize(
    "words", [("train", "val", "test"), ("Training", "valid", "testing"), ("TRAIN", "dev", "Test")]
)
def test_splits_are_folders_of_any_word(tmp_path, words):
    for i, word in enumerate(words):
        folders(tmp_path / word, ANIMALS[: 3 - i], 2)
    splits = load_folders(tmp_path)
    assert {split: len(data) for split, data in splits.items()} == {"train": 6, "val": 4, "test": 2}
    assert {data.class_names for data in splits.values()} == {("Cat", "golden retriever", "狗")}  # those of all splits


def test_the_folder_of_one_split_is_one_level(tmp_path):
    folders(tmp_path / "train", ANIMALS, 3)
    assert load_folders(tmp_path / "train").keys() == {"all", "train", "test"}
    assert load_folders(tmp_path).keys() == {"train"}


def test_test_images_without_classes_are_left_out_as_on_kaggle(tmp_path, loaded):
    folders(tmp_path / "train", ANIMALS, 3)
    grey(tmp_path / "test/1.jpg", 9)
    splits = load_folders(tmp_path)
    assert {split: len(data) for split, data in splits.items()} == {"train": 9} and "test/1.jpg" in splits[
        "train"
    ].notes[0]
    assert run_tasks(loaded, [str(tmp_path)])[str(tmp_path)].images == 9
    with pytest.raises(MinclipError, match="images for train only"):
        probe_sets(loaded, str(tmp_path))
    assert len(probe_sets(loaded, str(tmp_path / "train"))[0]["train"][1]) < 9


def test_a_class_may_be_called_train_and_hold_folders(tmp_path):
    folders(tmp_path, ("bus", "train"), 2)
    grey(tmp_path / "bus/red/3.jpg", 9)
    data = load_folders(tmp_path)["all"]
    assert shown(data) == [("3.jpg", "bus"), *((f"{n}_{i}.jpg", n) for n in ("bus", "train") for i in (0, 1))]


def test_what_is_no_class_is_left_out_and_told(tmp_path):
    folders(tmp_path, ANIMALS, 1)
    grey(tmp_path / "cover.jpg", 9)
    for name in (".DS_Store", "Thumbs.db", "Cat/Thumbs.db", "README.md", ".hidden/x.jpg"):
        put(tmp_path / name, b"x")
    (tmp_path / "empty").mkdir()
    (notes,) = {data.notes for data in load_folders(tmp_path).values()}
    assert (
        "cover.jpg" in notes[0] and "empty" in notes[1] and len(notes) == 2 and not any("DS_Store" in n for n in notes)
    )
    assert load_folders(tmp_path)["all"].class_names == ("Cat", "golden retriever", "狗")
    put(tmp_path / "Cat/clip.mp4", b"x")
    assert any("clip.mp4" in note for note in load_folders(tmp_path)["all"].notes)


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_links_are_followed(tmp_path):
    folders(tmp_path / "elsewhere", ("a", "b"), 2)
    (tmp_path / "mine").mkdir()
    for name in ("a", "b"):
        (tmp_path / "mine" / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "mine/a/again").symlink_to(tmp_path / "mine")
    assert len(load_folders(tmp_path / "mine")["all"]) == 4


BAD = {
    "nothing there": ([], "gone", "does not exist"),
    "a file": (["x.zip"], "x.zip", "x.zip is no folder"),
    "no images": (["a/x.txt", "b/x.txt"], "", "0 class folders"),
    "images alone": (["1.jpg", "2.jpg"], "", "0 class folders"),
    "one class": (["a/1.jpg", "a/2.jpg"], "", "[01] class folders"),
    "one class in splits": (["train/a/1.jpg", "test/a/2.jpg"], "", "1 class folders"),
    "splits without classes": (["train/1.jpg", "test/2.jpg"], "", "0 class folders"),
    "one split without classes": (["test/1.jpg", "test/2.jpg"], "", "0 class folders"),
    "splits beside classes": (["train/a/1.jpg", "test/a/2.jpg", "b/1.jpg"], "", "test, train beside b"),
}


@pytest.mark.parametrize("case", BAD)
def test_folders_that_are_no_task_are_told(tmp_path, case):
    files, path, facts = BAD[case]
    for file in files:
        put(tmp_path / file, b"x")
    with pytest.raises(MinclipError, match=facts):
        load_folders(tmp_path / path)


# ---- names


WORDNET = ("n01855672", "n02012849", "n03126707")
NAMED = {
    "tabs": ("n01855672\tgoose\nn02012849\tcrane bird\nn03126707\tmachine, lifting\n", ("goose", "crane bird", "machine")),
    "WordNet's": ("n01855672 goose, anser\nn99999999 x\nn02012849 crane\nn03126707 crane\n", ("goose", "crane, the bird", "crane, the machine")),
    "a CSV": ('folder,name\nn01855672,"a goose"\nn03126707,c\nn02012849,b\n', ("a goose", "b", "c")),
    "lines alone": ("\ufeffgoose, grey\n\n bird \nmachine\n", ("goose, grey", "bird", "machine")),
    "JSON": ('{"n01855672": ["a goose", "geese"], "n02012849": "bird", "n03126707": "m"}', (["a goose", "geese"], "bird", "m")),
    "a JSON list": ('["g", ["b", "c"], "m"]', ("g", ["b", "c"], "m")),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMED)
def test_names_are_read_from_files_as_they_lie_about(tmp_path, case):
    text, names = NAMED[case]
    folders(tmp_path / "sets", WORDNET)
    put(tmp_path / "names.txt", text.encode())
    assert load_folders(tmp_path / "sets", classes=tmp_path / "names.txt")["all"].class_names == names


def test_names_in_the_order_of_numbers_are_for_folders_in_that_order(tmp_path):
    folders(tmp_path / "sets", [str(i) for i in range(11)], 1)
    put(tmp_path / "names.txt", "\n".join(f"kind {chr(97 + i)}" for i in range(11)))
    data = load_folders(tmp_path / "sets", classes=tmp_path / "names.txt")["all"]
    assert [(path.parent.name, data.class_names[y]) for path, y in zip(data.images.paths, data.labels)] == [
        (str(i), f"kind {chr(97 + i)}") for i in (0, 1, 10, *range(2, 10))
    ]


def test_folders_of_words_may_have_names_too_and_need_not_all(tmp_path):
    put(tmp_path / "names.txt", "golden retriever: a dog\n狗, 犬\nunknown,x\n".encode())
    assert read_names(tmp_path / "names.txt", ("Cat", "golden retriever", "狗")) == {
        "golden retriever": "a dog",
        "狗": "犬",
    }
    folders(tmp_path / "sets", ANIMALS)
    data = load_folders(tmp_path / "sets", classes=tmp_path / "names.txt")["all"]
    assert data.class_names == ("Cat", "golden retriever", "犬")


@pytest.mark.parametrize("names", [WORDNET, ("0", "1"), ("007", "cat")])
def test_codes_without_names_are_refused(tmp_path, names):
    folders(tmp_path, names)
    with pytest.raises(MinclipError, match=f"such as {names[0]}.*--classes"):
        load_folders(tmp_path)


@pytest.mark.parametrize(
    ("name", "folder", "shown"), [("gtsrb", "00014", "stop"), ("mnist", "7", "7"), ("clevr", "3", "three")]
)
def test_numbers_that_a_set_of_the_paper_names_are_taken(tmp_path, name, folder, shown):
    folders(tmp_path / "test", (folder, "other"))
    assert shown in load_folders(tmp_path, name=name)["test"].class_names


def test_wordnet_ids_are_refused_for_the_papers_sets_too(tmp_path, loaded):
    folders(tmp_path / "imagenet/test", ("n02012849", "n01855672"))
    with pytest.raises(MinclipError, match=r"1 of 2 classes .*n01855672"):
        run_tasks(loaded, ["imagenet"], root=tmp_path)
    put(tmp_path / "names", b"n01855672 goose")
    assert run_tasks(loaded, ["imagenet"], root=tmp_path, classes=tmp_path / "names")["imagenet"].images == 2


def test_birds_have_their_names_without_numbers(tmp_path):
    folders(tmp_path, ("001.Black_footed_Albatross", "002.ak47", "3d printer"))
    names = ("Black footed Albatross", "ak47", "3d printer")
    assert load_folders(tmp_path)["all"].class_names == names


WRONG = {
    "other classes": ("a,x\nb,y\n", None, "names none of the 3 classes"),
    "too few lines": ("x\ny\n", None, "2 lines"),
    "a name twice": ("red\nblue\nRed\n", None, "number 0 'red', number 2 'Red'"),
    "a number": ('{"Cat": 3}', None, "number 0 3"),
    "JSON of other things": ('{"a": 3, "b": [[1], 2], "c": {}}', None, "names none of the 3 classes"),
    "no sentences": ('{"Cat": []}', None, r"number 0 \[\]"),
    "broken JSON": ('{"Cat": ', None, "not valid JSON"),
    "no UTF-8": (b"\xff\xfeC", None, "names.txt is not UTF-8"),
    "no place": (None, "a {}\na photo\n", "'a photo'"),
    "no templates": (None, "\n", r"\[\]"),
    "templates of another kind": (None, '[1, "a {}"]', "template 1"),
    "not there": (None, None, "gone"),
}


@pytest.mark.parametrize("case", WRONG)
def test_names_and_templates_are_checked_before_an_image_is_read(tmp_path, loaded, monkeypatch, case):
    names, templates, facts = WRONG[case]
    folders(tmp_path / "sets", ANIMALS)
    monkeypatch.setattr("minclip.evaluate.tasks.tower_features", lambda *_: pytest.fail("an image was embedded"))
    given = {}
    for option, text in (("classes", names), ("templates", templates)):
        if text:
            put(tmp_path / "names.txt", text if isinstance(text, bytes) else text.encode())
            given = {option: tmp_path / "names.txt"}
    with pytest.raises(MinclipError, match=facts):
        run_tasks(loaded, [str(tmp_path / "sets")], **(given or {"classes": tmp_path / "gone"}))


def test_two_folders_that_read_the_same_are_told(tmp_path, loaded):
    folders(tmp_path, ("red_star", "red star", "ring"))
    with pytest.raises(MinclipError, match="'red star', number 1 'red star'"):
        run_tasks(loaded, [str(tmp_path)])


# ---- tasks and probes


def test_accuracy_is_the_count_by_hand_with_sentences_and_templates(tmp_path, loaded):
    folders(tmp_path / "sets", ANIMALS, 3)
    put(tmp_path / "names.json", b'{"Cat": ["a cat", "a grey cat on a star"], "golden_retriever": "retriever"}')
    put(tmp_path / "prompts.txt", "a {}\n{} on a dark background\n")
    name = str(tmp_path / "sets")
    got = run_tasks(loaded, [name], classes=tmp_path / "names.json", templates=tmp_path / "prompts.txt")[name]
    model, preprocess, _ = loaded
    prompts = [
        ["a cat", "a grey cat on a star"],
        *([f"a {n}", f"{n} on a dark background"] for n in ("retriever", "狗")),
    ]
    w, right = np.stack([class_vector(model, p) for p in prompts]), []
    data = load_folders(tmp_path / "sets")["all"]
    with torch.no_grad():
        for i, label in enumerate(data.labels):
            x = model.encode_image(preprocess(data.images[i])[None], normalize=True)[0].double().numpy()
            right.append((w @ x).argmax() == label)
    assert got.score == pytest.approx(np.mean(right)) and (got.images, got.classes, got.chance) == (9, 3, 1 / 3)


def test_what_is_tested_and_trained_on_in_each_layout(tmp_path, loaded):
    for layout, counts in (
        ("tv", {"train": 4, "val": 2}),
        ("tvt", {"train": 4, "val": 3, "test": 2}),
        ("t", {"test": 3}),
    ):
        for split, count in counts.items():
            folders(tmp_path / layout / split, ("a", "b"), count)
    folders(tmp_path / "flat", ("a", "b"), 6)
    images = {
        p: r.images for p, r in run_tasks(loaded, [str(tmp_path / p) for p in ("tv", "tvt", "t", "flat")]).items()
    }
    assert [*images.values()] == [4, 4, 6, 12]
    for layout, counts in (("tv", {"train": 8, "test": 4}), ("tvt", {"train": 8, "val": 6, "test": 4})):
        sets, result = probe_sets(loaded, str(tmp_path / layout))
        assert {s: len(sets[s][1]) for s in ("train", "val", "test") if s in sets} == counts
        assert result.images == counts["test"]
    sets, _ = probe_sets(loaded, str(tmp_path / "flat"))
    assert len(sets["train"][1]) + len(sets["test"][1]) == 12 and "val" not in sets
    with pytest.raises(MinclipError, match="images for test only"):
        probe_sets(loaded, str(tmp_path / "t"))


def test_a_class_that_can_not_be_learned_is_named_at_once(tmp_path, loaded, monkeypatch):
    monkeypatch.setattr("minclip.evaluate.tasks.tower_features", lambda *_: pytest.fail("an image was embedded"))
    folders(tmp_path / "a/train", ("dog", "cat"), 3)
    folders(tmp_path / "a/test", ("dog", "cat", "owl"), 1)
    with pytest.raises(MinclipError, match="'owl' has 1 test images and no training image"):
        probe_sets(loaded, str(tmp_path / "a"))
    folders(tmp_path / "b", ("dog", "cat"), 3)
    folders(tmp_path / "b", ("owl",), 1)
    with pytest.raises(MinclipError, match="'owl' has 1 test images and no training image"):
        probe_sets(loaded, str(tmp_path / "b"))


def test_a_name_is_a_task_or_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cifar10", "shape", "flowers", "a, b/c"):
        folders(Path(name), ("x", "y"))
    assert task_names("cifar10, flowers,./cifar10, shape") == ["cifar10", "flowers", "./cifar10", "shape"]
    assert task_names("a, b/c") == ["a, b/c"]
    with pytest.raises(MinclipError, match="no task is named 'flower'"):
        task_names("flower")


def test_the_commands_take_paths_files_and_markup(tmp_path, loaded, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save("tiny", loaded[0], tokenizer=TOKENIZER, format="open_clip")
    folders(Path("photos/my $x$ [b] set"), WORDNET, 8)
    put(Path("names.txt"), b"goose\nbird\nmachine\n")
    task = "photos/my $x$ [b] set"
    assert main(["eval", "tiny", "--tasks", task, "--classes", "names.txt", "--json"]) == 0
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert result["tasks"][task]["images"] == 24 and " photos/my $x$ [b] set " in out
    assert main(["probe", "tiny", "--task", task, "--classes", "names.txt", "--shots", "1,2", "--repeats", "2"]) == 0
    out = capsys.readouterr().out
    assert "18 train" in out or ("train" in out and "0 val" in out)
    assert main(["eval", "tiny", "--tasks", task]) == 2
    assert "--classes" in capsys.readouterr().err
    assert main(["eval", "tiny", "--tasks", "shape", "--classes", "names.txt"]) == 2
    assert "shape has its own" in capsys.readouterr().err
    assert main(["eval", "tiny", "--classes", "names.txt"]) == 2
    assert "--tasks" in capsys.readouterr().err
