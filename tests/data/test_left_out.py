"""What is left out is said: files of other kinds, folders that can't be opened, names in no list or in two, the same
picture in two splits, captions that are cut, and splits that can't be evaluated; and names are found as people write them.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from disks import small_disk
from pictures import photograph, put_photographs
from PIL import Image
from training_runs import tiny

import minclip
from minclip.cli import main
from minclip.config import DataConfig, MinclipError
from minclip.data import load_pairs
from minclip.data.photos.images import endings, read_image
from minclip.data.photos.pack import same_images
from minclip.data.photos.photographs import find_photographs
from minclip.data.photos.source import Finder
from minclip.data.stream import Stream, cut_captions
from minclip.evaluate.search import Index
from minclip.loop import train
from minclip.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("data_home")
NAMES = [f"{i:03}.jpg" for i in range(12)]
DEMO = Path(__file__).parents[2] / "data" / "demo"
NFC, NFD = (unicodedata.normalize(form, "café-é.jpg") for form in ("NFC", "NFD"))


@pytest.fixture
def root(tmp_path):
    put_photographs(tmp_path / "root", NAMES)
    listed(tmp_path / "root", NAMES)
    return tmp_path / "root"


def listed(folder, names, caption="a dog number"):
    table = "image,caption\n" + "".join(f"{name},{caption} {i}\n" for i, name in enumerate(names))
    (folder / "captions.csv").write_text(table, encoding="utf-8")


def split_by_lists(root, **names):
    for split, members in names.items():
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in members), encoding="utf-8")


def as_zip(folder, separator="/"):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in (file for file in sorted(folder.rglob("*")) if file.is_file()):
            archive.writestr(file.relative_to(folder).as_posix().replace("/", separator), file.read_bytes())
    return path


def notes_on(root, *words):
    """The notes in which all the words occur."""
    return [note for note in find_photographs("own", root).notes if all(word in note for word in words)]


def config_of(root, batch_size=4, **loop):
    config = tiny({"batch_size": batch_size, "steps": 2, **loop})
    return replace(config, data=DataConfig("own", str(root), image_size=16))


# ---- kinds of files


def encoded(kind, **options):
    file = io.BytesIO()
    Image.new("RGB", (24, 24), (200, 100, 50)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "ending, kind", [("jfif", "JPEG"), ("avif", "AVIF"), ("jp2", "JPEG2000"), ("JPE", "JPEG"), ("ppm", "PPM")]
)
def test_what_pillow_reads_is_read(tmp_path, ending, kind):
    if f".{ending}".lower() not in endings():
        pytest.skip(f"this Pillow has no {kind}")
    put_photographs(tmp_path, ["0.jpg"])
    (tmp_path / f"1.{ending}").write_bytes(encoded(kind))
    listed(tmp_path, ["0.jpg", f"1.{ending}"])
    found = find_photographs("own", tmp_path)
    assert found.notes == () and found.places.keys() == {"0.jpg", f"1.{ending}"}
    pixels = np.asarray(read_image(found.read(f"1.{ending}"), 16)).reshape(-1, 3)
    assert np.abs(pixels.mean(axis=0) - (200, 100, 50)).max() < 6


def test_heic_is_read_with_pillow_heif(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    put_photographs(tmp_path, ["0.jpg"])
    (tmp_path / "IMG_1.HEIC").write_bytes(encoded("HEIF", quality=95))
    (tmp_path / "IMG_2.jpg").write_bytes(encoded("HEIF", quality=95))  # phones rename them
    listed(tmp_path, ["0.jpg", "IMG_1.heic", "IMG_2.jpg"])
    found = find_photographs("own", tmp_path)
    assert found.notes == () and len(found.places) == 3
    for name in ("IMG_1.HEIC", "IMG_2.jpg"):
        pixels = np.asarray(read_image(found.read(name), 16)).reshape(-1, 3)
        assert np.abs(pixels.mean(axis=0) - (200, 100, 50)).max() < 6


@pytest.fixture
def without_heif(monkeypatch):
    """As if pillow-heif were not installed."""
    readable = tuple(ending for ending in endings() if not ending.startswith((".hei", ".hif")))
    for module in ("minclip.data.photos.source", "minclip.evaluate.search"):
        monkeypatch.setattr(f"{module}.endings", lambda: readable)


@pytest.mark.usefixtures("without_heif")
@pytest.mark.parametrize("packing", ["folder", "zip"])
def test_kinds_that_can_not_be_read_are_counted_and_named_with_what_to_do(root, packing):
    for name in ("IMG_1.HEIC", "IMG_2.heic", "logo.svg", "clip.mp4", "scan.CR2"):
        (root / name).write_bytes(b"data")
    listed(root, [*NAMES, "IMG_1.heic"])
    root = as_zip(root) if packing == "zip" else root
    (heic,) = notes_on(root, "IMG_1.HEIC", "IMG_2.heic", "pillow-heif")
    assert heic.startswith("2 ")
    assert notes_on(root, "logo.svg", "scan.CR2", "JPEG")[0].startswith("2 ")
    assert notes_on(root, "clip.mp4", "frames")[0].startswith("1 ")
    assert notes_on(root, "missing") == []  # it is there, but can't be read


@pytest.mark.usefixtures("without_heif")
def test_nothing_but_files_that_can_not_be_read_says_what_to_install(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.heic").write_bytes(b"data")
        (tmp_path / f"{i}.txt").write_text("a dog")
    with pytest.raises(MinclipError, match="pillow-heif"):
        find_photographs("own", tmp_path)


def test_an_archive_among_the_photographs_is_told(root):
    (root / "more.zip").write_bytes(b"PK")
    assert notes_on(root, "more.zip", "unpack")


@pytest.mark.usefixtures("without_heif")
def test_a_search_says_what_it_passed_over(tmp_path):
    put_photographs(tmp_path / "photos", ["a.jpg", "b.JFIF"])
    (tmp_path / "photos" / "c.heic").write_bytes(b"data")
    demo = minclip.load(DEMO)
    index = Index.of(tmp_path / "photos", demo)
    assert index.paths == ["a.jpg", "b.JFIF"]
    assert [note for note in index.notes if "c.heic" in note and "pillow-heif" in note]
    for name in ("a.jpg", "b.JFIF"):
        (tmp_path / "photos" / name).unlink()
    with pytest.raises(MinclipError, match=r"c\.heic"):
        Index.of(tmp_path / "photos", demo)


@pytest.mark.parametrize("kind", ["EPS", "ICO"])
def test_a_file_of_another_kind_is_no_image_whatever_its_ending(kind):
    with pytest.raises(ValueError, match="not an image"):  # Pillow would start Ghostscript for an EPS
        read_image(encoded(kind), 16)


def test_an_animation_gives_its_first_picture_and_an_empty_file_says_so():
    file = io.BytesIO()
    frames = [Image.new("RGB", (24, 24), color) for color in ("red", "blue")]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert read_image(file.getvalue(), 16).getpixel((5, 5)) == (255, 0, 0)
    with pytest.raises(ValueError, match="empty"):
        read_image(b"", 16)


# ---- names


def test_the_case_of_an_ending_does_not_matter(tmp_path):
    put_photographs(tmp_path, ["A.JPG", "b.jpg"])
    listed(tmp_path, ["a.jpg", "B.JPG"])
    found = find_photographs("own", tmp_path)
    assert found.notes == () and found.places == {"A.JPG": "A.JPG", "b.jpg": "b.jpg"}
    assert found.captions["A.JPG"] == ["a dog number 0"]


@pytest.mark.parametrize("packing", ["folder", "zip"])
@pytest.mark.parametrize("written, on_disk", [(NFC, NFD), (NFD, NFC), (f"Fotos/{NFC}", f"fotos/{NFD.upper()}")])
def test_the_unicode_form_of_a_name_does_not_matter(tmp_path, packing, written, on_disk):
    root = tmp_path / "root"
    put_photographs((root / on_disk).parent, [on_disk.split("/")[-1], "other.jpg"])
    listed(root, [written, "other.jpg"])
    split_by_lists(root, train=[written], val=["other.jpg"])
    found = find_photographs("own", as_zip(root) if packing == "zip" else root)
    assert found.notes == () and found.splits == {"train": [on_disk.split("/")[-1]], "val": ["other.jpg"]}


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that keeps both names")
def test_a_text_beside_its_image_may_differ_in_case_and_unicode_form(tmp_path):
    put_photographs(tmp_path, [NFD, "IMG_1.JPG", "a.jpg", "A.jpg"])
    for name in (NFC, "img_1.x", "a.x", "A.x"):
        (tmp_path / name).with_suffix(".txt").write_text(f"about {name}")
    found = find_photographs("own", tmp_path)
    wanted = {NFD: NFC, "IMG_1.JPG": "img_1.x", "a.jpg": "a.x", "A.jpg": "A.x"}
    assert found.captions == {image: [f"about {name}"] for image, name in wanted.items()}


def test_names_that_differ_in_case_only_are_told_apart_or_refused(tmp_path):
    if sys.platform != "linux":
        pytest.skip("needs a file system that keeps both names")
    put_photographs(tmp_path, ["IMG_1.jpg", "IMG_1.JPG"])
    listed(tmp_path, ["IMG_1.jpg", "IMG_1.JPG"])
    found = find_photographs("own", tmp_path)
    assert found.places == {"IMG_1.jpg": "IMG_1.jpg", "IMG_1.JPG": "IMG_1.JPG"}
    listed(tmp_path, ["IMG_1.jpg", "img_1.jpg"])
    with pytest.raises(
        MinclipError, match=r"captions\.csv line 3.*img_1\.jpg.*(IMG_1\.JPG.*IMG_1\.jpg|IMG_1\.jpg.*IMG_1\.JPG)"
    ):
        find_photographs("own", tmp_path)


def test_the_name_as_written_comes_before_one_that_differs_in_case():
    finder = Finder(["Dogs/1.jpg", "dogs/1.JPG", "cats/1.jpg", f"x/{NFD}", "plain"])
    assert finder.find("dogs/1.JPG") == ["dogs/1.JPG"] and finder.find("Dogs/1.jpg") == ["Dogs/1.jpg"]
    assert finder.find("CATS/1.JPG") == ["cats/1.jpg"] == finder.find("/home/me/Cats/1.jpg")
    assert finder.find("dogs/1.Jpg") == ["Dogs/1.jpg", "dogs/1.JPG"]
    assert finder.find(NFC, by_name=True) == [f"x/{NFD}"] == finder.find(f"X\\{NFC}")
    assert finder.find("elsewhere/1.JPG", by_name=True) == ["dogs/1.JPG"]
    assert finder.find("plain") == ["plain"] == finder.find("PLAIN")
    assert finder.find("1.jpg", by_name=True) == ["Dogs/1.jpg", "cats/1.jpg"]


def test_backslashes_in_a_zip_are_folders(root):
    (root / "sub").mkdir()
    for name in NAMES[:6]:
        (root / name).rename(root / "sub" / name)
    listed(root, [f"sub\\{name}" if name in NAMES[:6] else name for name in NAMES])
    found = find_photographs("own", as_zip(root, "\\"))
    assert found.notes == () and found.places[NAMES[0]] == f"sub/{NAMES[0]}"
    assert found.read(NAMES[0]) == photograph(0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_and_one_with_a_space_at_its_end_load(tmp_path):
    put_photographs(tmp_path, ["0.jpg", "1.jpg "])
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(photograph())
    for stem in ("0", "1", os.fsdecode(b"caf\xe9")):
        (tmp_path / f"{stem}.txt").write_text("a dog")
    listed(tmp_path, ["0.jpg", "1.jpg "])
    assert find_photographs("own", tmp_path).places.keys() == {"0.jpg", "1.jpg "}
    (tmp_path / "captions.csv").unlink()
    assert len(load_pairs("own", "train", root=tmp_path, image_size=16)) > 0


def test_thirty_thousand_names_are_found_at_once():
    names = [f"Images/dir{i % 50}/{1000092795 + i * 37}.jpg" for i in range(30_000)]
    finder = Finder(names)
    assert all(finder.find_one(name.split("/")[-1].upper(), "", by_name=True) == name for name in names)


# ---- links and folders


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_links_are_followed_and_loops_and_broken_links_do_no_harm(tmp_path):
    put_photographs(tmp_path / "elsewhere", ["0.jpg", "1.jpg"])
    root = tmp_path / "root"
    put_photographs(root, ["2.jpg"])
    (root / "linked.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    (root / "broken.jpg").symlink_to(tmp_path / "nothing")
    (root / "self.jpg").symlink_to(root / "self.jpg")
    (root / "sub").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    (root / "folder.jpg").mkdir()
    listed(root, ["sub/0.jpg", "linked.jpg", "2.jpg", "broken.jpg"])
    (tmp_path / "elsewhere" / "lists").mkdir()
    split_by_lists(tmp_path / "elsewhere" / "lists", train=["0.jpg", "2.jpg"], val=["linked.jpg"])
    for split in ("train", "val"):
        (root / f"{split}.txt").symlink_to(tmp_path / "elsewhere" / "lists" / f"{split}.txt")
    (tmp_path / "link").symlink_to(root)
    found = find_photographs("own", tmp_path / "link")
    assert found.places == {"0.jpg": "sub/0.jpg", "linked.jpg": "linked.jpg", "2.jpg": "2.jpg"}
    assert found.splits == {"train": ["0.jpg", "2.jpg"], "val": ["linked.jpg"]}
    assert len(notes_on(root, "broken.jpg", "missing")) == 1


def test_a_folder_that_can_not_be_opened_is_told(root, monkeypatch):
    put_photographs(root / "private", ["x.jpg"])
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "private" not in str(path) and access(path, mode))
    assert notes_on(root, "private")[0].startswith("1 ")


@pytest.mark.parametrize("wrong", ["x" * 5000, "a\0b", "nowhere", "nowhere/deeper"])
def test_a_root_that_can_not_be_opened_is_one_sentence(here, wrong):
    for attempt in (lambda: find_photographs("own", wrong), lambda: Index.of(wrong, minclip.load(DEMO))):
        with pytest.raises(MinclipError) as caught:
            attempt()
        assert len(str(caught.value)) < 600
    if wrong == "nowhere":
        with pytest.raises(MinclipError, match=re.escape(str(here))):  # a relative path depends on the folder
            find_photographs("own", wrong)


def test_a_tilde_is_the_home_folder(root, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(root.parent))
    assert len(find_photographs("own", "~/root").captions) == len(find_photographs("own", root).captions) == len(NAMES)
    with pytest.raises(MinclipError, match="~nobody-here"):
        find_photographs("own", "~nobody-here/root")


@pytest.mark.parametrize("name", ["photo.jpg", "photos.tar", "photos.rar"])
def test_a_root_that_is_a_file_of_another_kind_is_refused(here, name):
    Path(name).write_bytes(photograph())
    with pytest.raises(MinclipError, match=re.escape(name)):
        find_photographs("own", name)


def test_a_zip_may_have_any_name(root):
    path = as_zip(root).rename(root.with_name("archive (1)"))
    assert len(find_photographs("own", path).places) == 12


# ---- splits


def test_a_name_in_several_lists_is_evaluated_and_not_learned(root):
    split_by_lists(root, train=NAMES[:9], val=NAMES[8:10], test=[NAMES[0], NAMES[9], NAMES[10]])
    found = find_photographs("own", root)
    assert found.splits == {"train": NAMES[1:8], "val": [NAMES[8]], "test": [NAMES[0], NAMES[9], NAMES[10]]}
    notes = found.load("train", image_size=16).notes
    (twice,) = [note for note in notes if "several lists" in note]
    assert twice.startswith("3 ") and all(f"{name} from" in twice for name in (NAMES[0], NAMES[8], NAMES[9]))
    (none,) = [note for note in notes if "no split" in note]
    assert none.startswith("1 ") and NAMES[11] in none


def test_an_unreadable_test_split_falls_back_to_val_before_the_first_step(root, tmp_path, capsys, monkeypatch):
    split_by_lists(root, train=NAMES[:8], val=NAMES[8:10], test=NAMES[10:])
    (root / NAMES[10]).write_bytes(b"broken")
    (root / NAMES[11]).unlink()
    stream = Stream(config_of(root))
    assert stream.evaluation().keys() == {"val"}
    assert [note for note in stream.notes if NAMES[10] in note and "val" in note]
    run = train(config_of(root), tmp_path / "run")
    assert run.final.keys() == {"val"}
    out = capsys.readouterr().out
    assert out.index(f"{NAMES[10]} (not an image)") >= 0
    assert train(config_of(root, steps=4), tmp_path / "run", resume=True).final.keys() == {"val"}
    assert main(["eval", str(tmp_path / "run")]) == 0
    assert NAMES[10] in capsys.readouterr().out


def test_a_disk_that_is_full_for_the_test_split_is_refused(root, monkeypatch):
    split_by_lists(root, train=NAMES[:8], val=NAMES[8:10], test=NAMES[10:])
    usage, free = namedtuple("usage", "total used free"), iter((10**6, 10**6, 100))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, next(free)))
    with pytest.raises(MinclipError, match="MB"):
        Stream(config_of(root))


def test_all_splits_are_packed_before_the_first_step(root, data_home):
    split_by_lists(root, train=NAMES[:8], val=NAMES[8:10], test=NAMES[10:])
    stream = Stream(config_of(root))
    assert len(list((data_home / "cache").glob("*.u8"))) == 3
    shutil.rmtree(root)
    assert stream.evaluation()["test"].names == NAMES[10:]


def test_few_images_are_told(root):
    split_by_lists(root, train=NAMES[:8], val=NAMES[8:9], test=NAMES[9:])
    notes = Stream(config_of(root)).notes
    assert [note for note in notes if "val" in note and "(1)" in note]
    assert [note for note in notes if "test" in note and "(3)" in note]


# ---- the same picture twice


def twins(root):
    (root / NAMES[11]).write_bytes((root / NAMES[2]).read_bytes())
    Image.open(root / NAMES[3]).save(root / NAMES[10], "BMP")  # the same pixels in another kind of file
    (root / NAMES[8]).write_bytes((root / NAMES[0]).read_bytes())
    split_by_lists(root, train=NAMES[:8], val=NAMES[8:9], test=NAMES[9:])


def test_a_picture_in_train_and_test_under_two_names_is_told(root):
    twins(root)
    notes = [note for note in Stream(config_of(root)).notes if "also in train" in note]
    assert [note.split(" images")[0] for note in notes] == ["1 of the 1 val", "2 of the 3 test"]
    assert f"{NAMES[11]} = {NAMES[2]}" in notes[1] and f"{NAMES[10]} = {NAMES[3]}" in notes[1]


@pytest.mark.parametrize("digests", ["[]", '"abc"', "[[1], [2], [3]]", "[1, 2, 3]"])
def test_a_damaged_list_of_digests_is_made_anew(root, digests):
    twins(root)
    some, others = (load_pairs("own", split, root=root, image_size=16).images for split in ("train", "test"))
    assert same_images(some, others) == [(3, 1), (2, 2)]
    path = Path(others.filename).with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "digests": json.loads(digests)}))
    others = load_pairs("own", "test", root=root, image_size=16).images
    assert same_images(some, others) == [(3, 1), (2, 2)]
    path.unlink()  # another process has replaced the pack
    assert same_images(some, others) == []


def test_images_that_differ_in_a_pixel_are_not_equal(root):
    split_by_lists(root, train=NAMES[:8], val=NAMES[8:9], test=NAMES[9:])
    for name in (NAMES[0], NAMES[9]):
        image = Image.new("RGB", (24, 24), "white")
        image.putpixel((2, 2 if name == NAMES[0] else 20), (0, 0, 0))
        image.save(root / name, "PNG")
    assert not [note for note in Stream(config_of(root)).notes if "also in train" in note]


# ---- long captions


def test_captions_that_are_cut_are_counted_once(root, tmp_path, capsys, recwarn):
    listed(root, NAMES, caption="word " * 60)
    split_by_lists(root, train=NAMES[:8], val=NAMES[8:10], test=NAMES[10:])
    train(config_of(root), tmp_path / "run")
    (note,) = re.findall(
        r"note: (\d+) of (\d+) captions \((\S+)%\).*model\.text\.context_length (\d+) .* (\d+) ",
        capsys.readouterr().out,
    )
    assert note[:4] == ("8", "8", "100.0", "40") and int(note[4]) > 60
    assert not [w for w in recwarn if "cut" in str(w.message)]


def test_the_longest_caption_would_fit_into_what_is_proposed():
    tokenizer = Tokenizer([])
    texts = ["a dog", "two dogs " * 9, "日本語" * 30]
    tokenizer.context_length = 12
    with pytest.warns(UserWarning):
        tokenizer(texts[1:], 12)
    length = int(re.findall(r"(\d+) would", cut_captions(texts, tokenizer))[0])
    before = tokenizer.truncated
    assert tokenizer(texts, length).shape[1] == length and tokenizer.truncated == before
    tokenizer(texts, length - 1)
    assert tokenizer.truncated == before + 1


# ---- room on the disk, and folders that can't be written


def test_a_disk_without_room_for_checkpoints_is_refused_before_the_first_step(root, tmp_path, monkeypatch):
    usage, free = namedtuple("usage", "total used free"), shutil.disk_usage
    folder = tmp_path / "runs" / "a"
    few = lambda path: usage(10**9, 0, 100_000) if "runs" in str(path) else free(path)  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", few)
    with pytest.raises(MinclipError, match=r"[\d.,]+ MB .* 0\.1 MB"):
        train(config_of(root), folder)
    assert not folder.exists()


def test_a_resumed_run_needs_room_for_one_more_checkpoint_only(root, tmp_path, monkeypatch):
    folder, usage, free = tmp_path / "runs" / "a", namedtuple("usage", "total used free"), shutil.disk_usage
    train(config_of(root), folder)
    state = (folder / "state.pt").stat().st_size
    for room, fits in ((1.1, True), (0.3, False)):
        left = lambda path: usage(10**9, 0, int(room * state)) if "runs" in str(path) else free(path)  # noqa: E731, B023
        monkeypatch.setattr(shutil, "disk_usage", left)
        if fits:
            assert train(config_of(root, steps=3), folder, resume=True).final
        else:
            with pytest.raises(MinclipError, match="MB"):
                train(config_of(root, steps=5), folder, resume=True)


@pytest.fixture
def sealed(tmp_path):
    with small_disk(tmp_path / "disk", "3m") as folder:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield folder


def test_a_data_folder_that_can_not_be_written_is_one_sentence(root, sealed, monkeypatch):
    monkeypatch.setenv("MINCLIP_DATA", str(sealed))
    with pytest.raises(MinclipError, match=rf"{re.escape(str(sealed))}.*MINCLIP_DATA"):
        Stream(config_of(root))


def test_a_runs_folder_that_can_not_be_written_is_one_sentence(root, sealed):
    with pytest.raises(MinclipError, match=re.escape(str(sealed))):
        train(config_of(root), sealed / "runs" / "a")


# ---- a root that is a relative path


def test_a_relative_root_is_found_again_or_the_place_is_named(here, root, capsys, monkeypatch):
    split_by_lists(root, train=NAMES[:8], val=NAMES[8:10], test=NAMES[10:])
    train(config_of("root"), "runs/root")
    assert main(["eval", "root"]) in (0, 2)  # see weights/folder.py
    assert main(["eval", "runs/root"]) == 0
    (here / "other").mkdir()
    monkeypatch.chdir(here / "other")
    capsys.readouterr()
    assert main(["eval", str(here / "runs" / "root")]) == 2
    err = capsys.readouterr().err
    assert str(here / "other" / "root") in err  # where it was looked for
    assert main(["eval", str(here / "runs" / "root"), "--root", str(root)]) == 0
