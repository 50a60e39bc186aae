"""People's own pictures: texts beside images, tables of every kind, Karpathy's JSON, and what is wrong with them."""

import csv
import io
import json
import sys
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures import photograph, put_photographs, zipped
from training_runs import tiny

from minclip.cli import main
from minclip.config import DataConfig, MinclipError
from minclip.data import load_pairs, open_data
from minclip.data.photos.photographs import bucket, find_photographs
from minclip.data.photos.source import Finder, Source
from minclip.data.photos.tables import read_table
from minclip.loop import train
from minclip.training.run import read_learnt

pytestmark = pytest.mark.usefixtures("data_home")
NAMES = [f"{i:03}.jpg" for i in range(60)]


def found(root, columns=("", "")):
    return find_photographs("own", root, columns)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def table(folder, text, name="captions.csv", images=("a.jpg", "b.jpg")):
    """A folder with a table and images."""
    put_photographs(folder, images)
    write(folder / name, text)
    return folder


def texts(folder, names=NAMES):
    """A folder of images with a text each."""
    put_photographs(folder, names)
    for name in names:
        write(folder / f"{name[:-4]}.txt", f"picture {name[:-4]}\n\n  and again {name[:-4]} \n")
    return folder


# ---- texts beside images


@pytest.mark.parametrize("packing", ["folder", "zip"])
def test_each_line_of_a_text_is_a_caption(tmp_path, packing):
    root = texts(tmp_path / "own" / "deep")
    root = zipped(root) if packing == "zip" else tmp_path / "own"
    assert found(root).captions == {n: [f"picture {n[:-4]}", f"and again {n[:-4]}"] for n in NAMES}


def test_own_pictures_load_with_their_own_pixels(tmp_path):
    pairs = load_pairs("own", "train", image_size=16, root=texts(tmp_path / "own"))
    assert all(abs(i.mean(axis=(1, 2))[0] - 4 * NAMES.index(n)) < 5 for i, n in zip(pairs.images, pairs.names))
    assert all(c[0] == f"picture {n[:-4]}" for c, n in zip(pairs.captions, pairs.names)) and len(pairs) > 45


def test_images_of_the_same_name_are_not_confused(tmp_path):
    for folder in ("cats", "dogs"):
        put_photographs(tmp_path / folder, ["1.jpg"])
        write(tmp_path / folder / "1.txt", folder)
    put_photographs(tmp_path / "cats" / "cats", ["1.jpg"])  # which a path from the wrong folder would find
    write(tmp_path / "cats" / "cats" / "1.txt", "more cats")
    expected = {"cats/1.jpg": ["cats"], "dogs/1.jpg": ["dogs"], "cats/cats/1.jpg": ["more cats"]}
    assert found(tmp_path).captions == expected


def test_an_empty_text_and_a_missing_one_leave_images_out(tmp_path):
    root = texts(tmp_path)
    write(root / "000.txt", " \n")
    (root / "001.txt").unlink()
    assert found(root).notes == ("2 images have no caption and were left out: 000.jpg, 001.jpg",)


def test_texts_without_a_word_are_an_error(tmp_path):
    put_photographs(tmp_path, ["a.jpg"])
    write(tmp_path / "a.txt", "\n")
    with pytest.raises(MinclipError, match=r"none of 1 captions has .*a\.txt"):
        found(tmp_path)


def test_a_text_that_is_not_utf8_is_an_error_with_its_line(tmp_path):
    put_photographs(tmp_path, ["a.jpg"])
    (tmp_path / "a.txt").write_bytes("one\nHündchen".encode("latin-1"))
    with pytest.raises(MinclipError, match=r"a\.txt is not UTF-8 text \(line 2\)"):
        found(tmp_path)


def test_no_captions_at_all_is_an_error_that_tells_what_was_looked_for_and_found(tmp_path):
    put_photographs(tmp_path, ["a.jpg"])
    with pytest.raises(MinclipError, match=r"has no captions: looked for \.csv.*dataset_\*\.json, found a\.jpg$"):
        found(tmp_path)


# ---- tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "header", [("image", "caption"), ("File Name", "Text"), ("img", "Title"), ("path", "sentence")]
)
def test_columns_and_delimiters_are_found(tmp_path, delimiter, header):
    rows = [header, ("a.jpg", "A dog"), ("b.jpg", "A cat"), ("a.jpg", "Again")]
    root = table(tmp_path, "\n".join(delimiter.join(row) for row in rows))
    assert found(root).captions == {"a.jpg": ["A dog", "Again"], "b.jpg": ["A cat"]}


def test_the_likelier_column_is_taken(tmp_path):
    root = table(tmp_path, "path,title,caption,image\nx,no,yes,a.jpg\n")
    assert found(root).captions == {"a.jpg": ["yes"]}


@pytest.mark.parametrize("columns", [("alt", "words"), ("Alt", "")])
def test_columns_can_be_named(tmp_path, columns):
    root = table(tmp_path, f"image,alt,{'words' if columns[1] else 'caption'}\nb.jpg,a.jpg,A dog\n")
    assert found(root, columns).captions == {"a.jpg": ["A dog"]}


def test_an_index_column_and_rows_without_a_word_do_no_harm(tmp_path):
    root = table(tmp_path, "\n,image,caption\n0,a.jpg,A dog\n,,\n\n1,b.jpg,A cat\n")
    assert found(root).captions == {"a.jpg": ["A dog"], "b.jpg": ["A cat"]}


def test_a_list_written_as_json_is_several_captions(tmp_path):
    root = table(tmp_path, 'image,raw\na.jpg,"[""A dog"", ""A, cat""]"\nb.jpg,"[""no list"\nc.jpg,[0.0]\n')
    assert found(root).captions == {"a.jpg": ["A dog", "A, cat"], "b.jpg": ['["no list'], "c.jpg": ["[0.0]"]}


cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(
    st.lists(cell.filter(str.strip), min_size=1, max_size=8),
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@settings(max_examples=150, deadline=None)
@example(["[0.0]"], ",", csv.QUOTE_MINIMAL)
def test_any_table_that_a_csv_writer_wrote_is_read_back(tmp_path_factory, captions, delimiter, quoting):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
    writer.writerows([("image", "caption"), *(("a.jpg", c) for c in captions)])
    root = tmp_path_factory.mktemp("table")
    (root / "t.csv").write_bytes(file.getvalue().encode())
    rows = list(read_table(Source.open(root), "t.csv"))
    # a space at the start is lost where the writer did not quote it
    assert [row.captions[0].strip() for row in rows] == [c.strip() for c in captions]


BAD = {  # what is wrong: (table, error)
    "no caption": ("image,captoin\na.jpg,x\n", r"t\.csv has no known caption column: it has image, captoin: .*data\.caption_column"),
    "no image": ("id,caption\n1,x\n", r"t\.csv has no known image column: it has id, caption: .*data\.image_column"),
    "addresses": ("url,caption\nhttp://x/a.jpg,x\n", r"t\.csv has URLs, .*image column: it has url, caption: .*img2dataset .*data\.name to \"shards\""),
    "an address": ("image,caption\na.jpg,x\nhttps://x/a.jpg,x\n", r"t\.csv line 3: https://x/a\.jpg is a URL: .*img2dataset"),
    "empty": ("", r"t\.csv has no known image column: .*it is empty"),
    "no rows": ("image,caption\n", r"t\.csv has no rows .*image, caption"),
    "no name": ("image,caption\na.jpg,x\n,y\n", r"t\.csv line 3: the column 'image' is empty"),
    "three cells": ("image,caption\na.jpg,A dog, a cat\n", r"t\.csv line 2: expected 2 columns \(image, caption\), found 3.*',' .*a\.jpg,A dog,a cat"),
    "one cell": ('image;caption\n"a.jpg";"two\nlines"\nb.jpg\n', r"t\.csv line 4: expected 2 columns .*found 1.*';'"),
    "open quote": ('image,caption\na.jpg,fine\na.jpg,"open\nb.jpg,x\n', r"t\.csv line 3: unexpected end of data: is a quote not closed"),
    "open quote, then another": ('image,caption\na.jpg,"open\nb.jpg,"x"\n', r"t\.csv line 2: ',' expected after '\"': is a quote not closed, or one"),
    "a list of numbers": ('image,raw\na.jpg,"[""x"", 3]"\n', r"t\.csv line 2: the column 'raw' must hold text, got"),
    "another split": ("image,caption,split\na.jpg,x,train\nb.jpg,x,holdout\n", r"t\.csv line 3: the split must be train, val or test, got 'holdout'"),
    "a split missing": ("image,caption,split\na.jpg,x,train\nb.jpg,x,\" \"\n", r"1 of 2 captioned images have no split, the others do: .*b\.jpg"),
    "two splits": ("image,caption,split\na.jpg,x,train\na.jpg,x,test\n", r"t\.csv line 3: a\.jpg is in split test here, but in train"),
    "no training": ("image,caption,split\na.jpg,x,val\nb.jpg,x,test\n", r"has no split 'train': it has val \(1\), test \(1\)"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", BAD)
def test_a_bad_table_is_an_error_with_file_and_line(tmp_path, wrong):
    text, message = BAD[wrong]
    with pytest.raises(MinclipError, match=message):
        found(table(tmp_path, text, "t.csv")).load("train", image_size=8)


def test_a_column_that_is_not_there_names_the_nearest(tmp_path):
    root = table(tmp_path, "picture,words\na.jpg,x\n")
    with pytest.raises(MinclipError, match=r"no column 'pictures' \(did you mean 'picture'\?\): it has picture, words"):
        found(root, ("pictures", "words"))


def test_a_named_column_is_missed_though_there_are_texts(tmp_path):
    write(table(texts(tmp_path), "image,caption\na.jpg,x\n") / "x", "")
    with pytest.raises(MinclipError, match="no column 'alt'"):
        found(tmp_path, ("", "alt"))


def test_a_table_of_something_else_is_passed_over(tmp_path):
    root = table(tmp_path, "image,caption\na.jpg,x\n")
    write(root / "a.csv", "time,loss\n1,2\n")
    assert found(root).captions == {"a.jpg": ["x"]}


def test_a_table_of_something_else_beside_texts_is_passed_over(tmp_path):
    write(texts(tmp_path) / "a.csv", "time,loss\n1,2\n")
    assert len(found(tmp_path).captions) == len(NAMES)


def test_the_table_itself_can_be_the_root(tmp_path):
    root = table(tmp_path, "image,caption\na.jpg,x\n")
    write(root / "other.csv", "image,caption\nb.jpg,y\n")
    assert found(root / "captions.csv").captions == {"a.jpg": ["x"]}
    assert found(root).captions == {"a.jpg": ["x"], "b.jpg": ["y"]}


def test_own_captions_may_lie_in_flickrs_layout(tmp_path):
    root = table(tmp_path, "image,caption\na.jpg,x\n", "captions.txt")
    assert found(root).captions == {"a.jpg": ["x"]}


def test_a_caption_without_its_image_is_told(tmp_path):
    root = table(tmp_path, "image,caption\na.jpg,x\nmissing.jpg,y\nb.jpg, \n")
    assert found(root).notes == (
        "1 captioned images are missing and were left out: missing.jpg",
        "1 images have no caption and were left out: b.jpg",
    )


# ---- which file is meant


@pytest.fixture
def finder():
    return Finder(["one/1.jpg", "two/1.jpg", "two/three/1.jpg", "two/2.png", "two/2.jpg", "cat.jpg"])


@pytest.mark.parametrize(
    ("written", "folder", "paths"),
    [
        ("cat.jpg", "", ["cat.jpg"]),
        ("cat", "", ["cat.jpg"]),
        ("./cat.jpg", "", ["cat.jpg"]),
        ("two\\three\\1.jpg", "", ["two/three/1.jpg"]),
        ("1.jpg", "two", ["two/1.jpg"]),
        ("1", "two", ["two/1.jpg"]),
        ("three/1.jpg", "", ["two/three/1.jpg"]),
        ("../one/1.jpg", "two", ["one/1.jpg"]),
        ("/home/me/two/1.jpg", "", ["two/1.jpg"]),
        ("1.jpg", "", ["one/1.jpg", "two/1.jpg", "two/three/1.jpg"]),
        ("2", "", ["two/2.png", "two/2.jpg"]),
        ("2.jpg", "", ["two/2.jpg"]),
        ("four/2.jpg", "", []),
        ("four/cat.jpg", "", ["cat.jpg"]),  # as "/home/me/four/cat.jpg" would be
        ("at.jpg", "", []),
        ("", "", []),
    ],
)
def test_a_file_is_found_by_what_it_is_called(finder, written, folder, paths):
    assert finder.find(written, folder) == paths


def test_names_are_paths_only_where_they_repeat(finder):
    assert list(finder.keys.values()) == ["one/1.jpg", "two/1.jpg", "two/three/1.jpg", "2.png", "2.jpg", "cat.jpg"]


def test_a_name_that_could_be_two_files_is_an_error_with_its_line(tmp_path):
    put_photographs(tmp_path / "one", ["a.jpg"])
    put_photographs(tmp_path / "two", ["a.jpg"])
    write(tmp_path / "t.csv", "image,caption\na.jpg,x\na.jpg,y\n")
    with pytest.raises(MinclipError, match=r"t\.csv line 2: a\.jpg could be one/a\.jpg or two/a\.jpg"):
        found(tmp_path)


def test_a_table_finds_the_files_of_its_own_folder(tmp_path):
    for folder in ("one", "two"):
        table(tmp_path / folder, f"image,caption\na.jpg,{folder}\n", images=["a.jpg"])
    assert found(tmp_path).captions == {"one/a.jpg": ["one"], "two/a.jpg": ["two"]}


def test_a_folder_that_has_moved_does_no_harm_where_the_name_is_the_only_one(tmp_path):
    put_photographs(tmp_path / "Images", ["a.jpg", "b.jpg"])
    write(tmp_path / "t.csv", "image,caption\nold/a.jpg,A dog\nold/b.jpg,one\nolder/b.jpg,two\n")
    assert found(tmp_path).captions["a.jpg"] == ["A dog"]
    assert found(tmp_path).notes[0].endswith("left out: old/b.jpg, older/b.jpg")  # which of them is not known


# ---- splits


def test_a_split_column_is_followed(tmp_path):
    words = ["train", "Training", "val", "validation", "dev", "test"]
    names = [f"{i}.jpg" for i in range(6)]
    rows = "".join(f"{name},x,{word}\n" for name, word in zip(names, words))
    root = table(tmp_path, "image,caption,Split\n" + rows, images=names)
    assert found(root).splits == {"train": names[:2], "val": names[2:5], "test": names[5:]}
    assert open_data(DataConfig("own", str(root))).evaluation_splits == ("test",)


def test_tables_tell_the_split_by_their_names(tmp_path):
    for i, name in enumerate(["train-00000", "train-00001", "validation", "test"]):
        table(tmp_path, f"image,caption\n{i}.jpg,x\n", f"{name}.csv", [f"{i}.jpg"])
    assert found(tmp_path).splits == {"train": ["0.jpg", "1.jpg"], "val": ["2.jpg"], "test": ["3.jpg"]}


def test_a_table_named_test_alone_is_split_by_hash(tmp_path):
    root = table(tmp_path, "image,caption\n" + "".join(f"{n},x\n" for n in NAMES), "test.csv", NAMES)
    assert len(found(root).splits["train"]) > 45


def test_folders_tell_the_split_where_all_images_lie_in_such(tmp_path):
    for folder in ("train", "validation", "test"):
        texts(tmp_path / "data" / folder, [f"{folder}.jpg"])
    assert found(tmp_path).splits == {"train": ["train.jpg"], "val": ["validation.jpg"], "test": ["test.jpg"]}
    texts(tmp_path / "data" / "other", NAMES)
    assert len(found(tmp_path).splits["train"]) > 45


def test_lists_are_followed_and_texts_of_images_are_no_lists(tmp_path):
    root = texts(tmp_path)
    put_photographs(root, ["train.jpg", "val.jpg"])
    write(root / "train.txt", "\n".join(NAMES[:3]))  # captions, odd ones
    write(root / "val.txt", "\n".join(NAMES[3:6]))
    assert len(found(root).splits["train"]) > 45
    write(root / "lists" / "train.txt", "\n".join(NAMES[:50]))
    write(root / "lists" / "val.txt", "\n".join([*NAMES[50:], NAMES[50]]))
    assert found(root).splits == {"train": NAMES[:50], "val": NAMES[50:]}
    assert open_data(DataConfig("own", str(root))).evaluation_splits == ("val",)


def test_a_list_that_could_mean_two_files_is_an_error(tmp_path):
    for folder in ("one", "two"):
        texts(tmp_path / folder)
    write(tmp_path / "train.txt", "\n".join(NAMES))
    with pytest.raises(MinclipError, match=r"train\.txt: 000\.jpg could be one/000\.jpg or two/000\.jpg"):
        list(found(tmp_path).splits)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 20])
def test_a_small_set_has_something_to_learn_from_and_to_validate_on(tmp_path, count):
    splits = found(texts(tmp_path, NAMES[:count])).splits
    assert splits["train"] and splits["val"] and sorted(n for names in splits.values() for n in names) == NAMES[:count]


def test_one_image_is_too_few(tmp_path):
    root = texts(tmp_path, NAMES[:1])
    with pytest.raises(MinclipError, match=r"has no split 'val': it has train \(1\)"):
        found(root).load("val", image_size=16)


def test_where_no_split_is_for_validation_some_training_images_are(tmp_path):
    root = table(tmp_path, "image,caption\n" + "".join(f"{n},x\n" for n in NAMES), "train.csv", NAMES)
    table(tmp_path, "image,caption\nt.jpg,x\n", "test.csv", ["t.jpg"])
    splits = found(root).splits
    held = [n for n in NAMES if 90 <= bucket(n) < 95]
    assert len(held) > 1 and splits["train"] == [n for n in NAMES if n not in held]
    assert splits["val"] == held and splits["test"] == ["t.jpg"]


# ---- Karpathy's JSON


SPLIT_OF = ("train",) * 40 + ("restval",) * 5 + ("val",) * 5 + ("test",) * 10


def karpathy(path, names=NAMES, splits=SPLIT_OF, **more):
    images = [
        {"filename": n, "split": s, "sentences": [{"raw": f"{n} {j}", "tokens": [n, str(j)]} for j in range(5)], **more}
        for n, s in zip(names, splits)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "dataset": "flickr8k"}))
    return path


OWN = "image,caption\n" + "".join(f"{n},own\n" for n in NAMES)
SPLITS = {"train": NAMES[:45], "val": NAMES[45:50], "test": NAMES[50:]}


@pytest.fixture
def pictures(tmp_path):
    put_photographs(tmp_path / "root" / "Images", NAMES)
    return tmp_path / "root"


@pytest.mark.parametrize("name", ["flickr30k", "own"])
@pytest.mark.parametrize("place", ["below", "beside", "data folder", "in the zip", "beside the zip"])
def test_karpathys_json_gives_captions_and_splits(pictures, data_home, name, place):
    folder = {"below": pictures / "text", "in the zip": pictures, "data folder": data_home / "karpathy-splits" / "x"}
    karpathy(folder.get(place, pictures.parent) / "dataset_flickr8k.json")
    root = zipped(pictures) if "zip" in place else pictures
    photographs = find_photographs(name, root)
    assert photographs.captions == {n: [f"{n} {j}" for j in range(5)] for n in NAMES} and photographs.notes == ()
    assert photographs.splits == SPLITS


@pytest.mark.parametrize("layout", ["captions.txt", "results.csv"])
def test_captions_come_from_the_data_sets_own_file_and_the_split_from_the_json(pictures, layout):
    header, row = {
        "captions.txt": ("image,caption", "{},own"),
        "results.csv": ("image_name| comment_number| comment", "{}| 0| own"),
    }[layout]
    write(pictures / layout, "\n".join([header, *map(row.format, NAMES)]))
    karpathy(pictures.parent / "dataset_flickr8k.json", NAMES[5:], SPLIT_OF[5:])  # Karpathy's lists 31,014 of 31,783
    photographs = find_photographs("flickr8k", pictures)
    assert photographs.captions == {n: ["own"] for n in NAMES}
    assert photographs.splits == {**SPLITS, "train": NAMES[5:45]}


def test_lists_come_before_karpathys_json(pictures):
    write(pictures / "captions.txt", OWN)
    karpathy(pictures / "dataset_flickr8k.json")
    write(pictures / "train.txt", "\n".join(NAMES[:30]))
    write(pictures / "val.txt", "\n".join(NAMES[30:]))
    assert find_photographs("flickr8k", pictures).splits == {"train": NAMES[:30], "val": NAMES[30:]}


@pytest.mark.parametrize("theirs", ["dataset_coco.json", "dataset_flickr30k.json", "dataset_a.json"])
def test_the_json_of_these_images_is_taken(pictures, data_home, theirs):
    write(pictures / "captions.txt", OWN)
    folder = data_home / "karpathy-splits"
    # another data set's, which even names an image or two of this one
    karpathy(folder / theirs, [*NAMES[:2], *(f"{n}.png" for n in NAMES[2:])], ["test"] * 60)
    karpathy(folder / "dataset_flickr8k.json")
    write(folder / "dataset_infos.json", '{"version": 1}')
    assert find_photographs("flickr8k", pictures).splits == SPLITS


def test_a_json_that_lists_only_a_few_of_these_images_is_not_taken(pictures):
    write(pictures / "captions.txt", OWN)
    karpathy(pictures / "dataset_flickr8k.json", [*NAMES[:29], *(f"{n}.png" for n in NAMES[29:])])
    assert len(find_photographs("flickr8k", pictures).splits["train"]) > 45


def test_another_data_sets_json_is_not_even_read(pictures, data_home):
    karpathy(data_home / "karpathy-splits" / "dataset_flickr8k.json")
    write(data_home / "karpathy-splits" / "dataset_coco.json", "cut off")
    assert find_photographs("flickr8k", pictures).splits == SPLITS


def test_the_folders_of_the_json_may_be_called_otherwise(pictures):
    put_photographs(pictures / "more", ["000.jpg"])  # a name that repeats is a path
    write(pictures / "t.csv", "image,caption\n" + "".join(f"Images/{n},own\n" for n in NAMES))
    karpathy(pictures / "dataset_coco.json", filepath="val2014")
    assert find_photographs("own", pictures).splits == {**SPLITS, "train": ["Images/000.jpg", *NAMES[1:45]]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:3000], r"dataset_flickr8k\.json .*line 1 column \d+"),
        (lambda text: "", r"dataset_flickr8k\.json .*line 1 column 1"),
        (lambda text: text.replace('"sentences"', '"s"'), r"dataset_flickr8k\.json .*caption.*: it has filename, split, s: .*data\.name"),
        (lambda text: text.replace('"restval"', '"rest"'), r"images\[40\]: the split must be train, val or test, got 'rest'"),
        (lambda text: text.replace('{"filename": "003.jpg"', '3, {"filename": "003.jpg"'), r"images\[3\] .*got 3"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("captions", [True, False])
def test_a_json_that_is_broken_is_an_error(pictures, change, message, captions):
    if captions:
        write(pictures / "captions.txt", OWN)
    path = karpathy(pictures / "dataset_flickr8k.json")
    path.write_text(change(path.read_text()))
    with pytest.raises(MinclipError, match=message):
        list(find_photographs("flickr8k", pictures).splits)


# ---- parquet


@pytest.fixture
def parquet():
    return pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


def write_parquet(parquet, path, columns, **options):
    from pyarrow import table

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table(columns), path, **options)
    return path


@pytest.mark.parametrize("packing", ["folder", "zip"])
def test_a_parquet_of_paths_is_read(tmp_path, parquet, packing):
    put_photographs(tmp_path / "own", NAMES)
    captions = [["A dog", f"number {n}"] for n in NAMES]
    splits = ["train"] * 50 + ["val"] * 10
    write_parquet(parquet, tmp_path / "own" / "t.parquet", {"split": splits, "caption": captions, "file_name": NAMES})
    photographs = found(zipped(tmp_path / "own") if packing == "zip" else tmp_path / "own")
    assert photographs.captions == dict(zip(NAMES, captions))
    assert photographs.splits == {"train": NAMES[:50], "val": NAMES[50:]}


KINDS = {
    "struct": lambda data: [{"bytes": d, "path": n} for d, n in zip(data, NAMES)],
    "same path": lambda data: [{"bytes": d, "path": "image.jpg"} for d in data],
    "no path": lambda data: [{"bytes": d, "path": None} for d in data],
    "bytes only": lambda data: [{"bytes": d} for d in data],
    "binary": lambda data: data,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packing", ["folder", "zip"])
def test_a_parquet_that_holds_its_images_is_read(tmp_path, parquet, kind, packing):
    columns = {
        "image": KINDS[kind]([photograph(4 * i) for i in range(60)]),
        "text": [f"red {4 * i}" for i in range(60)],
    }
    write_parquet(parquet, tmp_path / "own" / "train.parquet", columns, row_group_size=7)
    root = zipped(tmp_path / "own") if packing == "zip" else tmp_path / "own" / "train.parquet"
    reds = set()
    for split in ("train", "val"):
        pairs = load_pairs("own", split, image_size=16, root=root)
        for image, (caption,) in zip(pairs.images, pairs.captions):
            assert abs(image[0].mean() - int(caption[4:])) < 5
            reds.add(caption)
    assert reds == set(columns["text"])


def test_an_image_in_several_rows_is_one_image(tmp_path, parquet):
    images = [{"bytes": photograph(100 * (i // 2)), "path": None} for i in range(4)]
    write_parquet(parquet, tmp_path / "t.parquet", {"image": images, "text": ["a", "b", "c", "d"]})
    assert list(found(tmp_path).captions.values()) == [["a", "b"], ["c", "d"]]


def test_images_of_the_same_name_in_two_parquets_are_not_confused(tmp_path, parquet):
    for i, split in enumerate(("train", "test")):
        images = [{"bytes": photograph(100 * i), "path": "1.jpg"}]
        write_parquet(parquet, tmp_path / f"{split}.parquet", {"image": images, "text": [split]})
    assert found(tmp_path).captions == {"train.parquet: 1.jpg": ["train"], "test.parquet: 1.jpg": ["test"]}


def test_a_struct_without_bytes_names_files(tmp_path, parquet):
    put_photographs(tmp_path, ["a.jpg"])
    write_parquet(parquet, tmp_path / "t.parquet", {"image": [{"bytes": None, "path": "a.jpg"}], "text": ["x"]})
    photographs = found(tmp_path)
    assert photographs.captions == {"a.jpg": ["x"]} and photographs.read("a.jpg") == photograph(0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": ["a.jpg"], "caption": [3]}, r"t\.parquet row 1: the column 'caption' must hold text, got 3"),
        ({"image": [3], "caption": ["x"]}, r"t\.parquet row 1: the column 'image' must hold text, got 3"),
        ({"image": ["a.jpg", None], "caption": ["x", "y"]}, r"t\.parquet row 2: the column 'image' is empty"),
        ({"image": ["a.jpg"], "label": ["x"]}, r"t\.parquet has no known caption column: it has image, label"),
    ],
)
def test_a_bad_parquet_is_an_error_with_its_row(tmp_path, parquet, columns, message):
    write_parquet(parquet, tmp_path / "t.parquet", columns)
    with pytest.raises(MinclipError, match=message):
        found(tmp_path)


def test_a_parquet_that_was_cut_off_is_an_error(tmp_path, parquet):
    path = write_parquet(parquet, tmp_path / "t.parquet", {"image": ["a.jpg"], "caption": ["x"]})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(MinclipError, match=r"t\.parquet is not a valid parquet file"):
        found(tmp_path)


def test_without_pyarrow_a_parquet_is_an_error_that_tells_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(MinclipError, match=r"t\.parquet.*pip install pyarrow"):
        found(tmp_path)


# ---- the config


def test_no_root_is_an_error_that_says_what_to_give():
    with pytest.raises(MinclipError, match=r"own.*data\.root.*folder.*zip.*table"):
        load_pairs("own")


def test_columns_are_for_own_tables():
    for name, column in (("flickr8k", "image_column"), ("flickr8k", "caption_column"), ("shards", "image_column")):
        with pytest.raises(MinclipError, match=rf"data\.{column} .*own"):
            DataConfig(name, **{column: "photo"})
    assert DataConfig("shards", caption_column="text").caption_column == "text"


# ---- a list of splits that comes after the training


def changed_after(tmp_path):
    """A run on 60 pictures, half of what it learnt from being for validation since."""
    root = texts(tmp_path / "own")
    config = tiny({"batch_size": 8, "steps": 2})
    config = replace(config, data=DataConfig("own", image_size=16, root=str(root)))
    run = train(config, tmp_path / "runs" / "a")
    learnt = read_learnt(run.folder)
    assert sorted(learnt) == sorted(load_pairs("own", "train", image_size=16, root=root).names)
    write(root / "train.txt", "\n".join(sorted(set(NAMES) - set(learnt[:20]))))
    write(root / "val.txt", "\n".join(learnt[:20]))
    return config, run


def test_a_run_does_not_go_on_with_other_photographs(tmp_path):
    config, run = changed_after(tmp_path)
    with pytest.raises(MinclipError, match=r"\b54 photographs.*\b20\b"):
        train(replace(config, train=replace(config.train, steps=4)), run.folder, resume=True)


def test_eval_tells_that_photographs_were_learnt_from(tmp_path, capsys):
    _, run = changed_after(tmp_path)
    assert "20 of the 20" not in capsys.readouterr().err
    assert main(["eval", str(run.folder)]) == 0
    assert "note: 20 of the 20 " in capsys.readouterr().err


def test_a_damaged_list_of_what_was_learnt_is_told(tmp_path):
    (tmp_path / "learnt.json").write_text('["a.jpg", ')
    with pytest.raises(MinclipError, match=r"learnt\.json .*: delete it"):
        read_learnt(tmp_path)
