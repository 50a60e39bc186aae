"""Flickr8k and Flickr30k: every layout that Kaggle delivers, from a folder and from the zip, and everything that is broken."""

import csv
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import photograph, put_photographs, zipped
from PIL import Image

from minclip.config import DataConfig, MinclipError
from minclip.data import load_pairs, open_data
from minclip.data.photos import pack as packing
from minclip.data.photos.photographs import bucket, find_photographs, read_splits
from minclip.data.photos.source import Source


def load_flickr(root, split="train", image_size=16, size=None):
    return find_photographs("flickr30k", root).load(split, image_size=image_size, size=size)


pytestmark = pytest.mark.usefixtures("data_home")
NAMES = [f"{1000 + i}_{i:x}.jpg" for i in range(60)]
CAPTIONS = {name: [f"caption {j} of {name[:4]}, a dog" for j in range(5)] for name in NAMES}
ROW_19999 = "2199200615.jpg| 4   A dog runs across the grass ."


def captions_txt(captions):
    file = io.StringIO()
    file.write("image,caption\n")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows((name, caption) for name, texts in captions.items() for caption in texts)
    return file.getvalue()


def results_csv(captions):
    rows = [f"{name}| {j}| {caption}" for name, texts in captions.items() for j, caption in enumerate(texts)]
    return "\n".join(["image_name| comment_number| comment", *rows]) + "\n"


def lay_out(root, layout, captions=CAPTIONS, names=NAMES):
    """A folder as Kaggle delivers it."""
    root.mkdir(parents=True, exist_ok=True)
    if layout == "captions.txt":
        put_photographs(root / "Images", names)
        (root / "captions.txt").write_text(captions_txt(captions), encoding="utf-8")
    else:  # hsankesara: the folder is there twice
        put_photographs(root / "flickr30k_images" / "flickr30k_images", names)
        (root / "flickr30k_images" / "results.csv").write_text(results_csv(captions), encoding="utf-8")
    return root


def flickr_splits(root):
    return find_photographs("flickr30k", root).splits


def read(text, layout="captions.txt", tmp=None):
    (tmp / layout).write_text(text, encoding="utf-8")
    return find_photographs("flickr30k", tmp).captions


# ---- layouts


@pytest.mark.parametrize("packing", ["folder", "zip", "zip with macOS junk"])
@pytest.mark.parametrize("layout", ["captions.txt", "results.csv"])
def test_every_layout_gives_the_same_pairs(tmp_path, layout, packing):
    root = lay_out(tmp_path / "flickr", layout)
    root = root if packing == "folder" else zipped(root, junk="junk" in packing)
    pairs = [load_flickr(root, split, 16) for split in ("train", "val", "test")]
    found = {name: captions for p in pairs for name, captions in zip(p.names, p.captions)}
    assert found == CAPTIONS and all(p.notes == () for p in pairs)


def test_images_belong_to_their_names(tmp_path):
    pairs = load_flickr(lay_out(tmp_path / "flickr", "captions.txt"), "train", 16)
    for image, name in zip(pairs.images, pairs.names):
        assert abs(image.mean(axis=(1, 2)) - [4 * NAMES.index(name), 100, 50]).max() < 5


def test_images_are_a_memory_map_of_the_asked_size(tmp_path):
    pairs = load_flickr(lay_out(tmp_path / "flickr", "captions.txt"), "train", 20)
    assert isinstance(pairs.images, np.memmap) and pairs.images.shape == (len(pairs), 3, 20, 20)


def test_size_takes_the_first_images(tmp_path):
    root = lay_out(tmp_path / "flickr", "captions.txt")
    assert load_flickr(root, "train", 16, 7).names == load_flickr(root, "train", 16).names[:7]


def test_the_order_of_the_rows_is_not_that_of_the_images(tmp_path):
    root = lay_out(tmp_path / "flickr", "captions.txt")
    (root / "captions.txt").write_text(captions_txt(dict(reversed(CAPTIONS.items()))))
    assert list(find_photographs("flickr30k", root).captions.items()) == list(CAPTIONS.items())


def test_load_pairs_reads_both_names(tmp_path):
    root = lay_out(tmp_path / "flickr", "results.csv")
    assert (
        load_pairs("flickr8k", "train", image_size=16, root=root).names
        == load_pairs("flickr30k", "train", image_size=16, root=root).names
    )


def test_photographs_lie_anywhere_below_the_root(tmp_path):
    root = lay_out(tmp_path / "a" / "deep" / "folder", "captions.txt")
    assert len(flickr_splits(tmp_path / "a")["train"]) == len(flickr_splits(root)["train"])


# ---- reading captions.txt


def test_quoted_commas_and_leading_spaces_are_read(tmp_path):
    text = 'image,caption\na.jpg,"Two dogs, one cat ."\na.jpg, "A dog, a ball ."\na.jpg, A leading space .\na.jpg,"He says ""hi"" ."\n'
    expected = ["Two dogs, one cat .", "A dog, a ball .", "A leading space .", 'He says "hi" .']
    assert read(text, tmp=tmp_path) == {"a.jpg": expected}


def test_a_quote_inside_an_unquoted_caption_is_text(tmp_path):
    assert read('image,caption\na.jpg,A 6" tall "man" .\n', tmp=tmp_path) == {"a.jpg": ['A 6" tall "man" .']}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_byte_order_marks_and_empty_lines_do_no_harm(tmp_path, end):
    text = "\ufeff" + end.join(["image,caption", "a.jpg,One .", "", "b.jpg,Zwei Hündchen .", ""])
    (tmp_path / "captions.txt").write_bytes(text.encode())
    assert find_photographs("flickr30k", tmp_path).captions == {"a.jpg": ["One ."], "b.jpg": ["Zwei Hündchen ."]}


def test_without_a_header_the_first_row_is_not_lost(tmp_path):
    with pytest.raises(
        MinclipError, match=r"captions\.txt has no header.*a\.jpg, One \..*image_column .*caption_column .*numbers"
    ):
        read("a.jpg,One .\n", tmp=tmp_path)


def test_columns_may_stand_in_any_order_among_others(tmp_path):
    text = 'id,caption,image\n1,One .,a.jpg\n2,"Two, three .",a.jpg\n'
    assert read(text, tmp=tmp_path) == {"a.jpg": ["One .", "Two, three ."]}


def test_in_results_csv_a_quote_is_text(tmp_path):
    text = 'image_name| comment_number| comment\na.jpg| 0| "Stop" says a sign .\na.jpg| 1| "open\n'
    assert read(text, "results.csv", tmp_path) == {"a.jpg": ['"Stop" says a sign .', '"open']}


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).map(str.strip).filter(bool),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_caption_that_a_csv_writer_wrote_is_read_back(tmp_path_factory, captions):
    folder = tmp_path_factory.mktemp("csv")
    assert read(captions_txt({"a.jpg": captions}), tmp=folder) == {"a.jpg": captions}


def test_a_row_of_three_columns_is_an_error_with_its_line(tmp_path):
    with pytest.raises(MinclipError, match=r"captions\.txt line 3: expected 2 columns .*found 3.*b\.jpg,A dog"):
        read("image,caption\na.jpg,One .\nb.jpg,A dog, a cat .\n", tmp=tmp_path)


def test_a_row_of_one_column_is_an_error_with_its_line(tmp_path):
    with pytest.raises(MinclipError, match=r"captions\.txt line 2: expected 2 columns .*found 1"):
        read("image,caption\na.jpg\n", tmp=tmp_path)


@pytest.mark.parametrize("lines", [1, 3, 5000])
def test_a_quote_that_is_not_closed_is_an_error_with_its_line(tmp_path, lines):
    text = (
        'image,caption\na.jpg,Fine .\na.jpg,"Not closed, alas\n'
        + "b.jpg,A caption of some length, for the limit .\n" * lines
    )
    with pytest.raises(MinclipError, match=r"captions\.txt line 3: .*quote"):
        read(text, tmp=tmp_path)


def test_captions_that_are_not_utf8_are_an_error(tmp_path):
    (tmp_path / "captions.txt").write_bytes("image,caption\na.jpg,Zwei Hündchen".encode("latin-1"))
    with pytest.raises(MinclipError, match=r"captions\.txt is not UTF-8"):
        find_photographs("flickr30k", tmp_path)


# ---- reading results.csv


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_only_line_ends_end_a_row(tmp_path, end):
    text = end.join(["image_name| comment_number| comment", "a.jpg| 0| one\u2028two\x0cthree", "b.jpg|0|x", ""])
    (tmp_path / "results.csv").write_bytes(text.encode())
    expected = {"a.jpg": ["one\u2028two\x0cthree"], "b.jpg": ["x"]}
    assert find_photographs("flickr30k", tmp_path).captions == expected


def test_bars_and_spaces_are_read(tmp_path):
    text = 'image_name| comment_number| comment\na.jpg| 0| Two dogs , one cat .\na.jpg| 1|  A "dog" .  \nb.jpg|0|x\n'
    assert read(text, "results.csv", tmp_path) == {"a.jpg": ["Two dogs , one cat .", 'A "dog" .'], "b.jpg": ["x"]}


def test_the_malformed_row_19999_is_repaired(tmp_path):
    text = "image_name| comment_number| comment\n2199200615.jpg| 3| A dog .\n" + ROW_19999 + "\n"
    assert read(text, "results.csv", tmp_path) == {"2199200615.jpg": ["A dog .", "A dog runs across the grass ."]}


@pytest.mark.parametrize(
    "row, found", [("a.jpg| 0| a dog | a cat", 4), ("a.jpg| a dog", 2), ("a.jpg", 1), ("a.jpg| 4", 2)]
)
def test_another_malformed_row_is_an_error_with_its_line(tmp_path, row, found):
    with pytest.raises(MinclipError, match=rf"results\.csv line 3: expected 3 columns .*found {found}"):
        read(f"image_name| comment_number| comment\na.jpg| 0| fine\n{row}\n", "results.csv", tmp_path)


# ---- splits


def official(names=NAMES):
    return {"train": names[:40], "val": names[40:50], "test": names[50:]}


NAMINGS = {
    "Hodosh": {
        "train": "Flickr_8k.trainImages.txt",
        "val": "Flickr_8k.devImages.txt",
        "test": "Flickr_8k.testImages.txt",
    },
    "shared": {"train": "flickr8k-train.txt", "val": "flickr8k-val.txt", "test": "flickr8k-test.txt"},
    "plain": {"train": "train.txt", "val": "val.txt", "test": "test.txt"},
    "capital": {"train": "Train.txt", "val": "Validation.txt", "test": "TEST.txt"},
}


def write_lists(folder, naming, lists=None, end=".jpg"):
    folder.mkdir(exist_ok=True, parents=True)
    for split, names in (lists or official()).items():
        text = "\n".join(name.removesuffix(".jpg") + end for name in names)
        (folder / NAMINGS[naming][split]).write_text(text + "\n")


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("place", ["in the folder", "below it", "beside the folder", "in the zip", "beside the zip"])
def test_official_lists_are_found(tmp_path, naming, place):
    root = lay_out(tmp_path / "flickr", "captions.txt")
    if place in ("in the folder", "in the zip"):
        write_lists(root, naming)
    elif place == "below it":
        write_lists(root / "text", naming)
    root = zipped(root) if "zip" in place else root
    if place.startswith("beside"):
        write_lists(tmp_path, naming)
    assert flickr_splits(root) == official()


def test_lists_of_names_without_an_ending_are_read(tmp_path):
    root = lay_out(tmp_path / "flickr", "captions.txt")
    write_lists(root, "plain", end="")
    assert flickr_splits(root) == official()


def test_a_root_given_from_its_own_folder_works(tmp_path, monkeypatch):
    root = zipped(lay_out(tmp_path / "flickr", "captions.txt"))
    write_lists(tmp_path, "plain")
    monkeypatch.chdir(tmp_path)
    assert flickr_splits(root.name) == official()


def test_names_in_a_list_that_have_no_captions_are_left_out(tmp_path):
    root = lay_out(tmp_path / "flickr", "captions.txt")
    write_lists(root, "plain", {**official(), "train": [*NAMES[:40], "unknown.jpg"]})
    assert flickr_splits(root) == official()


def test_a_list_of_something_else_is_not_taken(tmp_path):
    root = lay_out(tmp_path / "flickr", "captions.txt")
    (root / "contest.txt").write_text("some words\nabout a contest\n")
    (tmp_path / "train-times.txt").write_bytes("07:05 Züge".encode("latin-1"))
    write_lists(root, "plain")
    assert flickr_splits(root) == official()


def test_train_alone_is_no_official_split(tmp_path):
    root = lay_out(tmp_path / "flickr", "captions.txt")
    write_lists(root, "plain", {"train": NAMES[:40]})
    assert len(flickr_splits(root)["train"]) > 45


def test_without_lists_a_hash_splits_about_90_5_5():
    names = [f"{i}.jpg" for i in range(4000)]
    splits = read_splits(Source(Path("/nowhere/at/all"), ()), names)
    assert {s: round(len(m) / 40) for s, m in splits.items()} == pytest.approx(
        {"train": 90, "val": 5, "test": 5}, abs=1
    )
    assert sorted(n for members in splits.values() for n in members) == sorted(names)


def test_the_hash_split_never_changes():
    # a model that was trained on one split and is tried on another has seen the answers
    names = ["1000092795.jpg", "10002456.jpg", "1000268201.jpg", "2199200615.jpg", "1000268201_693b08cb0e.jpg"]
    assert [bucket(name) for name in names] == [22, 69, 9, 74, 73]
    last_and_first = ["188.jpg", "110.jpg", "69.jpg", "90.jpg"]  # 89, 90, 94, 95
    splits = read_splits(Source(Path("/nowhere/at/all"), ()), last_and_first)
    assert splits == {"train": ["188.jpg"], "val": ["110.jpg", "69.jpg"], "test": ["90.jpg"]}
    few = [f"{i}.jpg" for i in range(100)]
    splits = read_splits(Source(Path("/nowhere/at/all"), ()), few)
    assert {s: [int(n[:-4]) for n in splits[s]] for s in ("val", "test")} == {
        "val": [5, 58, 69, 83, 85],
        "test": [2, 39, 41, 53, 90],
    }


def test_the_hash_split_stays_when_images_are_added():
    source, names = Source(Path("/nowhere/at/all"), ()), [f"{i}.jpg" for i in range(900)]
    few, many = read_splits(source, names[100:400]), read_splits(source, names)
    assert all(set(few[split]) == set(many[split]) & set(names[100:400]) for split in ("train", "val", "test"))


def test_an_unknown_split_is_an_error_that_names_those_there_are(tmp_path):
    root = lay_out(tmp_path / "flickr", "captions.txt")
    write_lists(root, "plain", {"train": NAMES[:40], "val": NAMES[40:]})
    with pytest.raises(MinclipError, match=r"no split 'test': it has train \(40\), val \(20\)"):
        load_flickr(root, "test", 16)


def test_a_run_is_judged_on_test_where_there_is_one_and_else_on_val(tmp_path):
    root = lay_out(tmp_path / "flickr", "captions.txt")
    assert open_data(DataConfig("flickr8k", str(root))).evaluation_splits == ("test",)
    write_lists(root, "plain", {"train": NAMES[:40], "val": NAMES[40:]})
    assert open_data(DataConfig("flickr8k", str(root))).evaluation_splits == ("val",)


def test_a_run_on_shapes_is_judged_on_test_and_heldout():
    assert open_data(DataConfig("shapes")).evaluation_splits == ("test", "heldout")


# ---- what is wrong with the root


def test_no_root_is_an_error_that_says_what_to_give():
    with pytest.raises(MinclipError, match=r"flickr8k .*minclip fetch flickr8k.*data\.root"):
        load_pairs("flickr8k")


def test_a_root_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(MinclipError, match="nowhere'"):
        load_flickr(tmp_path / "nowhere")


def test_another_layout_is_an_error_that_tells_what_was_looked_for_and_found(tmp_path):
    put_photographs(tmp_path / "pictures", NAMES[:8])
    (tmp_path / "annotations.json").write_text("{}")
    with pytest.raises(
        MinclipError,
        match=r"looked for captions\.txt, .*results\.csv.*dataset_\*\.json, found annotations\.json, pictures/1000_0\.jpg.* …",
    ):
        load_flickr(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MinclipError, match="found nothing"):
        load_flickr(tmp_path / "empty")


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_zip_that_was_cut_off_is_an_error(tmp_path, share):
    root = zipped(lay_out(tmp_path / "flickr", "captions.txt"))
    whole = root.read_bytes()
    root.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(MinclipError, match="not a zip file"):
        load_flickr(root)


# ---- what is left out, and told


@pytest.fixture
def root(tmp_path):
    """Sixty photographs with official lists: 40 of them for training."""
    root = lay_out(tmp_path / "flickr", "captions.txt")
    write_lists(root, "plain")
    return root


def test_missing_images_are_counted_and_the_first_five_named(root):
    for name in NAMES[3:10]:
        (root / "Images" / name).unlink()
    pairs = load_flickr(root, "train", 16)
    assert pairs.notes == (f"7 captioned images are missing and were left out: {', '.join(NAMES[3:8])} …",)
    assert pairs.names == NAMES[:3] + NAMES[10:40]


def test_images_without_captions_are_counted_and_named(root):
    put_photographs(root / "Images", ["stray.jpg", "alone.jpg"])
    pairs = load_flickr(root, "train", 16)
    assert pairs.notes == ("2 images have no caption and were left out: alone.jpg, stray.jpg",)
    assert pairs.names == NAMES[:40]


def test_broken_images_are_counted_and_named_with_the_reason(root):
    for name in NAMES[:6]:
        (root / "Images" / name).write_bytes(photograph()[:400])
    pairs = load_flickr(root, "train", 16)
    (note,) = pairs.notes
    note, listed = note.split(" …; all are listed in ")
    assert note.startswith("6 images can't be decoded and were left out: ")
    assert list(json.loads(Path(listed).read_text())["broken"]) == NAMES[:6]
    assert [name in note for name in NAMES[:6]] == [True] * 5 + [False] and "truncated" in note.lower()
    assert pairs.names == NAMES[6:40] and pairs.captions == [CAPTIONS[name] for name in NAMES[6:40]]


def test_all_three_are_told_together(root):
    (root / "Images" / NAMES[0]).unlink()
    (root / "Images" / NAMES[1]).write_bytes(b"")
    put_photographs(root / "Images", ["stray.jpg"])
    assert [note.split(" and were")[0] for note in load_flickr(root, "train", 16).notes] == [
        "1 captioned images are missing",
        "1 images have no caption",
        "1 images can't be decoded",
    ]


def test_notes_are_told_from_the_cache_too(root):
    (root / "Images" / NAMES[1]).write_bytes(b"")
    assert load_flickr(root, "train", 16).notes == load_flickr(root, "train", 16).notes != ()


def test_a_damaged_file_in_a_whole_zip_is_left_out(root):
    path = zipped(root)
    damaged = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(f"Images/{NAMES[2]}").header_offset + 100
    damaged[start : start + 50] = bytes(50)
    path.write_bytes(damaged)
    pairs = load_flickr(path, "train", 16)
    assert pairs.names == NAMES[:2] + NAMES[3:40] and "CRC" in pairs.notes[0]


def test_no_image_at_all_is_an_error(root):
    shutil.rmtree(root / "Images")
    with pytest.raises(
        MinclipError,
        match=r"none of the 60 captioned images .* 'val'; 60 captioned images are missing",
    ):
        load_flickr(root, "val", 16)


def test_photographs_of_every_kind_load(root):
    folder = root / "Images"
    Image.new("L", (30, 20), 90).save(folder / NAMES[0])
    Image.new("CMYK", (30, 20), (0, 255, 255, 0)).save(folder / NAMES[1])
    Image.new("RGB", (30, 20), (9, 200, 9)).quantize(4).save(folder / NAMES[2], "PNG")
    Image.new("RGB", (1, 1), (9, 9, 200)).save(folder / NAMES[3])
    pairs = load_flickr(root, "train", 16)
    assert pairs.notes == () and pairs.names == NAMES[:40]
    means = pairs.images[:4].mean(axis=(2, 3))
    assert abs(means - [(90, 90, 90), (254, 0, 0), (9, 200, 9), (9, 9, 200)]).max() < 12


# ---- the cache


@pytest.fixture
def decoded(monkeypatch):
    """How many photographs have been decoded so far."""
    count, decode = [], packing.decode
    monkeypatch.setattr(packing, "decode", lambda *a: count.append(1) or decode(*a))
    return count


def test_a_second_call_decodes_nothing(root, decoded):
    first, second = (load_flickr(root, "train", 16) for _ in range(2))
    assert len(decoded) == 40 and (first.images == second.images).all()


@pytest.mark.parametrize("packing", ["folder", "zip"])
def test_a_changed_photograph_is_decoded_anew(root, decoded, packing):
    path = zipped(root) if packing == "zip" else root
    load_flickr(path, "train", 16)
    if packing == "folder":
        (path / "Images" / NAMES[0]).write_bytes(photograph(255))
    else:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
        files[f"Images/{NAMES[0]}"] = photograph(255)
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    assert load_flickr(path, "train", 16).images[0, 0].mean() > 240 and len(decoded) == 80


def test_a_changed_photograph_is_noticed_where_its_folder_looks_untouched(root, decoded):
    before = root.stat()
    load_flickr(root, "train", 16)
    (root / "Images" / NAMES[0]).write_bytes(photograph(255))
    os.utime(root, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load_flickr(root, "train", 16).images[0, 0].mean() > 240


def test_changed_captions_are_read_anew(root):
    load_flickr(root, "train", 16)
    (root / "captions.txt").write_text(captions_txt({name: ["new"] for name in NAMES}))
    assert load_flickr(root, "train", 16).captions == [["new"]] * 40


# ---- the real photographs


@pytest.fixture(scope="module")
def real(flickr8k_zip, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINCLIP_DATA", str(tmp_path_factory.mktemp("real")))
        yield {split: load_flickr(flickr8k_zip, split, 16) for split in ("train", "val")}


@pytest.mark.slow
@pytest.mark.parametrize("split, n", [("train", 6000), ("val", 1000)])
def test_all_real_photographs_load(real, split, n):
    pairs = real[split]
    assert pairs.images.shape == (n, 3, 16, 16) and pairs.notes == () and len(set(pairs.names)) == n


@pytest.mark.slow
def test_real_photographs_have_five_captions_each(real):
    assert {len(captions) for captions in real["train"].captions} == {5}


@pytest.mark.slow
def test_real_captions_with_commas_are_whole(real):
    captions = [c for c in real["train"].texts if "," in c]
    assert len(captions) > 500 and not any(c[0] == '"' or "\n" in c for c in captions)


@pytest.mark.slow
def test_real_splits_share_no_photograph(real):
    assert not set(real["train"].names) & set(real["val"].names)
