"""Damaged, hostile and empty files where photographs and captions are expected: one MinclipError that names the file."""

import io
import os
import random
import struct
import zipfile
import zlib

import pytest
from pictures import photograph, put_photographs

from minclip.config import MinclipError
from minclip.data import load_pairs
from minclip.data.kaggle import MARK, fetch
from minclip.data.photos.images import decode, open_image, read_image
from minclip.data.photos.pack import pack
from minclip.data.photos.photographs import find_photographs

pytestmark = pytest.mark.usefixtures("data_home")
NAMES = [f"{i:03}.jpg" for i in range(60)]
DEEP = "[" * 100_000


def captioned(folder, names=NAMES):
    put_photographs(folder / "Images", names)
    (folder / "captions.txt").write_text("image,caption\n" + "".join(f"{name},A dog .\n" for name in names))
    return folder


def zipped(path, method=zipfile.ZIP_DEFLATED, names=NAMES):
    with zipfile.ZipFile(path, "w", method) as archive:
        rows = "".join(f"{name},A dog and another dog .\n" for name in names)
        archive.writestr("captions.csv", "image,caption\n" + rows)
        for name in names:
            archive.writestr(name, photograph())
    return path


def png(width, height):
    """A PNG of one color, however large, in a thousandth of its pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    compressor, rows = zlib.compressobj(9), bytes(1 + 3 * width)
    data = b"".join(compressor.compress(rows) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


# ---- zips


def change_headers(path, name, **fields):
    """Overwrites fields of a member, in its own header and in the zip's directory: flags, method, or a byte of its data."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    entry = data.rindex(name.encode()) - 46
    for field, local, central in (("flags", 6, 8), ("method", 8, 10)):
        if field in fields:
            data[info.header_offset + local : info.header_offset + local + 2] = struct.pack("<H", fields[field])
            data[entry + central : entry + central + 2] = struct.pack("<H", fields[field])
    if "flip" in fields:
        data[info.header_offset + 30 + len(name) + fields["flip"]] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("stored", "fields"),
    [
        (zipfile.ZIP_DEFLATED, {"flags": 1}),
        (zipfile.ZIP_DEFLATED, {"method": 9}),  # Deflate64, as Windows writes it above 2 GB
        (zipfile.ZIP_DEFLATED, {"method": 77}),
        (zipfile.ZIP_DEFLATED, {"flip": 30}),
        (zipfile.ZIP_STORED, {"flip": 20}),
        (zipfile.ZIP_LZMA, {"flip": 12}),
        (zipfile.ZIP_BZIP2, {"flip": 12}),
    ],
    ids=["encrypted", "Deflate64", "unknown method", "deflate", "CRC", "lzma", "bzip2"],
)
def test_a_table_in_a_zip_that_can_not_be_read_is_named(tmp_path, stored, fields):
    path = zipped(tmp_path / "own.zip", stored)
    change_headers(path, "captions.csv", **fields)
    with pytest.raises(MinclipError, match=r"captions\.csv"):
        find_photographs("own", path)


@pytest.mark.parametrize("fields", [{"flags": 1}, {"method": 9}, {"method": 77}])
def test_an_image_in_a_zip_that_can_not_be_read_is_left_out_and_named(tmp_path, fields):
    path = zipped(tmp_path / "own.zip")
    change_headers(path, "007.jpg", **fields)
    pairs = load_pairs("own", "train", image_size=16, root=path)
    assert "007.jpg" not in pairs.names and "1 images" in pairs.notes[-1] and "007.jpg" in pairs.notes[-1]


def test_a_zip_with_random_bytes_changed_loads_or_is_a_minclip_error(tmp_path):
    whole = zipped(tmp_path / "own.zip", names=NAMES[:4]).read_bytes()
    directory = whole.index(b"PK\x01\x02")
    dice, outcomes = random.Random(0), set()
    for i in range(120):
        data = bytearray(whole)
        start = directory if i % 2 else 0  # as often in the directory as anywhere
        for _ in range(dice.randrange(1, 5)):
            data[dice.randrange(start, len(data))] = dice.randrange(256)
        (tmp_path / "changed.zip").write_bytes(data)
        try:
            found = find_photographs("own", tmp_path / "changed.zip")
            for name in found.places:
                with pytest.MonkeyPatch.context():
                    pack([name], found.read, 4, place=str(i))
            outcomes.add("loaded")
        except MinclipError as error:
            outcomes.add("refused")
            assert "changed.zip" in str(error) or ".csv" in str(error) or "none of the 1 images" in str(error)
    assert outcomes == {"loaded", "refused"}


@pytest.mark.parametrize("count", [1, 2])
def test_a_name_that_is_twice_in_a_zip_is_one_image(tmp_path, count):
    path = zipped(tmp_path / "own.zip", names=NAMES[:2])
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("000.jpg", photograph(200))
    assert find_photographs("own", path).captions.keys() == set(NAMES[:2])


def test_a_member_that_is_a_bomb_is_left_out_before_it_is_unpacked(tmp_path):
    path = zipped(tmp_path / "own.zip", names=NAMES[:20])
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"001.jpg") - 46
    data[entry + 24 : entry + 28] = struct.pack("<I", 2**32 - 2)  # it says that 4 GB are in it
    path.write_bytes(data)
    found = find_photographs("own", path)
    _, kept, broken = pack(NAMES[:3], found.read, 16, place="bomb")
    assert kept == ["000.jpg", "002.jpg"] and "001.jpg" in broken[0] and "4.3 GB" in broken[0]


# ---- empty tables, tables of NULs


@pytest.mark.parametrize("content", [b"", bytes(500), b"\n\n", b"image,caption\n", b"a.jpg,A dog\0 .\n"])
@pytest.mark.parametrize(
    ("name", "file"), [("flickr8k", "captions.txt"), ("flickr8k", "results.csv"), ("own", "t.csv"), ("own", "000.txt")]
)
def test_an_empty_table_and_one_of_nulls_are_named(tmp_path, name, file, content):
    put_photographs(tmp_path, NAMES[:1])
    (tmp_path / file).write_bytes(content)
    if file == "000.txt" and content.startswith(b"image"):
        pytest.skip("a caption like any other")
    with pytest.raises(MinclipError, match=file.replace(".", r"\.")):
        find_photographs(name, tmp_path)


# ---- JSON


WRONG = [
    "null", "3", "[]", '"images"', "", "\0" * 99, DEEP, '{"images": 3}', '{"images": {"a": 1}}', '{"images": [null]}',
    '{"images": [{"filename": null, "split": "train", "sentences": [{"raw": "x"}]}]}',
    '{"images": [{"filename": "000.jpg", "split": "train", "sentences": 3}]}',
    '{"images": [{"filename": "000.jpg", "split": "train", "sentences": [{"raw": null}]}]}',
    '{"images": [{"filename": "000.jpg", "split": 3, "sentences": [{"raw": "x"}]}]}',
    '{"images": [{"filename": ["000.jpg"], "split": "train", "sentences": [{"tokens": [1]}]}]}',
    f'{{"images": [{{"filename": {DEEP}',
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_karpathy_json_of_something_else_is_named(tmp_path, text):
    put_photographs(tmp_path, NAMES[:2])
    (tmp_path / "dataset_flickr8k.json").write_text(text)
    with pytest.raises(MinclipError, match=r"dataset_flickr8k\.json"):
        find_photographs("flickr8k", tmp_path)


def test_a_caption_of_a_hundred_thousand_brackets_is_a_caption(tmp_path):
    put_photographs(tmp_path, NAMES[:2])
    caption = '["' + DEEP
    (tmp_path / "t.csv").write_text('image,caption\n000.jpg,"' + caption.replace('"', '""') + '"\n')
    assert find_photographs("own", tmp_path).captions["000.jpg"] == [caption]


@pytest.mark.parametrize(
    "line",
    [
        DEEP,
        "null",
        "3",
        '{"sum": 0, "broken": []}',
        '{"sum": 0}',
        '{"sum": "x", "broken": {"a.jpg": 3}}',
        '{"sum": 0, "broken": {"a.jpg": 3}}',
    ],
)
def test_a_damaged_list_of_a_pack_is_made_anew(data_home, line):
    for _ in range(2):
        images, *_ = pack(["a.jpg"], lambda name: photograph(), 16, place="here")
        assert len(images) == 1
        (listed,) = (data_home / "cache").glob("*.json")
        listed.write_text(line + "\n")


@pytest.mark.parametrize("mark", ["", "null", "[]", "{}", '{"source": 3}', DEEP])
def test_a_damaged_mark_of_a_fetched_data_set_is_named(data_home, mark):
    (data_home / "flickr8k").mkdir(parents=True)
    (data_home / "flickr8k" / MARK).write_text(mark)
    with pytest.raises(MinclipError, match=MARK.replace(".", r"\.")):
        fetch("flickr8k")


# ---- parquet


@pytest.fixture
def write_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

    def write(columns, names=None):
        from pyarrow import Table, table

        made = Table.from_arrays(list(table(columns).columns), names) if names else table(columns)
        parquet.write_table(made, tmp_path / "t.parquet")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("columns", "names", "named"),
    [
        ({"a": ["000.jpg"], "b": ["x"], "c": ["y"]}, ["image", "caption", "caption"], "caption"),
        ({"a": ["000.jpg"], "b": ["000.jpg"], "c": ["y"]}, ["image", "image", "caption"], "image"),
        ({"a": ["000.jpg"], "b": ["x"], "c": ["train"], "d": ["val"]}, ["image", "caption", "split", "split"], "split"),
        ({"image": [{"bytes": 3, "path": "000.jpg"}], "caption": ["x"]}, None, "image"),
        ({"image": [{"bytes": "text", "path": "000.jpg"}], "caption": ["x"]}, None, "image"),
        ({"image": [{"bytes": b"x", "path": 3}], "caption": ["x"]}, None, "image"),
        ({"image": [{"bytes": [b"x"], "path": "000.jpg"}], "caption": ["x"]}, None, "image"),
        ({"image": [{"other": 3}], "caption": ["x"]}, None, "image"),
        ({"image": [3], "caption": ["x"]}, None, "image"),
        ({"image": ["000.jpg"], "caption": [{"a": 1}]}, None, "caption"),
        ({"image": ["000.jpg"], "caption": ["x"], "split": [3]}, None, "split"),
    ],
)
def test_a_parquet_of_the_wrong_columns_names_file_and_column(write_parquet, columns, names, named):
    root = write_parquet(columns, names)
    put_photographs(root, NAMES[:1])
    with pytest.raises(MinclipError, match=rf"t\.parquet.*{named}"):
        load_pairs("own", "train", image_size=16, root=root)


def test_a_parquet_with_random_bytes_changed_loads_or_is_named(write_parquet):
    path = write_parquet({"image": NAMES[:3], "caption": [["a dog", "a cat"]] * 3}) / "t.parquet"
    put_photographs(path.parent, NAMES[:3])
    whole, dice, outcomes = path.read_bytes(), random.Random(0), set()
    for _ in range(80):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(4, len(data) - 8)] = dice.randrange(256)
        path.write_bytes(data)
        try:
            find_photographs("own", path.parent)
            outcomes.add("loaded")
        except MinclipError as error:
            outcomes.add("refused")
            assert "t.parquet" in str(error)
    assert outcomes == {"loaded", "refused"}


# ---- images larger than memory


LONG = (178_000_000, 1)


@pytest.fixture(scope="module")
def bomb():
    data = png(*LONG)
    assert len(data) < 600_000
    return data


def test_a_png_of_178_million_pixels_is_left_out_before_it_is_decoded(bomb, monkeypatch):
    def load(*given):
        raise AssertionError("it was decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    for opened in (lambda: decode(bomb, 16), lambda: read_image(bomb, 16)):
        with pytest.raises((OSError, ValueError), match="178,000,000"):
            opened()


def test_an_image_that_is_too_large_is_counted_and_named(bomb, tmp_path):
    files = {"a.jpg": photograph(), "bomb.png": bomb}
    _, kept, broken = pack(list(files), files.__getitem__, 16, place="here")
    assert kept == ["a.jpg"] and "bomb.png" in broken[0] and "178,000,000 × 1" in broken[0]
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(MinclipError, match=r"bomb\.png.*178,000,000"):
        open_image(tmp_path / "bomb.png", 16)


def test_a_large_jpeg_is_read_at_a_part_of_its_size():
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (13_000, 11_000), 77).save(file, "JPEG", quality=20)
    with pytest.warns(Image.DecompressionBombWarning):
        assert abs(int(decode(file.getvalue(), 64).mean()) - 77) < 2


@pytest.mark.skipif(os.name != "posix", reason="a sparse file")
def test_a_file_of_a_terabyte_is_left_out(tmp_path):
    root = captioned(tmp_path / "root")
    os.truncate(root / "Images" / "003.jpg", 2**40)
    pairs = load_pairs("flickr8k", "train", image_size=16, root=root)
    assert "003.jpg" not in pairs.names and "003.jpg" in pairs.notes[-1] and "GB" in pairs.notes[-1]
    with pytest.raises(MinclipError, match=r"003\.jpg"):
        open_image(root / "Images" / "003.jpg", 16)
    os.truncate(root / "captions.txt", 2**40)
    with pytest.raises(MinclipError, match=r"captions\.txt.* GB"):
        find_photographs("flickr8k", root)
