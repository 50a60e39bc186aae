"""Captions as they lie about: JSON of every kind, Flickr's token files, wide tables, lists in cells, no header."""

import json

import pytest
from pictures import photograph, put_photographs, zipped

from minclip.config import MinclipError
from minclip.data.photos.photographs import find_photographs

pytestmark = pytest.mark.usefixtures("data_home")
AB = ["a.jpg", "b.jpg"]
RECORDS = [{"image": "a.jpg", "caption": "A dog"}, {"image": "b.jpg", "caption": "A cat"}]
PAIRS = {"a.jpg": ["A dog"], "b.jpg": ["A cat"]}
TWO = {"a.jpg": ["A dog", "A pet"], "b.jpg": ["A cat"]}
COCO = {
    "info": {"description": "captions", "url": "http://x"},
    "images": [{"id": 7, "file_name": "a.jpg", "coco_url": "http://x/a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
    "licenses": [{"url": "http://x", "id": 1, "name": "free"}],
    "annotations": [
        {"image_id": i, "id": n, "caption": text}
        for n, (i, text) in enumerate([(8, "A cat"), (7, "A dog"), (7, "A pet")])
    ],
}
BOXES = COCO | {"annotations": [{"image_id": 7, "id": 1, "bbox": [1, 2, 3, 4], "category_id": 1}]}


def lay_out(root, files, images=AB):
    put_photographs(root / "img", images)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def lines(records, **options):
    return "\n".join(json.dumps(record, **options) for record in records) + "\n"


def found(root, image="", caption="", name="own"):
    return find_photographs(name, root, (image, caption))


def fails(root, *facts, **options):
    with pytest.raises(MinclipError) as error:
        list(found(root, **options).splits)
    for fact in facts:
        assert fact in str(error.value), str(error.value)
    return str(error.value)


# ---- JSON

JSONS = {  # what: (files, captions)
    "Hugging Face's metadata.jsonl": ({"img/metadata.jsonl": lines([{"file_name": "a.jpg", "text": "A dog"}, {"file_name": "b.jpg", "text": "A cat"}])}, PAIRS),
    "JSON lines in a .json": ({"all.json": lines(RECORDS)}, PAIRS),
    "JSON lines with blank lines and CRLF": ({"x.jsonl": "\r\n\r\n".join(map(json.dumps, RECORDS)) + "\r\n"}, PAIRS),
    "JSON lines with other line ends inside": ({"x.jsonl": lines([{"image": "a.jpg", "caption": "A\u2028dog"}], ensure_ascii=False)}, {"a.jpg": ["A\u2028dog"]}),
    "one line": ({"x.jsonl": lines(RECORDS[:1])}, {"a.jpg": ["A dog"]}),
    "one record": ({"x.json": RECORDS[0]}, {"a.jpg": ["A dog"]}),
    "captions in a list": ({"train.jsonl": lines([{"image": "a.jpg", "captions": ["A dog", "A pet"]}, {"image": "b.jpg", "captions": ["A cat"]}])}, TWO),
    "captions that are records": ({"x.jsonl": lines([{"image": "a.jpg", "captions": [{"caption": "A dog", "id": 3}, {"raw": "A pet", "tokens": ["a", "pet"]}]}])}, {"a.jpg": ["A dog", "A pet"]}),
    "some without a caption": ({"x.jsonl": lines([*RECORDS, {"image": "b.jpg", "caption": None}])}, PAIRS),
    "COCO": ({"annotations/captions_train2017.json": COCO, "annotations/instances_train2017.json": BOXES}, TWO),
    "COCO with its own names": ({"c.json": {"annotations": [{"image_id": 7, **record} for record in RECORDS], "images": [{"id": 3}]}}, PAIRS),
    "a list": ({"all.json": RECORDS}, PAIRS),
    "a list, indented": ({"all.json": json.dumps(RECORDS, indent=2)}, PAIRS),
    "a list under data": ({"all.json": {"version": 1, "data": RECORDS}}, PAIRS),
    "a list under annotations": ({"all.json": {"info": {"description": "x"}, "annotations": RECORDS, "licenses": [{"id": 1}]}}, PAIRS),
    "an object by image": ({"all.json": {"a.jpg": "A dog", "b.jpg": "A cat"}}, PAIRS),
    "an object of lists by image": ({"all.json": {"a.jpg": ["A dog", "A pet"], "b.jpg": ["A cat"]}}, TWO),
    "an object of records by number": ({"all.json": {"1": {"file_name": "a.jpg", "text": "A dog"}, "2": {"file_name": "b.jpg", "text": "A cat"}}}, PAIRS),
    "an object of records by image": ({"all.json": {"img/a.jpg": {"caption": "A dog", "width": 3}, "b": {"caption": "A cat"}}}, PAIRS),
    "a byte-order mark": ({"all.json": b"\xef\xbb\xbf" + json.dumps(RECORDS).encode()}, PAIRS),
    "Windows' and absolute paths": ({"all.json": [{"image": "C:\\data\\img\\a.jpg", "caption": "A dog"}, {"image": "/home/me/img/b.jpg", "caption": "A cat"}]}, PAIRS),
    "escaped slashes": ({"all.json": '[{"image": "img\\/a.jpg", "caption": "A dog"}]'}, {"a.jpg": ["A dog"]}),
    "names without an ending": ({"all.json": [{"image": "a", "caption": "A dog"}, {"image": "b", "caption": "A cat"}]}, PAIRS),
}  # fmt: skip


@pytest.mark.parametrize("kind", JSONS)
@pytest.mark.parametrize("packing", ["folder", "zip"])
def test_json_of_every_kind_is_read(tmp_path, kind, packing):
    files, captions = JSONS[kind]
    root = lay_out(tmp_path / "own", files)
    assert found(zipped(root) if packing == "zip" else root).captions == captions


@pytest.mark.parametrize("escaped", [True, False])
def test_names_beyond_ascii_are_found_in_json(tmp_path, escaped):
    root = lay_out(tmp_path, {}, ["Hündchen.jpg"])
    (root / "all.json").write_text(json.dumps([{"image": "Hündchen.jpg", "text": "x"}], ensure_ascii=escaped))
    assert found(root).captions == {"Hündchen.jpg": ["x"]}


@pytest.mark.parametrize("escaped", [True, False])
def test_karpathys_json_may_escape_the_names(tmp_path, escaped):
    names = [f"{i} Hündchen.jpg" for i in range(4)]
    splits = ["train", "train", "val", "test"]
    images = [{"filename": n, "split": s, "sentences": [{"raw": "x"}]} for n, s in zip(names, splits)]
    root = lay_out(tmp_path, {}, names)
    (root / "dataset_mine.json").write_text(json.dumps({"images": images}, ensure_ascii=escaped))
    assert found(root).splits == {"train": names[:2], "val": names[2:3], "test": names[3:]}


def test_the_columns_of_json_can_be_named(tmp_path):
    root = lay_out(
        tmp_path, {"x.jsonl": lines([{"Bild": "a.jpg", "image": "b.jpg", "Worte": "A dog", "caption": "no"}])}
    )
    assert found(root, "Bild", "Worte").captions == {"a.jpg": ["A dog"]}
    fails(root, "x.jsonl", "'Wort'", "'Worte'", caption="Wort")


@pytest.mark.parametrize("name", ["dataset_all.json", "{}.json", "captions_{}2017.json"])
def test_json_has_the_split_of_its_field_its_name_or_its_key(tmp_path, name):
    names = {"train": ["0.jpg", "1.jpg"], "val": ["2.jpg"], "test": ["3.jpg"]}
    parts = {split: [{"image": image, "caption": "x"} for image in some] for split, some in names.items()}
    root = lay_out(tmp_path, {}, [f"{i}.jpg" for i in range(4)])
    for split, records in parts.items():
        (root / name.format(split)).write_text(json.dumps(parts if name == "dataset_all.json" else records))
    assert found(root).splits == names


def test_the_json_itself_can_be_the_root(tmp_path):
    root = lay_out(tmp_path, {"a.jsonl": lines(RECORDS[:1]), "b.jsonl": lines(RECORDS[1:])})
    assert found(root / "a.jsonl").captions == {"a.jpg": ["A dog"]}
    assert found(root).captions == PAIRS


@pytest.mark.parametrize("other", ["img/a.txt", "a.txt", "x.token", "captions.txt", "t.csv", "c.parquet", "d.jsonl"])
@pytest.mark.parametrize("name", ["all.json", "dataset_mine.json", "instances.jsonl"])
def test_a_file_as_the_root_is_read_alone(tmp_path, name, other):
    root = lay_out(tmp_path, {name: lines(RECORDS), other: "image,caption\na.jpg,no\n"})
    put_photographs(root, ["a.jpg"])
    assert found(root / name, "image", "caption").captions == found(root / name).captions == PAIRS


OTHERS = {
    "package.json": {"name": "x", "description": "y"},
    "boxes.json": BOXES,
    "labels.json": {"a.jpg": 3, "b.jpg": 4},
    "split.json": {"columns": ["image", "caption"], "index": [0], "data": [["a.jpg", "x"]]},
    "sizes.json": {"a.jpg": [24, 24]},
    "damaged.json": '{"time": 3',
    "deep.json": "[" * 100_000,
    "list.json": [1, 2],
    "null.json": "null",
    "cp1252.json": '{"name": "Hündchen"}'.encode("cp1252"),
    "utf-16.json": '{"name": "Hündchen"}'.encode("utf-16"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_json_of_something_else_is_passed_over(tmp_path, name):
    files = {name: OTHERS[name]}
    assert found(lay_out(tmp_path / "1", files | {"t.csv": "image,caption\na.jpg,A dog\n"})).captions == {
        "a.jpg": ["A dog"]
    }
    assert found(lay_out(tmp_path / "2", files | {"c.jsonl": lines(RECORDS)})).captions == PAIRS
    assert found(lay_out(tmp_path / "3", files | {"img/a.txt": "A dog"})).captions == {"a.jpg": ["A dog"]}
    fails(lay_out(tmp_path / "4", files), "captions" if name == "damaged.json" else name)


@pytest.mark.parametrize("name", ["img/a.jpg.supplemental-metadata.json", "img/a.jpg.json", "about.json"])
def test_json_that_names_an_image_as_a_value_has_no_captions(tmp_path, name):
    about = {"title": "a.jpg", "description": "A dog", "views": "3"}
    fails(lay_out(tmp_path, {name: about}), "no captions", name)
    assert found(lay_out(tmp_path, {name: about, "x.jsonl": lines(RECORDS)})).captions == PAIRS


def test_texts_beside_images_come_before_json_unless_a_column_is_named(tmp_path):
    root = lay_out(tmp_path, {"labels.json": {"a.jpg": "dog", "b.jpg": "cat"}, "img/a.txt": "A dog"})
    assert found(root).captions == {"a.jpg": ["A dog"]}
    assert found(root, caption="caption").captions == {"a.jpg": ["dog"], "b.jpg": ["cat"]}


def test_large_json_without_captions_is_not_parsed(tmp_path, monkeypatch):
    from minclip.data.photos import tables

    monkeypatch.setattr(tables, "_json", None)
    monkeypatch.setattr("minclip.data.photos.captions.LARGE", 10)
    fails(lay_out(tmp_path, {"boxes.json": BOXES}), "no captions")


@pytest.mark.parametrize(
    ("files", "facts"),
    [
        ({"x.jsonl": lines(RECORDS) + '{"image": "a.jpg", "cap'}, ["x.jsonl line 3"]),
        ({"x.json": json.dumps(RECORDS)[:-5]}, ["x.json", "line 1 column"]),
        ({"x.json": '[{"image": "a.jpg", "caption": ' + "[" * 100_000}, ["x.json", "deep"]),
        ({"x.jsonl": lines([*RECORDS, [3]])}, ["x.jsonl line 3", "[3]"]),
        ({"x.jsonl": lines([*RECORDS, {"image": "a.jpg", "caption": 3}])}, ["x.jsonl line 3", "'caption'", "3"]),
        ({"x.jsonl": lines([*RECORDS, {"caption": "x"}])}, ["x.jsonl line 3", "'image'"]),
        ({"x.json": [*RECORDS, {"image": "a.jpg", "caption": "half \ud83d"}]}, ["x.json [2]", "'caption'"]),
        ({"x.jsonl": lines([{"image": "a.jpg", "Worte": "x"}])}, ["x.jsonl", "image, Worte", "data.caption_column"]),
        ({"x.json": {"images": COCO["images"], "annotations": [{"image_id": 9, "caption": "x"}, *COCO["annotations"]]}}, ["x.json annotations[0]"]),
        ({"x.json": COCO | {"annotations": [*COCO["annotations"], 3]}}, ["x.json annotations[3]", "3"]),
        ({"x.json": COCO | {"annotations": [*COCO["annotations"], {"image_id": [7], "caption": "x"}]}}, ["x.json annotations[3]"]),
        ({"x.json": {"train": [*RECORDS, "x"]}}, ["x.json train[2]", "'x'"]),
        ({"x.json": [["a.jpg", "A dog"]]}, ["x.json"]),
        ({"elsewhere.json": [{"image": "z.jpg", "caption": "x"}]}, ["elsewhere.json", "names an image"]),
        ({"x.json": json.dumps(RECORDS).encode("utf-16")}, ["x.json", "UTF-16"]),
    ],
)  # fmt: skip
def test_bad_json_is_named_with_its_place(tmp_path, files, facts):
    assert len(fails(lay_out(tmp_path, files), *facts)) < 500


# ---- Flickr's own files


TOKEN = 'a.jpg#0\tA dog , a "pet" .\na.jpg#1\t"Stop" says a sign , again\nb.jpg#0\tA cat .\n'
LEMMA = TOKEN.replace("says", "say")


@pytest.mark.parametrize("name", ["flickr8k", "flickr30k", "own"])
@pytest.mark.parametrize("file", ["Flickr8k.token.txt", "results_20130124.token", "text/Flickr30k.token.txt"])
def test_flickrs_token_files_are_read(tmp_path, name, file):
    root = lay_out(tmp_path, {file: TOKEN, "Flickr8k.lemma.token.txt": LEMMA, "Flickr8k.lemma.token": LEMMA})
    captions = {"a.jpg": ['A dog , a "pet" .', '"Stop" says a sign , again'], "b.jpg": ["A cat ."]}
    assert found(root, name=name).captions == captions


def test_a_token_file_without_a_tab_is_an_error_with_its_line(tmp_path):
    fails(lay_out(tmp_path, {"x.token": TOKEN + "b.jpg#1 A cat\n"}), "x.token line 4", name="flickr8k")


@pytest.mark.parametrize("file", ["captions.txt", "captions.csv"])
@pytest.mark.parametrize("header", ["image,caption,id", "id,caption,image", ",image,caption"])
def test_flickrs_columns_are_found_by_name(tmp_path, file, header):
    row = {"image": "a.jpg", "caption": '"A dog, a pet"', "id": "7", "": "0"}
    text = "\n".join([header, ",".join(row[name] for name in header.split(","))])
    assert found(lay_out(tmp_path, {file: text}), name="flickr8k").captions == {"a.jpg": ["A dog, a pet"]}


# ---- several caption columns


@pytest.mark.parametrize("names", ["caption_0 caption_1", "caption1 caption2", "Caption 1,Caption 2", "sentence0 sentence1", "comment-1 comment-2"])  # fmt: skip
def test_numbered_caption_columns_are_found(tmp_path, names):
    first, second = names.split("," if "," in names else " ")
    root = lay_out(tmp_path, {"t.csv": f"image,id,{first},{second}\na.jpg,1,A dog,A pet\nb.jpg,2,A cat,\n"})
    assert found(root).captions == TWO


@pytest.mark.parametrize("asked", ["caption_*", "Caption_?", "caption_0,caption_1", "caption_0, caption_*", "3,4"])
def test_several_caption_columns_can_be_named(tmp_path, asked):
    root = lay_out(tmp_path, {"t.csv": "image,caption,caption_0,caption_1\na.jpg,no,A dog,A pet\nb.jpg,no,A cat,\n"})
    assert found(root, caption=asked).captions == TWO
    assert found(root).captions == {"a.jpg": ["no"], "b.jpg": ["no"]}


@pytest.mark.parametrize("name", ["a,b", "what? [en]", "caption_*"])
def test_a_name_with_a_comma_or_a_star_is_a_name(tmp_path, name):
    root = lay_out(tmp_path, {"t.tsv": f"image\t{name}\tcaption_x\na.jpg\tA dog\tno\n"})
    assert found(root, caption=name).captions == {"a.jpg": ["A dog"]}


@pytest.mark.parametrize("asked", ["x_*", "caption_0,x", "9", "caption_0,9"])
def test_a_caption_column_that_is_not_there_is_named(tmp_path, asked):
    root = lay_out(tmp_path, {"t.csv": "image,caption_0\na.jpg,x\n"})
    fails(root, "t.csv", repr(asked), "image, caption_0", caption=asked)


def test_the_image_column_is_one(tmp_path):
    fails(
        lay_out(tmp_path, {"t.csv": "image_1,image_2,text\na.jpg,b.jpg,x\n"}),
        "t.csv",
        "image_1, image_2",
        image="image_*",
    )


def test_an_index_of_pandas_and_columns_of_one_name(tmp_path):
    root = lay_out(tmp_path, {"t.csv": "Unnamed: 0,image,caption,caption\n0,a.jpg,A dog,A pet\n1,b.jpg,A cat,\n"})
    assert found(root).captions == found(root, caption="Caption").captions == TWO
    fails(lay_out(tmp_path, {"t.csv": "image,image,caption\na.jpg,b.jpg,y\n"}), "t.csv", "image, image, caption")


# ---- lists in a cell

CELLS = {
    "['A dog', \"A pet\"]": ["A dog", "A pet"],
    '["A dog", "A pet"]': ["A dog", "A pet"],
    '[ "A dog" ]': ["A dog"],
    "['A dog' 'A pet'\n 'An animal']": ["A dog", "A pet", "An animal"],  # NumPy's
    "['A dog', None, nan, 'A pet',]": ["A dog", "A pet"],
    r"['it\'s', 'H\xfcndchen', '\U0001f415']": ["it's", "Hündchen", "🐕"],
    '["H\\u00fcndchen \\ud83d\\udc15"]': ["Hündchen 🐕"],
    '["a", null]': ["a"],
    "[]": [],
    "['A dog', 3]": ["['A dog', 3]"],
    "['A dog'": ["['A dog'"],
    "['A dog'] and more": ["['A dog'] and more"],
    "[music]": ["[music]"],
    r"['C:\dogs']": [r"['C:\dogs']"],
    r"['\x']": [r"['\x']"],
    "['" + "a" * 100_000: ["['" + "a" * 100_000],
    "['a'," * 10_000: ["['a'," * 10_000],
    "[" * 100_000: ["[" * 100_000],
}


@pytest.mark.parametrize("cell", CELLS, ids=range(len(CELLS)))
def test_a_list_in_a_cell_is_several_captions_and_what_only_begins_like_one_is_a_caption(tmp_path, cell):
    quoted = '"' + cell.replace('"', '""') + '"'
    root = lay_out(tmp_path, {"t.csv": f"image,caption\na.jpg,{quoted}\nb.jpg,x\n"})
    assert found(root).captions.get("a.jpg", []) == CELLS[cell]


# ---- no header


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("t.csv", "a.jpg,A dog\nb.jpg,A cat\n", ("1", "2")),
        ("t.csv", '"A dog",x,img/a.jpg\nA cat,y,b.jpg\n', ("3", "1")),
        ("t.tsv", "A dog\t/data/a.jpg\nA cat\tC:\\x\\b.jpg\n", ("2", "1")),
        ("t.csv", "a.jpg;A dog\nb.jpg;A cat\n", ("1", "2")),
        ("captions.txt", "a.jpg#0\tA dog\nb.jpg#0\tA cat\n", ("1", "2")),
    ],
)
def test_a_table_without_a_header_is_refused_and_read_by_numbers(tmp_path, name, text, columns):
    root = lay_out(tmp_path, {name: text})
    fails(root, name, "data.image_column", "data.caption_column", "numbers", "A dog")
    fails(root, name, "numbers", "A dog", image=text.split(",")[0].split("\t")[0])
    assert found(root, *columns).captions == PAIRS


def test_without_a_header_several_columns_are_captions(tmp_path):
    root = lay_out(tmp_path, {"t.csv": "a.jpg,A dog,A pet\nb.jpg,A cat,\n"})
    assert found(root, "1", "2,3").captions == TWO


def test_one_number_counts_under_a_header_and_two_mean_that_there_is_none(tmp_path):
    root = lay_out(tmp_path, {"t.csv": "image,Worte\na.jpg,A dog\n"})
    assert found(root, "", "2").captions == {"a.jpg": ["A dog"]}
    assert "missing and were left out: image" in found(root, "1", "2").notes[0]


def test_a_list_of_images_is_no_table_without_a_header(tmp_path):
    assert found(
        lay_out(tmp_path, {"train.csv": "a.jpg\nb.jpg\n", "c.csv": "image,caption\na.jpg,A dog\n"})
    ).captions == {"a.jpg": ["A dog"]}


@pytest.mark.parametrize("name", ["Train_GCC-training.tsv", "t.csv"])
def test_a_table_of_urls_is_refused_with_the_tool_to_use(tmp_path, name):
    text = "a dog , on a rug\thttps://x.org/a.jpg\n" if name.endswith("tsv") else 'a dog,"https://x.org/a.jpg?w=1"\n'
    root = lay_out(tmp_path, {name: text})
    fails(root, name, "img2dataset", '"shards"')
    fails(root, name, "img2dataset", '"shards"', image="2", caption="1")


# ---- separators, encodings, other files


@pytest.mark.parametrize("text", ["image;caption\na.jpg;A dog, a pet, here\n", "image\tcaption\na.jpg\tA dog, a pet, here\n", "image|caption\na.jpg|A dog, a pet, here\n", "image,caption\na.jpg,\"A dog, a pet, here\"\n", "\r\nimage;caption\r\na.jpg;A dog, a pet, here\r\n"])  # fmt: skip
def test_the_separator_is_found(tmp_path, text):
    assert found(lay_out(tmp_path, {"t.csv": text})).captions == {"a.jpg": ["A dog, a pet, here"]}


@pytest.mark.parametrize(("encoding", "named"), [("cp1252", "cp1252"), ("utf-16", "UTF-16"), ("utf-16-be", "")])
@pytest.mark.parametrize("file", ["t.csv", "t.json", "img/a.txt"])
def test_an_encoding_other_than_utf8_is_named(tmp_path, file, encoding, named):
    text = {
        "t.csv": "image,caption\na.jpg,Hündchen\n",
        "t.json": json.dumps(RECORDS[:1] + [{"ü": 1}], ensure_ascii=False),
    }
    fails(lay_out(tmp_path, {file: text.get(file, "Hündchen").encode(encoding)}), file, "UTF-8", named)


def test_the_wrong_encoding_of_a_table_is_named_though_there_are_other_tables(tmp_path):
    fails(
        lay_out(tmp_path, {"a.csv": "image,caption\na.jpg,x\n", "b.csv": "image,caption\nb.jpg,ü\n".encode("cp1252")}),
        "b.csv",
    )


def test_the_wrong_encoding_of_captions_in_json_is_named_though_there_are_others(tmp_path):
    for encoding in ("cp1252", "utf-16"):
        more = '[{"image": "b.jpg", "caption": "ü"}]'.encode(encoding)
        fails(lay_out(tmp_path / encoding, {"a.jsonl": lines(RECORDS), "b.json": more}), "b.json")


@pytest.mark.parametrize("file", ["captions.csv.gz", "captions.xlsx"])
@pytest.mark.parametrize("itself", [True, False])
def test_what_can_not_be_read_is_named(tmp_path, file, itself):
    root = lay_out(tmp_path, {file: b"PK\5\6" + bytes(18)})
    fails(root / file if itself else root, file, "CSV" if "xlsx" in file else "")


# ---- parquet


def write_parquet(path, columns, **options):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    from pyarrow import table

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table(columns), path, **options)


@pytest.mark.parametrize("group", [2, 100])
def test_parquet_of_img2dataset_is_read_and_what_was_not_downloaded_is_counted(tmp_path, group):
    images = [photograph(100), None, photograph(200), None, photograph(100)]
    columns = {"url": [f"http://x/{i}" for i in range(5)], "key": [f"{i:09d}" for i in range(5)]}
    columns |= {"status": ["success" if image else "failed" for image in images], "jpg": images}
    columns |= {"caption": [f"number {i}" for i in range(5)]}
    write_parquet(tmp_path / "00000.parquet", columns, row_group_size=group)
    (tmp_path / "00000_stats.json").write_text("{}")
    photographs = found(tmp_path)
    there = [photographs.captions[name] for name in photographs.places]
    assert there == [["number 0", "number 4"], ["number 2"]]
    assert [photographs.read(name) for name in photographs.places] == [photograph(100), photograph(200)]
    assert [note for note in photographs.notes if note.startswith("2 ")] and "row 2" in "".join(photographs.notes)


def test_parquet_of_addresses_beside_shards_is_refused(tmp_path):
    write_parquet(tmp_path / "00000.parquet", {"url": ["http://x"], "caption": ["x"], "key": ["0"]})
    (tmp_path / "00000.tar").write_bytes(b"")
    fails(tmp_path, "00000.parquet", '"shards"')


def test_columns_of_parquet_have_patterns_and_lists(tmp_path):
    root = lay_out(tmp_path, {})
    write_parquet(root / "t.parquet", {"image": AB, "caption_0": ["A dog", "A cat"], "caption_1": [["A pet"], []]})
    assert found(root).captions == found(root, caption="caption_*").captions == found(root, "1", "2,3").captions == TWO


def test_sentences_in_parquet_may_be_records(tmp_path):
    root = lay_out(tmp_path, {})
    write_parquet(
        root / "t.parquet",
        {"filename": ["a.jpg"], "sentences": [[{"raw": "A dog", "sentid": 3}, {"raw": "A pet", "sentid": 4}]]},
    )
    assert found(root).captions == {"a.jpg": ["A dog", "A pet"]}


# ---- captions that are none


@pytest.mark.parametrize("caption", ["NaN", "nan", "None", "NULL", "n/a", "<NA>", "  "])
def test_what_pandas_writes_for_a_missing_caption_is_none(tmp_path, caption):
    root = lay_out(
        tmp_path, {"t.csv": f"image,caption\na.jpg,A dog\nb.jpg,{caption}\nc.jpg,a nan bread\n"}, [*AB, "c.jpg"]
    )
    assert found(root).captions == {"a.jpg": ["A dog"], "c.jpg": ["a nan bread"]}
    assert found(root).notes == ("1 images have no caption and were left out: b.jpg",)


def test_one_text_for_most_images_is_told(tmp_path):
    names = [f"{i}.jpg" for i in range(12)]
    for same, told in ((7, 1), (6, 0)):
        texts = [{"image": n, "caption": "DIGITAL CAMERA" if i < same else f"A dog {i}"} for i, n in enumerate(names)]
        notes = found(lay_out(tmp_path, {"all.json": texts}, names)).notes
        assert [("7 of 12" in note, "DIGITAL CAMERA" in note) for note in notes] == told * [(True, True)]
