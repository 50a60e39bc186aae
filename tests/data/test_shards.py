"""Shards: every sample once an epoch whoever reads it, the same from the same seed, resumed bit for bit, whatever is broken."""

import io
import json
import pickle
import re
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import numpy as np
import pytest
import torch
from shard_files import BROKEN, GOOD, folder, key, painted, sample, write

from minclip.batches import assemble
from minclip.config import CLIPConfig, DataConfig, LoopConfig, MinclipError, TextConfig, TrainConfig, VisionConfig
from minclip.data import open_data
from minclip.data import shards as module
from minclip.data.shard_batches import ShardBatches
from minclip.data.shards import Tally, find_shards, load_shards, read_shard, texts
from minclip.tokenizer import Tokenizer

VISION = VisionConfig(
    image_size=8, patch_size=4, width=8, layers=1, heads=1, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.1)
)
TOKENIZER = Tokenizer([])
PLAIN = DataConfig(image_size=8)
RANDOM = DataConfig(image_size=8, min_crop=0.3, flip=True, color=0.4)


def stream(shards, batch_size=4, seed=0, data=PLAIN, workers=0, world_size=1, **options):
    """Batches of `batch_size` for each of `world_size` processes."""
    data, loop = replace(data, name="shards", workers=workers), LoopConfig(seed=seed)
    # one pair, which a config does not take as a batch, shows the order of the samples
    object.__setattr__(loop, "batch_size", batch_size * world_size)
    config = TrainConfig(data, CLIPConfig(32, VISION, TextConfig(context_length=32)), loop)
    return Assembled(ShardBatches(shards, TOKENIZER, config, world_size=world_size, **options), data)


@dataclass
class Assembled:
    """A stream of shards, its batches assembled as the loop does."""

    run: ShardBatches
    data: DataConfig

    def __iter__(self):
        for raw in self.run.stream():
            yield assemble(raw, self.data, VISION)


def first(count, shards, **options):
    return list(islice(stream(shards, **options), count))


def captions(batch):
    return [TOKENIZER.decode(row) for row in batch.ids.tolist()]


def numbers(batches):
    # the tokenizer takes numbers apart
    return [int(re.sub(r"\D", "", caption)) for batch in batches for caption in captions(batch)]


def same(a, b):
    return torch.equal(a.images, b.images) and torch.equal(a.ids, b.ids)


def all_same(a, b):
    return len(a) == len(b) > 0 and all(map(same, a, b))


# ---- where the shards are


def test_a_folder_gives_its_tars_sorted(tmp_path):
    shards = folder(tmp_path, 3)
    assert find_shards(str(tmp_path)) == sorted(shards) and len(shards) == 3


def test_no_place_is_an_error():
    with pytest.raises(MinclipError, match=r"data\.root"):
        find_shards("")


def test_one_tar_is_one_shard(tmp_path):
    (shard,) = folder(tmp_path, 1)
    assert find_shards(shard) == [shard]


def test_a_pattern_in_braces_gives_the_tars(tmp_path):
    shards = folder(tmp_path, 4)
    assert find_shards(f"{tmp_path}/{{00001..00003}}.tar") == shards[1:]


def test_a_folder_with_braces_in_its_name_is_a_folder(tmp_path):
    (tmp_path / "{a,b}").mkdir()
    shards = folder(tmp_path / "{a,b}", 2)
    assert find_shards(str(tmp_path / "{a,b}")) == shards and find_shards(shards[0]) == shards[:1]


def test_urls_are_expanded_and_not_asked_for():
    urls = [f"https://example.invalid/data/0000{i}.tar?key=1" for i in range(3)]
    assert find_shards("https://example.invalid/data/{00000..00002}.tar?key=1") == urls


@pytest.mark.parametrize("root", ["", "nowhere", "nowhere.tar", "empty", "{00000..00002}.tar"])
def test_no_shards_are_an_error_that_tells_what_was_looked_for(tmp_path, root):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").touch()
    looked = {"empty": "empty/*.tar", "{00000..00002}.tar": "00000.tar", "": "/*.tar"}.get(root, root)
    with pytest.raises(MinclipError, match=f"looked for .*{re.escape(looked)}"):
        find_shards(f"{tmp_path}/{root}")


def test_a_pattern_of_which_some_are_missing_is_an_error_that_names_them(tmp_path):
    folder(tmp_path, 2)
    with pytest.raises(MinclipError, match=r"2 of 4 .*00002\.tar.*00003\.tar"):
        find_shards(f"{tmp_path}/{{00000..00003}}.tar")


def test_a_pattern_that_is_none_is_an_error(tmp_path):
    with pytest.raises(MinclipError, match=r"data\.root"):
        find_shards(f"{tmp_path}/{{00000..00003.tar")


# ---- what is in one


def read(shard):
    tally = Tally()
    return list(read_shard(shard, tally)), tally


def test_samples_have_key_caption_and_image_in_the_order_of_the_tar(tmp_path):
    found, tally = read(folder(tmp_path, 2)[1])
    assert [s.caption for s in found] == [f"sample {n}" for n in range(5, 10)] and tally.skipped == 0
    assert found[0].name == "00001.tar: 000000005" and found[0].encoded == painted(5)


@pytest.mark.parametrize(
    ("kind", "format"), [("jpg", "JPEG"), ("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("JPG", "JPEG")]
)
def test_kinds_of_images(tmp_path, kind, format):
    pairs = load_shards(
        [write(tmp_path / "a.tar", {"1": sample(200, painted(200, format), kind=kind)})], image_size=8, size=1
    )
    assert abs(int(pairs.images[0, 0].mean()) - 200) < 8


def test_the_caption_is_in_the_json_where_there_is_no_txt(tmp_path):
    files = sample(1, caption="Ein Hund läuft.")
    del files["txt"]
    assert texts([write(tmp_path / "a.tar", {"1": files})], count=5) == ["Ein Hund läuft."]


def test_the_txt_goes_before_the_json(tmp_path):
    files = sample(1) | {"txt": b" a cat\n"}
    assert texts([write(tmp_path / "a.tar", {"1": files})], count=5) == ["a cat"]


KINDS = {  # files of a sample: by caption_column, the caption or parts of the reason why there is none
    "json text": ({"jpg": 1, "json": {"text": "a dog", "url": "x"}}, {"": "a dog", "text": "a dog", "url": "x", "alt": "'alt' .json text url"}),
    "json other": ({"jpg": 1, "json": {"Worte": "a dog", "url": "x"}}, {"": ".txt .json worte url data.caption_column", "Worte": "a dog"}),
    "json list": ({"jpg": 1, "json": {"captions": ["a dog", "a pet"]}}, {"": "a dog", "captions": "a dog"}),
    "json list as printed": ({"jpg": 1, "json": {"texts": "['a dog', 'a pet']"}}, {"texts": "a dog"}),
    "json number": ({"jpg": 1, "json": {"caption": 3}}, {"": ".json caption", "caption": ".json"}),
    "several dots": ({"input.jpg": 1, "outputs.txt": "a dog"}, {"": "data.caption_column .input.jpg .outputs.txt", "outputs.txt": "a dog", "txt": "'txt' .input.jpg .outputs.txt"}),
    "several texts": ({"jpg": 1, "a.txt": "a dog", "b.txt": "a cat"}, {"": ".jpg .a.txt .b.txt", "b.txt": "a cat"}),
    "several images": ({"a.jpg": 1, "b.jpg": 2, "txt": "a dog"}, {"": "image .a.jpg .b.jpg"}),
    "plain before dots": ({"jpg": 1, "txt": "a dog", "small.jpg": 2, "raw.txt": "a cat", "json": {"text": "a cow"}}, {"": "a dog", "raw.txt": "a cat", "text": "a cow"}),
    "a json before dots": ({"jpg": 1, "raw.txt": "a cat", "json": {"text": "a cow"}}, {"": "a cow"}),
    "cls": ({"jpg": 1, "cls": "a dog"}, {"": ".jpg .cls data.caption_column", "cls": "a dog", "CLS": "a dog"}),
    "text": ({"png": 1, "text": "a dog"}, {"": "a dog", "text": "a dog", "txt": "'txt' .png .text"}),
    "caption": ({"png": 1, "caption": "a dog"}, {"": "a dog", "caption": "a dog"}),
    "txt and json": ({"jpg": 1, "txt": "a dog", "json": {"caption": "a cat", "alt": "a cow"}}, {"": "a dog", "txt": "a dog", "caption": "a cat", "alt": "a cow"}),
}  # fmt: skip


def content(value):
    return (
        painted(value) if isinstance(value, int) else (value if isinstance(value, str) else json.dumps(value)).encode()
    )


@pytest.mark.parametrize(
    ("kind", "column"), [(kind, column) for kind, (_, columns) in KINDS.items() for column in columns]
)
def test_a_caption_is_a_file_or_a_field_of_the_json(tmp_path, kind, column):
    files, columns = KINDS[kind]
    shard = write(tmp_path / "a.tar", {"1": {name: content(value) for name, value in files.items()}})
    found = list(read_shard(shard, tally := Tally(), caption_column=column))
    if found:
        assert [sample.caption for sample in found] == [columns[column]] and found[0].encoded == painted(1)
    else:
        assert [part for part in columns[column].split() if part not in tally.reasons[0]] == []
        with pytest.raises(MinclipError, match=re.escape(columns[column].split()[-1])):
            load_shards([shard], image_size=8, caption_column=column)


def test_the_named_field_is_the_caption_of_all_paths(tmp_path):
    shards = folder(tmp_path, 2, 4, {n: sample(n) | {"alt": f"alt {n}".encode()} for n in range(8)})
    data = replace(PLAIN, name="shards", root=str(tmp_path), caption_column="alt")
    assert texts(shards, count=2, caption_column="alt") == ["alt 0", "alt 1"]
    assert open_data(data).load("val", size=1).captions == [["alt 4"]]
    assert {caption[:3] for batch in first(2, shards, data=data) for caption in captions(batch)} == {"alt"}


BAD = {
    "no image": {"txt": b"a dog"},
    "an empty image": {"jpg": b"", "txt": b"a dog"},
    "no caption": {"jpg": painted(1)},
    "an empty caption": sample(1, caption=" \n"),
    "an empty txt beside a json": sample(1) | {"txt": b""},
    "null in the json": {"jpg": painted(1), "json": b'{"caption": null}'},
    "a number in the json": {"jpg": painted(1), "json": b'{"caption": 5}'},
    "a json without caption": {"jpg": painted(1), "json": b'{"url": "x"}'},
    "a json that is a list": {"jpg": painted(1), "json": b"[1]"},
    "a json cut off": {"jpg": painted(1), "json": b'{"caption": "a d'},
    "half a character": {"jpg": painted(1), "json": b'{"caption": "a \\ud83d"}'},
    "no UTF-8": {"jpg": painted(1), "txt": b"caf\xe9"},
}


def deep(depth=100_000):
    return b'{"caption": ' + b"[" * depth + b"]" * depth + b"}"


BAD["a json nested without end"] = {"jpg": painted(1), "json": deep()}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_sample_is_skipped_and_told(tmp_path, bad):
    found, tally = read(write(tmp_path / "00007.tar", {"a": sample(0), "b": BAD[bad], "c": sample(2)}))
    assert [s.name for s in found] == ["00007.tar: a", "00007.tar: c"]
    assert tally.skipped == 1 and re.fullmatch(r"00007\.tar: b \(.+\)", tally.reasons[0])


def test_a_file_that_comes_twice_is_told_and_the_first_one_counts(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in [
            ("1.jpg", painted(1)),
            ("1.txt", b"one"),
            ("1.txt", b"two"),
            ("2.jpg", painted(2)),
            ("2.txt", b"three"),
        ]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    found, tally = read(str(tmp_path / "a.tar"))
    assert [s.caption for s in found] == ["one", "three"] and tally.skipped == 1 and "duplicate" in tally.reasons[0]


def test_other_files_and_folders_in_a_tar_do_no_harm(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(member := tarfile.TarInfo("part"))
        member = tarfile.TarInfo("part")
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
        for name, content in [
            ("./._1.jpg", b"mac"),
            ("part/1.jpg", painted(1)),
            ("part/1.txt", b"one"),
            ("part/1.cls", b"0"),
        ]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    found, tally = read(str(tmp_path / "a.tar"))
    assert [s.caption for s in found] == ["one"] and tally.skipped == 0


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_formats_of_tar_with_long_names(tmp_path, format):
    name = "k" * 90 + "/" + "n" * 95
    with tarfile.open(tmp_path / "a.tar", "w", format=format) as tar:
        for kind, content in sample(1).items():
            member = tarfile.TarInfo(f"{name}.{kind}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    found, tally = read(str(tmp_path / "a.tar"))
    assert [s.caption for s in found] == ["sample 1"] and tally.skipped == 0


def test_what_the_librarys_own_writer_wrote_is_read(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as tar:
        for n in range(3):
            tar.write({"__key__": key(n), **sample(n)})
    found, tally = read(str(tmp_path / "a.tar"))
    assert [s.caption for s in found] == ["sample 0", "sample 1", "sample 2"] and tally.skipped == 0


def test_wherever_a_tar_is_cut_the_samples_before_are_used_and_the_cut_is_told(tmp_path):
    shard = folder(tmp_path, 1, each=3)[0]
    whole = (tmp_path / "00000.tar").read_bytes()
    with tarfile.open(shard) as tar:
        members = tar.getmembers()
        ends = [m.offset_data + m.size for m in members]  # of jpg, json, txt of each
        edges = {m.offset for m in members} | {m.offset_data for m in members} | set(ends)
    end = ends[-1] + -ends[-1] % 512  # here the zeros begin
    for cut in sorted({e + d for e in edges | set(range(0, end, 1021)) for d in (-1, 0, 1)} | {end}):
        if not 0 <= cut <= end:
            continue
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        found, tally = read(str(tmp_path / "cut.tar"))
        # with the json there is a caption
        assert [s.caption for s in found] == [f"sample {n}" for n in range(3) if ends[3 * n + 1] <= cut], cut
        assert tally.skipped == 1 and re.match(
            r"cut\.tar: .+ \(cut off or damaged after it: .+\)$", tally.reasons[0]
        ), cut


def test_a_damaged_header_is_told(tmp_path):
    shard = folder(tmp_path, 1)[0]
    with tarfile.open(shard) as tar:
        offset = tar.getmembers()[6].offset
    content = bytearray((tmp_path / "00000.tar").read_bytes())
    content[offset + 150] ^= 3
    (tmp_path / "00000.tar").write_bytes(content)
    found, tally = read(shard)
    assert len(found) == 2 and tally.skipped == 1 and "damaged after it: bad checksum" in tally.reasons[0]


def header(name, size, kind=tarfile.REGTYPE, format=tarfile.GNU_FORMAT):
    """A member's header that declares `size` bytes, whatever follows."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return bytearray(member.tobuf(format))


def sparse(name, size):
    """A member of GNU's old sparse format: no bytes in the tar, `size` when it is read."""
    block = header(name, 0, tarfile.GNUTYPE_SPARSE)
    block[386:410], block[483:495] = b"0" * 11 + b"\0" + b"0" * 11 + b"\0", tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(name, content=b"", **records):
    member = tarfile.TarInfo(name)
    member.size, member.pax_headers = len(content), {k.replace("_", "."): v for k, v in records.items()}
    return member.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


def member(name, content):
    return bytes(header(name, len(content))) + content + bytes(-len(content) % 512)


def whole(*samples):
    """The blocks of a tar of `samples`, without its end."""
    out = b""
    for n in samples:
        out += b"".join(member(f"{key(n)}.{kind}", content) for kind, content in sample(n).items())
    return out


TB = 10**12
BOMBS = {
    "a sparse image": sparse("1.jpg", TB),
    "a sparse caption": sparse("1.txt", TB),
    "a small sparse image": sparse("1.jpg", 5),
    "a sparse map of 1 TB in pax": pax("1.jpg", GNU_sparse_map="0,0", GNU_sparse_size=str(TB)),
    "a caption of 2 MB": bytes(header("1.txt", 2**21)) + b"a " * 2**20,
    "a JSON of 2 MB": bytes(header("1.json", 2**21)) + b"  " * 2**20,
}
DAMAGED = {
    "garbage in a pax sparse map": pax("1.jpg", GNU_sparse_map="1,x"),
    "garbage in a pax sparse size": pax("1.jpg", GNU_sparse_map="0,0", GNU_sparse_size="x"),
    "garbage in a pax sparse map of version 1.0": pax("1.jpg", b"x" * 512, GNU_sparse_major="1", GNU_sparse_minor="0"),
    "a number of 10,000 digits in a pax sparse map": pax("1.jpg", GNU_sparse_map="9" * 10_000),
    "a pax header of 1 TB": bytes(header("x", TB, tarfile.XHDTYPE)),
    "a name of 1 TB": bytes(header("x", TB, tarfile.GNUTYPE_LONGNAME)),
    "an image of 1 TB": bytes(header("1.jpg", TB)),
    "an array of 1 TB": bytes(header("1.npy", TB)),
    "a kind of its own with 1 TB": bytes(header("1", TB, b"Z")),
    "a negative size in pax": pax("1.jpg", size="-1024"),
    "2,000 headers of headers": bytes(header("x", 0, tarfile.XHDTYPE)) * 2000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_member_that_declares_more_than_can_be_meant_is_skipped_and_counted(tmp_path, bomb):
    other = member("1.jpg", painted(1)) if "caption" in bomb or "JSON" in bomb else member("1.txt", b"one")
    (tmp_path / "a.tar").write_bytes(whole(0) + other + BOMBS[bomb] + whole(2) + bytes(1024))
    found, tally = read(str(tmp_path / "a.tar"))
    assert [s.caption for s in found] == ["sample 0", "sample 2"] and tally.skipped == 1
    assert re.match(r"a\.tar: 1 \(.*\.(jpg|txt|json).*bytes", tally.reasons[0])


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_header_that_can_not_be_read_ends_the_shard_and_is_counted(tmp_path, damage):
    (tmp_path / "a.tar").write_bytes(whole(0) + DAMAGED[damage] + whole(2) + bytes(1024))
    found, tally = read(str(tmp_path / "a.tar"))
    assert [s.caption for s in found] == ["sample 0"] and tally.skipped == 1 and "a.tar: " in tally.reasons[0]


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("{000000000..999999999}.tar", "1,000,000,000"),
        ("{0..999999}/{0..999}.tar", "1,000,000,000"),
        ("{a,b}" * 30 + ".tar", "1,073,741,824"),
        ("{z..a}{-5..99999999..3}.tar", "1,733,333,420"),
        ("{0{0,1},{0..99999999}}.tar", "400,000,000"),
    ],
)
def test_a_pattern_without_end_is_refused_before_it_is_written_out(pattern, count):
    began = time.monotonic()
    with pytest.raises(MinclipError, match=rf"data\.root.*{count}"):
        find_shards("https://example.invalid/" + pattern)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100, b"\0" * 100])
def test_a_file_that_is_no_tar_is_told(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    found, tally = read(str(tmp_path / "a.tar"))
    assert (
        found == [] and tally.skipped == 1 and tally.reasons[0].startswith("a.tar: its beginning (cut off or damaged")
    )


def test_a_shard_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(MinclipError, match=r"the shard .*gone\.tar can't be read"):
        read(str(tmp_path / "gone.tar"))


# ---- the first ones


def test_loaded_pairs_are_the_first_that_can_be_decoded(tmp_path):
    shards = folder(tmp_path, change=BROKEN)
    pairs = load_shards(shards, image_size=8, size=9)
    expected = sorted(GOOD)[:9]
    assert pairs.captions == [[f"sample {n}"] for n in expected] and len(set(pairs.names)) == 9
    assert pairs.images.shape == (9, 3, 8, 8) and pairs.images.dtype == np.uint8
    assert pairs.images[:, 0, 0, 0].tolist() == expected and pairs.images[0, 2, 0].tolist() == list(range(0, 80, 10))
    assert len(pairs.notes) == 1 and "2 samples were skipped: 00000.tar: 000000003 (" in pairs.notes[0]


def test_loaded_pairs_without_bad_samples_have_no_notes_and_stop_where_the_shards_end(tmp_path):
    pairs = load_shards(folder(tmp_path), image_size=8, size=99)
    assert pairs.notes == () and len(pairs) == 30


def test_only_the_first_few_reasons_are_told(tmp_path):
    pairs = load_shards(folder(tmp_path, change={n: {"jpg": b"x"} for n in range(1, 30)}), image_size=8, size=5)
    assert (
        pairs.notes[0].startswith("29 samples were skipped")
        and pairs.notes[0].count("no caption") == module.MAX_REASONS
    )
    assert pairs.notes[0].endswith("…")


def test_texts_decode_no_image(tmp_path, monkeypatch):
    shards = folder(tmp_path, change=BROKEN)
    monkeypatch.setattr(module, "decode", lambda *_: pytest.fail("an image was decoded"))
    assert texts(shards, count=7) == [f"sample {n}" for n in range(7)] and len(texts(shards, count=99)) == 30 - 4


@pytest.mark.parametrize("call", [lambda s: load_shards(s, image_size=8, size=4), lambda s: texts(s, count=4)])
def test_nothing_to_read_is_an_error_that_tells_why(tmp_path, call):
    with pytest.raises(
        MinclipError, match=r"from 2 shards; 10 samples were skipped: 00000.tar: 000000000 \(no caption"
    ):
        call(folder(tmp_path, 2, change={n: {"jpg": b"x"} for n in range(10)}))


# ---- batches


def test_a_batch_is_as_elsewhere(tmp_path):
    for batch in first(3, folder(tmp_path)):
        assert batch.images.shape == (4, 3, 8, 8) and batch.images.dtype == torch.float32
        assert batch.ids.dtype == torch.int64 and ((batch.ids == TOKENIZER.eot_id).sum(dim=1) == 1).all()
        assert (batch.ids[:, -1] == TOKENIZER.eot_id).any()  # trimmed
        value = batch.images * torch.tensor(VISION.std).view(3, 1, 1) + torch.tensor(VISION.mean).view(3, 1, 1)
        assert (value[:, 0, 0, 0] * 255).round().int().tolist() == numbers([batch])


def test_an_epoch_shows_every_good_sample_once(tmp_path):
    bad = (11, 12, 17, 23)  # which one sees without decoding
    shards = folder(tmp_path, change={n: BROKEN[n] for n in bad})
    for shown in (numbers(first(26, shards, batch_size=1)), numbers(first(13, shards, batch_size=2))):
        assert sorted(shown) == sorted(set(range(30)) - set(bad))


def epoch_of(shards, rank, world_size, workers, each):
    """What a process sees in its first epoch; its shards are whole, and each worker reads as many."""
    batches = first(each, shards, batch_size=1, rank=rank, world_size=world_size, workers=workers)
    return numbers(batches)


@pytest.mark.parametrize(("world_size", "workers"), [(1, 0), (1, 2), (2, 2), (3, 0)])
def test_processes_and_workers_share_an_epoch(tmp_path, world_size, workers):
    shards = folder(tmp_path, 12, each=3)
    shown = [n for rank in range(world_size) for n in epoch_of(shards, rank, world_size, workers, 36 // world_size)]
    assert sorted(shown) == list(range(36))


def test_where_shards_are_not_shared_evenly_nobody_stops(tmp_path):
    shards = folder(tmp_path, 5, each=3)
    shown = [numbers(first(60, shards, batch_size=1, rank=rank, world_size=2)) for rank in (0, 1)]
    assert sorted(shown[0][:9] + shown[1][:6]) == list(range(15))
    assert set(shown[0]) == set(shown[1]) == set(range(15))  # another part of the shards in another epoch


def test_samples_and_shards_come_in_another_order_in_another_epoch_and_with_another_seed(tmp_path):
    shards = folder(tmp_path)
    a, b = numbers(first(60, shards, batch_size=1)), numbers(first(30, shards, batch_size=1, seed=1))
    assert sorted(a[:30]) == sorted(a[30:]) == sorted(b) and len({tuple(a[:30]), tuple(a[30:]), tuple(b)}) == 3


@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": 2}])
def test_the_shards_themselves_are_shuffled_by_the_seed(tmp_path, other):
    shards = folder(tmp_path)
    a, b = (numbers(first(30, shards, batch_size=1, shuffle=0, **options)) for options in ({}, other))
    assert sorted(a) == sorted(b) == list(range(30)) and a != b


def test_shuffling_reaches_as_far_as_the_buffer(tmp_path):
    shards = folder(tmp_path, 2, each=20)
    straight = numbers(first(40, shards, batch_size=1, shuffle=0))
    assert straight in ([*range(40)], [*range(20, 40), *range(20)])
    assert straight == numbers(first(40, shards, batch_size=1, shuffle=1))
    near = numbers(first(40, shards, batch_size=1, shuffle=10))
    assert sorted(near) == list(range(40)) and near != straight
    assert max(straight.index(n) - i for i, n in enumerate(near)) < 10
    far = numbers(first(40, shards, batch_size=1))
    assert max(straight.index(n) - i for i, n in enumerate(far)) > 20


def test_a_batch_holds_no_sample_twice_and_none_is_lost(tmp_path):
    shards = folder(tmp_path, 2, each=5)
    for batch_size in (3, 7, 10):
        batches = first(20, shards, batch_size=batch_size)
        assert all(len(set(numbers([b]))) == batch_size for b in batches)
        counts = Counter(numbers(batches)).values()
        assert len(counts) == 10 and max(counts) - min(counts) <= 2


# ---- the same again

ways = pytest.mark.parametrize("workers", [0, 2])


@ways
def test_the_same_numbers_give_the_same_batches(tmp_path, workers):
    run = stream(folder(tmp_path, change=BROKEN), data=RANDOM, workers=workers)
    assert all_same(list(islice(run, 12)), list(islice(run, 12)))


@pytest.mark.parametrize(
    ("workers", "change", "rank"), [(0, {}, 0), (0, BROKEN, 1), (2, BROKEN, 0)], ids=["good", "broken", "workers"]
)
def test_a_resumed_stream_goes_on_as_if_never_interrupted(tmp_path, workers, change, rank):
    options = {"data": RANDOM, "workers": workers, "rank": rank, "world_size": 2, "shuffle": 7, "batch_size": 3}
    shards = folder(tmp_path, change=change)
    whole = first(20, shards, **options)
    for step in (1, 2, 7, 13) if workers == 0 else (1, 6):
        assert all_same(whole[step:], first(20 - step, shards, step=step, **options)), step


def test_skipped_batches_are_not_decoded(tmp_path, monkeypatch):
    shards, decoded, decode = folder(tmp_path, change=BROKEN), [], module.decode
    monkeypatch.setattr(module, "decode", lambda *a: decoded.append(a) or decode(*a))
    first(1, shards, step=5)
    assert len(decoded) <= 4 + 3


def test_two_streams_side_by_side_do_not_disturb_each_other(tmp_path):
    run = stream(folder(tmp_path, change=BROKEN), data=RANDOM)
    assert all(same(a, b) for a, b in islice(zip(run, run), 10))


@ways
def test_the_callers_random_state_is_left_alone(tmp_path, workers):
    import random

    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first(3, folder(tmp_path), data=RANDOM, workers=workers)
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
    assert before[2] == random.getstate()


def test_crops_change_from_batch_to_batch_and_from_process_to_process(tmp_path):
    shards = [write(tmp_path / f"{s}.tar", {"1": sample(1)}) for s in range(2)]
    data = DataConfig(image_size=8, min_crop=0.3)
    images = [b.images for rank in (0, 1) for b in first(8, shards, batch_size=1, data=data, rank=rank, world_size=2)]
    # of boxes of whole pixels in so small a picture a few are alike
    assert len({tuple(image.flatten().tolist()) for image in images}) > 8


# ---- broken samples


@ways
def test_bad_samples_are_counted_once_and_never_shown(tmp_path, workers):
    shards = folder(tmp_path, change=BROKEN)
    run = stream(shards, batch_size=3, workers=workers)
    batches = list(islice(run, 60))
    assert set(numbers(batches)) == GOOD and all(len(set(numbers([b]))) == 3 for b in batches)
    tally = run.run.tally
    assert tally.skipped > 7 and len(tally.reasons) == module.MAX_REASONS
    assert all(re.fullmatch(r"0000\d\.tar: \d{9} \(.+\)", reason) for reason in tally.reasons)


def test_in_one_epoch_each_bad_sample_is_counted_once(tmp_path):
    run = stream(folder(tmp_path, change=BROKEN), batch_size=2, shuffle=0)
    batches = iter(run)
    shown = numbers(islice(batches, 13))  # 26 have a caption and an image
    assert set(shown) == GOOD and run.run.tally.skipped == len(BROKEN)


def test_the_place_of_a_bad_sample_is_taken_by_the_next_good_one(tmp_path):
    shards = folder(tmp_path, 1, each=9, change={1: sample(1, image=b"x"), 3: sample(3, image=b"y")})
    assert [numbers([b]) for b in first(3, shards, batch_size=3, shuffle=0)] == [[0, 2, 4], [4, 5, 6], [6, 7, 8]]
    shards = folder(tmp_path, 1, each=9, change={n: sample(n, image=b"x") for n in (1, 2)})
    assert [numbers([b]) for b in first(3, shards, batch_size=3, shuffle=0)] == [[0, 3, 4], [3, 4, 5], [6, 7, 8]]


def test_a_cut_shard_does_not_stop_the_stream(tmp_path):
    shards = folder(tmp_path, 3)
    content = (tmp_path / "00001.tar").read_bytes()
    (tmp_path / "00001.tar").write_bytes(content[: 2 * 3 * 1024 + 700])
    run = stream(shards, batch_size=1)
    shown = numbers(islice(run, 12))
    assert (
        set(shown) == {*range(7), *range(10, 15)}
        and run.run.tally.skipped == 1
        and "00001.tar" in run.run.tally.reasons[0]
    )


@ways
@pytest.mark.parametrize("bad", [{"jpg": b"x", "txt": b"a dog"}, {"jpg": painted(1)}], ids=["images", "captions"])
def test_nothing_usable_at_all_is_an_error_and_no_endless_loop(tmp_path, workers, bad):
    shards = folder(tmp_path, change={n: bad for n in range(30)})
    with pytest.raises(MinclipError, match=r"6 shards .* one batch of 4: .*; \d+ samples were skipped: 0000") as caught:
        first(1, shards, workers=workers)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("change", [{}, {n: sample(n, image=b"x") for n in range(5, 30)}], ids=["few", "few good"])
def test_a_batch_that_all_shards_can_not_fill_is_an_error(tmp_path, change):
    shards = folder(tmp_path, 6, change=change)
    with pytest.raises(MinclipError, match=r"6 shards .* one batch of (31|6)"):
        first(1, shards, batch_size=6 if change else 31)


def test_a_batch_may_be_larger_than_the_shards_of_one_epoch(tmp_path):
    shards = folder(tmp_path, 6)
    assert len(set(numbers(first(1, shards, batch_size=30, rank=1, world_size=6)))) == 30


def test_a_shard_that_is_listed_twice_does_no_harm(tmp_path):
    shards = folder(tmp_path, 1)
    assert len(first(5, shards * 2, batch_size=5)) == 5
    with pytest.raises(MinclipError, match=r"1 shards hold .* one batch"):
        first(1, shards * 2, batch_size=6)


def test_one_good_shard_of_many_is_enough_for_every_worker(tmp_path):
    shards = folder(tmp_path, 4, change={n: {"jpg": b"x"} for n in range(5, 20)})
    for rank in (0, 1):
        assert set(numbers(first(6, shards, batch_size=5, rank=rank, world_size=2))) == set(range(5))


# ---- processes and workers


def test_fewer_shards_than_processes_is_an_error_that_says_the_numbers(tmp_path):
    with pytest.raises(MinclipError, match=r"3 shards .*4 processes"):
        stream(folder(tmp_path, 3), world_size=4)


@pytest.mark.parametrize(("world_size", "used"), [(1, 5), (2, 2), (3, 1), (5, 1)])
def test_fewer_shards_than_workers_take_fewer_workers(tmp_path, world_size, used):
    assert stream(folder(tmp_path, 5), world_size=world_size, workers=8).run.workers == used


def test_a_shard_that_is_gone_is_one_sentence_from_a_worker_too(tmp_path):
    shards = folder(tmp_path, 2)
    (tmp_path / "00001.tar").unlink()
    with pytest.raises(MinclipError, match=r"the shard .*00001\.tar can't be read") as caught:
        first(20, shards, workers=2)
    assert "\n" not in str(caught.value)


def test_a_stream_can_be_sent_to_a_process_that_is_started_anew(tmp_path):
    run = stream(folder(tmp_path), data=RANDOM)
    assert all_same(list(islice(pickle.loads(pickle.dumps(run)), 5)), list(islice(run, 5)))


# ---- left and right


@pytest.mark.parametrize(("min_crop", "workers"), [(1.0, 0), (0.5, 2)])
def test_half_are_mirrored_but_never_under_a_caption_that_says_a_side(tmp_path, min_crop, workers):
    said = {n: sample(n, caption="a star on the left" if n % 2 else "a star") for n in range(30)}
    seen = Counter()
    for batch in first(
        20, folder(tmp_path, change=said), data=DataConfig(image_size=8, min_crop=min_crop, flip=True), workers=workers
    ):
        mirrored = (batch.images[:, 2, 0, 0] > batch.images[:, 2, 0, -1]).tolist()
        seen.update(zip(captions(batch), mirrored))
    assert seen["a star on the left", True] == 0 and seen["a star on the left", False] > 20
    assert seen["a star", True] > 8 and seen["a star", False] > 8


def test_nothing_is_mirrored_without_flip(tmp_path):
    for batch in first(10, folder(tmp_path)):
        assert (batch.images[:, 2, 0, 0] < batch.images[:, 2, 0, -1]).all()


# ---- over HTTP


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """`serve(handler) -> address` of a server of `tmp_path` on this machine."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "PAUSES", (0.01, 0.01))
    servers = []

    def start(handler=Quiet):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path)))
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@ways
def test_shards_are_read_over_http_as_from_disk(tmp_path, serve, workers):
    shards = folder(tmp_path, 4)
    urls = find_shards(serve() + "/{00000..00003}.tar")
    assert all_same(first(10, urls, data=RANDOM, workers=workers), first(10, shards, data=RANDOM, workers=workers))
    assert texts(urls, count=99) == texts(shards, count=99)


@ways
def test_a_shard_that_the_server_has_not_is_an_error_that_names_it(tmp_path, serve, workers):
    folder(tmp_path, 2)
    with pytest.raises(
        MinclipError, match=r"the shard http://127.*/00002\.tar can't be read: HTTP Error 404"
    ) as caught:
        first(30, find_shards(serve() + "/{00000..00002}.tar"), workers=workers)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_busy_is_asked_again(tmp_path, serve):
    asked = []

    class Busy(Quiet):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(503) if len(asked) < 3 else super().do_GET()

    folder(tmp_path, 1)
    assert len(texts([serve(Busy) + "/00000.tar"], count=99)) == 5 and len(asked) == 3


def test_a_server_that_has_no_such_shard_is_asked_once(serve):
    asked = []

    class Counting(Quiet):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

    with pytest.raises(MinclipError, match="HTTP Error 404"):
        texts([serve(Counting) + "/00000.tar"], count=1)
    assert asked == ["/00000.tar"]


def test_a_server_that_stays_busy_or_away_is_an_error(tmp_path, serve):
    class Busy(Quiet):
        def do_GET(self):
            self.send_error(503)

    with pytest.raises(MinclipError, match=r"00000\.tar can't be read: HTTP Error 503"):
        texts([serve(Busy) + "/00000.tar"], count=1)
    with pytest.raises(MinclipError, match=r"http://127\.0\.0\.1:9/00000\.tar can't be read"):
        texts(["http://127.0.0.1:9/00000.tar"], count=1)


@pytest.mark.parametrize("length", ["told", "not told"])
def test_a_connection_that_breaks_is_a_cut_shard(tmp_path, serve, length):
    class Breaking(Quiet):
        def do_GET(self):
            content = (tmp_path / "00000.tar").read_bytes()
            self.send_response(200)
            if length == "told":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: 3 * 3 * 1024])

    folder(tmp_path, 1)
    tally = Tally()
    found = list(read_shard(serve(Breaking) + "/00000.tar?password=1", tally))
    assert len(found) == 3 and tally.skipped == 1 and tally.reasons[0].startswith("00000.tar: ")


# ---- the library


@pytest.mark.slow
def test_importing_minclip_does_not_import_webdataset():
    code = "import sys, minclip, minclip.data.shards; sys.exit('webdataset' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_without_webdataset_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    shards = folder(tmp_path, 2)
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(MinclipError, match="pip install webdataset"):
        stream(shards)
    with pytest.raises(MinclipError, match="pip install webdataset"):
        texts(shards, count=1)
