"""The paper's 27 data sets, each read from its real layout: images beside their labels, names that can be read, clear errors."""

import re
from collections import Counter

import benchmark_files
import numpy as np
import pytest
from benchmark_files import WRITERS, folders, grey, put

from minclip.config import MinclipError
from minclip.evaluate.benchmarks import (
    BENCHMARKS,
    NAMES,
    TEMPLATES,
    class_names,
    found,
    load_benchmark,
    load_folders,
    readable,
)
from minclip.evaluate.benchmarks.readers import Labeled
from minclip.evaluate.metrics import METRICS


def contents(data):
    """(class name or names, mean grey value) of each image."""
    out = []
    for i in range(len(data)):
        value = np.asarray(data.images[i]).mean()
        shown = data.labels[i]
        name = data.class_names[shown] if data.labels.ndim == 1 else tuple(np.array(data.class_names)[shown].tolist())
        out.append((name, value))
    return out


def assert_holds(data, expected):
    assert len(data) == len(expected)
    got = sorted(contents(data), key=lambda pair: (pair[1], pair[0]))
    for (name, value), (wanted, grey_value) in zip(got, sorted(expected, key=lambda pair: (pair[1], pair[0]))):
        assert name == wanted and abs(value - grey_value) < 1.5


# ---- the table


def test_the_table_is_the_papers():
    assert len(BENCHMARKS) == 27 and set(BENCHMARKS) == set(WRITERS) == set(TEMPLATES)
    assert {b.metric for b in BENCHMARKS.values()} == set(METRICS)
    metrics = Counter(b.metric for b in BENCHMARKS.values())
    assert metrics["accuracy"] == 20 and metrics["mean per class"] == 4


def test_every_set_has_templates_with_one_place_for_the_name():
    for templates in TEMPLATES.values():
        assert len(set(templates)) == len(templates) >= 2 and all(t.count("{}") == 1 for t in templates)


def test_names_of_numbers_are_as_many_as_the_classes():
    # FER 2013 has seven faces, though the paper counts eight
    for name, count in {"mnist": 10, "fer2013": 7, "gtsrb": 43, "pcam": 2}.items():
        assert [*NAMES[name]] == [str(i) for i in range(count)]
    for table in NAMES.values():
        names = [*table.values()]
        assert all(names) and (len({n.casefold() for n in names}) == len(names) or table is NAMES["hateful_memes"])
    assert len(NAMES["country211"]) == 250 and all(re.fullmatch("[A-Z]{2}", code) for code in NAMES["country211"])


def test_names_are_made_readable():
    for name, wanted in (
        ("apple_pie", "apple pie"),
        ("apse/indoor", "indoor apse"),
        ("F/A-18", "F/A-18"),
        ("ApplyEyeMakeup", "Apply Eye Makeup"),
        ("McLaren F1", "McLaren F1"),
        ("Faces", "Faces"),
    ):
        assert readable(name) == wanted
    assert class_names("country211", ("FR", "Atlantis")) == ("France", "Atlantis")


# ---- every set from its layout


@pytest.mark.parametrize("name", WRITERS)
def test_every_image_has_its_label(name, tmp_path, monkeypatch):
    expected = WRITERS[name](tmp_path, monkeypatch)
    for split, pairs in expected.items():
        data = load_benchmark(name, tmp_path, split)
        assert_holds(data, pairs)
        assert data.labels.dtype == (bool if name == "voc2007" else np.int64) and not data.notes
    assert found(tmp_path) == [name]


def test_arrays_become_images(tmp_path, monkeypatch):
    WRITERS["cifar10"](tmp_path, monkeypatch)
    image = np.asarray(load_benchmark("cifar10", tmp_path).images[1])
    assert image.shape == (32, 32, 3) and image[0, 0, 2] == image[0, 0, 0] + 2
    assert (image[:, 20] == image[:, 10] + 6).all()
    WRITERS["stl10"](tmp_path, monkeypatch)
    image = np.asarray(load_benchmark("stl10", tmp_path).images[1])
    assert image.shape == (96, 96, 3) and (image[:, 50] == image[:, 40] + 10).all()


@pytest.mark.parametrize("name", ["eurosat", "caltech101"])
def test_drawn_splits_are_always_the_same_and_share_no_image(name, tmp_path, monkeypatch):
    WRITERS[name](tmp_path, monkeypatch)
    test, again, train = (load_benchmark(name, tmp_path, split) for split in ("test", "test", "train"))
    assert test.images.paths == again.images.paths and len(test) and len(train)
    assert not {*test.images.paths} & {*train.images.paths}


def test_a_drawn_image_has_its_label(tmp_path, monkeypatch):
    WRITERS["eurosat"](tmp_path, monkeypatch)
    for split, count in (("test", 5), ("train", 10)):  # of 27 files, as of the 27,000
        data = load_benchmark("eurosat", tmp_path, split)
        assert len(data) == count
        folder = {"fields of annual crops": 0, "a river": 1, "the sea or a lake": 2}
        assert [folder[name] for name, _ in contents(data)] == [int(value) // 40 for _, value in contents(data)]


def test_sun397_without_its_lists_is_split_by_us_and_says_so(tmp_path, monkeypatch):
    WRITERS["sun397"](tmp_path, monkeypatch)
    for word in ("Training", "Testing"):
        (tmp_path / f"SUN397/{word}_01.txt").unlink()
    test, train = (load_benchmark("sun397", tmp_path, split) for split in ("test", "train"))
    assert not {*test.images.paths} & {*train.images.paths}
    assert "Testing_01.txt of SUN397's partitions is not in" in test.notes[0]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_set_may_lie_in_class_folders(name, tmp_path):
    folders(tmp_path / name / "test", ("left_hand", "right_hand"), 2)
    data = load_benchmark(name, tmp_path)
    pairs = [("left hand", 0), ("left hand", 2), ("right hand", 40), ("right hand", 42)]
    expected = [((n,), v) for n, v in pairs] if name == "voc2007" else pairs
    assert_holds(data, expected)
    assert found(tmp_path) == [name]


# ---- mistakes


@pytest.mark.parametrize("name", BENCHMARKS)
def test_what_is_not_there_is_told_with_what_to_bring(name, tmp_path):
    with pytest.raises(MinclipError) as error:
        load_benchmark(name, tmp_path)
    message = str(error.value)
    assert message.startswith(f"{name} ")
    assert f"{tmp_path / name / 'test'}/<class name>/<image>" in message
    assert ("download=True" in message) == (not BENCHMARKS[name].bring)
    assert BENCHMARKS[name].bring in message
    assert not any(tmp_path.iterdir())  # nothing was made


@pytest.mark.parametrize("name", [name for name, b in BENCHMARKS.items() if b.folder])
def test_an_empty_folder_in_its_place_is_told(name, tmp_path):
    (tmp_path / BENCHMARKS[name].folder).mkdir(parents=True)
    with pytest.raises(MinclipError, match=f"^{name} (can't be read in|needs)"):
        load_benchmark(name, tmp_path)


WRONG = {
    "food101": ("food-101/meta/test.json", b"{"),
    "food101 nested": ("food-101/meta/test.json", b"[" * 100_000),
    "food101 null": ("food-101/meta/test.json", b"null"),
    "food101 empty": ("food-101/meta/test.json", b""),
    "cifar10": ("cifar-10-batches-py/test_batch", b"junk"),
    "aircraft": ("fgvc-aircraft-2013b/data/images_variant_test.txt", b"7 Concorde\n"),
    "voc2007": ("VOCdevkit/VOC2007/Annotations/002000.xml", b"<annotation>"),
    "mnist": ("MNIST/raw/t10k-images-idx3-ubyte", b"junk"),
    "gtsrb": ("gtsrb/GT-final_test.csv", b"Filename,ClassId\n"),
    "gtsrb NULs": ("gtsrb/GT-final_test.csv", bytes(99)),
    "gtsrb empty": ("gtsrb/GT-final_test.csv", b""),
    "sun397": ("SUN397/Testing_01.txt", b"\xff\xfe"),
    "imagenet": ("ILSVRC2012/meta.bin", b"junk"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_in_the_wrong_format_is_told(case, tmp_path, monkeypatch):
    name = case.partition(" ")[0]
    WRITERS[name](tmp_path, monkeypatch)
    put(tmp_path / WRONG[case][0], WRONG[case][1])
    with pytest.raises(MinclipError, match=f"^{name} can't be read in .{{20}}"):
        load_benchmark(name, tmp_path)


def test_a_new_class_number_is_told(tmp_path, monkeypatch):
    WRITERS["gtsrb"](tmp_path, monkeypatch)
    path = tmp_path / "gtsrb/GT-final_test.csv"
    path.write_text(path.read_text().replace(";42", ";43"))
    with pytest.raises(MinclipError, match=r"labels up to 43 .* 43 class names"):
        load_benchmark("gtsrb", tmp_path)


def test_class_folders_need_two_classes(tmp_path):
    folders(tmp_path / "birdsnap/test", ["Blue_Jay"])
    with pytest.raises(MinclipError, match=r"birdsnap has 1 class folders.*<class name>/<image>"):
        load_benchmark("birdsnap", tmp_path)


@pytest.mark.parametrize("content", [b"no image", None], ids=["text", "missing"])
def test_an_image_that_is_none_is_told_by_name(tmp_path, monkeypatch, content):
    WRITERS["food101"](tmp_path, monkeypatch)
    path = tmp_path / "food-101/images/apple_pie/test.jpg"
    path.unlink()
    if content:
        put(path, content)
    with pytest.raises(MinclipError, match=f"^{re.escape(str(path))}(: | can't be read as an image| does not exist)"):
        load_benchmark("food101", tmp_path).images[0]


def test_unknown_names_and_splits_are_told(tmp_path, monkeypatch):
    with pytest.raises(MinclipError, match=r"no task is named 'cifar' \(did you mean 'cifar10'\?\)"):
        load_benchmark("cifar", tmp_path)
    with pytest.raises(MinclipError, match="mnist has no split 'val': choose from train, test"):
        load_benchmark("mnist", tmp_path, "val")


def test_faces_without_labels_are_told(tmp_path, monkeypatch):
    import torchvision

    path = tmp_path / "fer2013/test.csv"
    put(path, "pixels\n" + " ".join(["1"] * 48 * 48) + "\n")
    files = torchvision.datasets.FER2013._RESOURCES | {"test": ("test.csv", benchmark_files.md5(path))}
    monkeypatch.setattr(torchvision.datasets.FER2013, "_RESOURCES", files)
    with pytest.raises(MinclipError, match=r"test.csv has no labels: use fer2013.csv"):
        load_benchmark("fer2013", tmp_path)


@pytest.mark.parametrize(
    ("labels", "names"), [([0, 2], "ab"), ([0, -1], "ab"), ([0], "ab"), ([[True, False]] * 2, "abc")]
)
def test_labels_that_fit_neither_images_nor_names_are_errors(labels, names):
    with pytest.raises(MinclipError, match=r"each image needs one|don't fit"):
        Labeled([None, None], np.array(labels), tuple(names))


# ---- downloads


def test_nothing_is_downloaded_unless_asked(tmp_path, monkeypatch):
    import torchvision

    asked = []

    def download(self):
        asked.append(self.root)
        WRITERS["food101"](tmp_path, monkeypatch)

    monkeypatch.setattr(torchvision.datasets.Food101, "_download", download)
    with pytest.raises(MinclipError, match="download=True"):
        load_benchmark("food101", tmp_path)
    assert not asked
    assert len(load_benchmark("food101", tmp_path, download=True)) == 2 and len(asked) == 1
    assert len(load_benchmark("food101", tmp_path)) == 2 and len(asked) == 1


def test_a_download_that_fails_is_told(tmp_path, monkeypatch):
    import torchvision

    def fail(*arguments, **keywords):
        raise OSError("<urlopen error no route to host>")

    monkeypatch.setattr(torchvision.datasets.food101, "download_and_extract_archive", fail)
    with pytest.raises(MinclipError, match=r"food101 can't be downloaded to .+ no route to host>; try again"):
        load_benchmark("food101", tmp_path, download=True)


def test_grey_images_are_what_they_should_be(tmp_path):
    grey(tmp_path / "a.jpg", 77)
    from PIL import Image

    assert abs(np.asarray(Image.open(tmp_path / "a.jpg")).mean() - 77) < 1.5


def test_class_folders_of_any_split_are_found(tmp_path, monkeypatch):
    WRITERS["country211"](tmp_path / "theirs", monkeypatch)  # whose folders are called train, valid and test
    assert load_folders(tmp_path / "theirs/country211").keys() == {"train", "val", "test"}
    folders(tmp_path / "ours" / "dtd" / "train", ["banded", "dotted"])
    with pytest.raises(MinclipError, match="has no split 'val': it has train"):
        load_benchmark("dtd", tmp_path / "ours", "val")
    folders(tmp_path / "ours" / "dtd" / "val", ["banded", "dotted"])
    assert len(load_benchmark("dtd", tmp_path / "ours", "val")) == 2


def test_no_two_names_of_a_set_read_the_same():
    both = class_names("imagenet", ("Cardigan", "cardigan", "n02012849", "n03126707"))
    assert len({name.casefold() for name in both}) == 4


def test_a_library_that_is_missing_is_named_with_the_way_to_install_it(tmp_path, monkeypatch):
    def read(*_, **__):
        raise ModuleNotFoundError("No module named 'h5py'", name="h5py")

    benchmark = BENCHMARKS["cifar10"]
    (tmp_path / benchmark.folder).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr("minclip.evaluate.benchmarks.readers.read", read)
    with pytest.raises(MinclipError, match=r"^cifar10 needs h5py: pip install h5py$"):
        load_benchmark("cifar10", tmp_path)
