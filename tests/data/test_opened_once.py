"""Photographs are found once, followed through links, and packed again only when one that is used has changed."""

import os
import zipfile

import numpy as np
import pytest
from pictures import photograph, put_photographs

from minclip.config import MinclipError
from minclip.data import load_pairs
from minclip.data.photos import pack as module
from minclip.data.photos.photographs import find_photographs
from minclip.data.photos.source import Source

pytestmark = pytest.mark.usefixtures("data_home")
NAMES = [f"{i:03}.jpg" for i in range(60)]


@pytest.fixture
def root(tmp_path):
    put_photographs(tmp_path / "root" / "Images", NAMES)
    table = "image,caption\n" + "".join(f"Images/{name},A dog .\n" for name in NAMES)
    (tmp_path / "root" / "captions.csv").write_text(table)
    return tmp_path / "root"


@pytest.fixture
def decoded(monkeypatch):
    """How many photographs have been decoded so far."""
    count, decode = [], module.decode
    monkeypatch.setattr(module, "decode", lambda *given: count.append(1) or decode(*given))
    return count


def load(root, split="train", image_size=16):
    return load_pairs("own", split, image_size=image_size, root=root)


def packs(data_home):
    return sorted((data_home / "cache").glob("*.u8"))


def as_zip(folder, extra=()):
    path = folder.with_name("photos.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder))
        for name in extra:
            archive.writestr(name, photograph(9))
    return path


def test_three_splits_read_the_root_once(root, monkeypatch):
    walks, reads, walk, text = [], [], os.walk, Source.text
    monkeypatch.setattr(os, "walk", lambda *given, **named: walks.append(given) or walk(*given, **named))
    monkeypatch.setattr(Source, "text", lambda self, path: reads.append(path) or text(self, path))
    found = find_photographs("own", root)
    pairs = [found.load(split, image_size=16) for split in found.splits]
    assert sorted(name for p in pairs for name in p.names) == NAMES
    assert len(walks) == 1 and reads == ["captions.csv"]


def test_size_takes_the_first_images_and_has_a_pack_of_its_own(root, decoded):
    found = find_photographs("own", root)
    whole, few = found.load("train", image_size=16), found.load("train", image_size=16, size=5)
    assert few.names == whole.names[:5] and (few.images == whole.images[:5]).all()
    count = len(decoded)
    assert found.load("train", image_size=16).names == whole.names and len(decoded) == count


# ---- what is packed anew, and what is not


@pytest.mark.parametrize("packing", ["folder", "zip"])
def test_a_picture_that_is_not_used_packs_nothing_anew(root, decoded, packing):
    before = load(as_zip(root) if packing == "zip" else root)
    count = len(decoded)
    put_photographs(root, ["curves.png"])
    put_photographs(root / "Images", ["search.png"])
    after = load(as_zip(root, ["more.jpg"]) if packing == "zip" else root)
    assert len(decoded) == count and after.names == before.names and (after.images == before.images).all()
    assert any("curves.png" in note for note in after.notes)


def test_packs_of_a_root_replace_each_other(root, data_home, decoded):
    for split, size in (("train", 16), ("val", 16), ("train", 20)):
        load(root, split, size)
    first, before = load(root), packs(data_home)
    pixels = np.array(first.images)
    put_photographs(root / "Images", [first.names[0]])
    (root / "Images" / first.names[1]).write_bytes(b"broken")
    second = load(root)
    after = packs(data_home)
    assert len(before) == len(after) == 3 and len(set(before) & set(after)) == 2
    assert (first.images == pixels).all() and second.names == [first.names[0], *first.names[2:]]
    (root / "Images" / first.names[1]).write_bytes(photograph())
    load(root)
    assert len(packs(data_home)) == len(list((data_home / "cache").glob("*.json"))) == 3


def test_an_added_image_replaces_the_pack(root, data_home):
    load(root)
    put_photographs(root / "Images", ["train-0.jpg", "train-1.jpg", "train-2.jpg"])
    with (root / "captions.csv").open("a") as file:
        file.writelines(f"Images/train-{i}.jpg,A cat .\n" for i in range(3))
    load(root)
    assert len(packs(data_home)) == 1


def test_the_same_pictures_elsewhere_have_packs_of_their_own(root, tmp_path, data_home):
    load(root)
    load(as_zip(root))
    assert len(packs(data_home)) == 2


def test_a_pack_that_another_process_takes_away_meanwhile_is_packed_anew(root, monkeypatch):
    expected, is_taken, memmap = np.array(load(root).images), [], np.memmap

    def take(path, *given, **named):
        if not is_taken:
            is_taken.append(path)
            os.unlink(path)
        return memmap(path, *given, **named)

    monkeypatch.setattr(np, "memmap", take)
    assert (load(root).images == expected).all() and is_taken


def test_where_a_mapped_file_can_not_be_removed(root, data_home, monkeypatch):
    """As on Windows: an old pack stays until the next time; a damaged one is named."""
    first, unlink = load(root), module.Path.unlink

    def refuse(path, missing_ok=False):
        if path.suffix == ".u8":
            raise PermissionError(13, "a user-mapped section is open", str(path))
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(module.Path, "unlink", refuse)
        put_photographs(root / "Images", [first.names[-1]])
        load(root)
        assert len(packs(data_home)) == 2
        for path in packs(data_home):
            os.truncate(path, 5)
        with pytest.raises(MinclipError, match=r"open.*\.u8"):
            load(root)
    put_photographs(root / "Images", [first.names[-2]])
    load(root)
    assert len(packs(data_home)) == 1


# ---- links


def link(place, target, **options):
    try:
        os.symlink(target, place, **options)
    except OSError:
        pytest.skip("this system makes no symbolic links")


def test_a_link_to_the_folder_of_images_is_followed(root, tmp_path):
    (root / "Images").rename(tmp_path / "elsewhere")
    link(root / "Images", tmp_path / "elsewhere", target_is_directory=True)
    found = find_photographs("own", root)
    assert "left out" not in str(found.notes) and found.places["000.jpg"] == "Images/000.jpg"
    assert len(Source.open(root).images) == 60


def test_a_link_to_an_image_is_followed_and_one_to_nothing_is_no_image(root, tmp_path):
    (root / "Images" / "000.jpg").rename(tmp_path / "0.jpg")
    link(root / "Images" / "000.jpg", tmp_path / "0.jpg")
    link(root / "Images" / "gone.jpg", tmp_path / "nowhere.jpg")
    assert "left out" not in str(find_photographs("own", root).notes)


@pytest.mark.parametrize("target", [".", "Images", ".."])
def test_links_in_a_circle_end_and_show_no_image_twice(root, target):
    link(root / "Images" / "again", root / target, target_is_directory=True)
    link(root / "again", root / "Images", target_is_directory=True)
    images = Source.open(root).images
    assert [p for p in images if p.startswith("Images/0")] == images == [f"Images/{name}" for name in NAMES]


# ---- lists beside the root, and a table as root


def test_only_a_whole_word_names_a_split(root, tmp_path):
    (tmp_path / "train.txt").write_text("\n".join(NAMES[:40]))
    (tmp_path / "interval.txt").write_text("\n".join(NAMES[40:50]))
    (tmp_path / "contest.txt").write_text("\n".join(NAMES[50:]))
    assert len(find_photographs("own", root).splits["train"]) > 45
    (tmp_path / "Flickr_8k.devImages.txt").write_text("\n".join(NAMES[40:]))
    assert find_photographs("own", root).splits == {"train": NAMES[:40], "val": NAMES[40:]}


@pytest.mark.skipif(os.name != "posix", reason="a sparse file")
@pytest.mark.parametrize("place", ["beside", "below"])
def test_a_text_that_is_far_too_long_for_a_list_is_not_read(root, tmp_path, place):
    path = (tmp_path if place == "beside" else root) / "train.txt"
    path.touch()
    os.truncate(path, 2**40)
    assert len(find_photographs("own", root).splits["train"]) > 45


def test_a_table_as_root_walks_no_folder_where_its_images_are_at_their_places(root, monkeypatch):
    def walk(*given, **named):
        raise AssertionError("the folder was walked")

    monkeypatch.setattr(os, "walk", walk)
    found = find_photographs("own", root / "captions.csv")
    assert len(found.captions) == 60 and "left out" not in str(found.notes) and found.read("007.jpg") == photograph(28)


def test_a_table_as_root_still_finds_images_by_their_names(root):
    table = root / "captions.csv"
    table.write_text(table.read_text().replace("Images/", ""))
    (root / "train.txt").write_text("\n".join(NAMES[:50]))
    (root / "val.txt").write_text("\n".join(NAMES[50:]))
    found = find_photographs("own", table)
    assert "left out" not in str(found.notes) and found.splits == {"train": NAMES[:50], "val": NAMES[50:]}
