"""Search equals a product by hand, and its index follows the photographs: new, changed, deleted, broken ones."""

import os
import re
import shutil
import sqlite3
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import last_json
from PIL import Image

import minclip
from minclip.cli import main
from minclip.config import MinclipError
from minclip.evaluate import search
from minclip.evaluate.search import Index

DEMO = Path(__file__).parents[2] / "data" / "demo"
LOADED = minclip.load(DEMO)
MODEL, PREPROCESS, TOKENIZER = LOADED


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """40 pictures, half of them in a subfolder."""
    folder = tmp_path_factory.mktemp("painted")
    (folder / "more").mkdir()
    for i, image in enumerate(minclip.load_pairs("shapes", "test", size=40).images):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / ("more" if i % 2 else "") / f"{i:02}.png")
    return folder


@pytest.fixture
def photos(painted, tmp_path):
    return Path(shutil.copytree(painted, tmp_path / "photos"))


@pytest.fixture
def read(monkeypatch):
    """The number of images that were opened so far, in a list."""
    count, original = [0], search.read_image

    def counted(data, side):
        count[0] += 1
        return original(data, side)

    monkeypatch.setattr(search, "read_image", counted)
    return count


def by_hand(folder):
    """Path -> vector, one image at a time."""
    with torch.no_grad():
        return {
            p.relative_to(folder).as_posix(): MODEL.encode_image(PREPROCESS(Image.open(p))[None], normalize=True)[0]
            for p in sorted(folder.rglob("[!.]*.[pP][nN][gG]"))
        }


def index_files(photos):
    return sorted((photos / ".minclip").glob("*.sqlite"))


def assert_is(index, expected):
    assert index.paths == sorted(expected)
    for path, vector in zip(index.paths, index.vectors):
        torch.testing.assert_close(vector, expected[path], atol=1e-5, rtol=0)


def test_the_index_holds_every_photograph_below_the_folder(photos):
    (photos / "notes.txt").write_text("no photograph")
    (photos / ".hidden.png").write_bytes(b"no photograph either")
    assert_is(Index.of(photos, LOADED), by_hand(photos))


def test_linked_folders_are_searched_and_a_link_in_a_circle_ends(photos, tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "linked").symlink_to(photos, target_is_directory=True)
    (photos / "circle").symlink_to(photos, target_is_directory=True)
    index = Index.of(tmp_path / "index", LOADED)
    assert index.paths == [f"linked/{path}" for path in sorted(by_hand(photos))]


@pytest.mark.parametrize("block", [1, 7, 40, 1000])
def test_block_size_changes_nothing(photos, block):
    assert_is(Index.of(photos, LOADED, batch_size=block), by_hand(photos))


@pytest.mark.parametrize("k", [1, 5, 40, 99])
def test_a_search_by_text_is_the_sorted_product(photos, k):
    index = Index.of(photos, LOADED)
    with torch.no_grad():
        text = MODEL.encode_text(TOKENIZER(["a red star"], MODEL.config.text.context_length), normalize=True)[0]
    wanted = sorted(((float(v @ text), path) for path, v in by_hand(photos).items()), reverse=True)[:k]
    hits = index.search("a red star", k)
    assert [hit.path for hit in hits] == [path for _, path in wanted]
    assert [hit.cosine for hit in hits] == pytest.approx([cosine for cosine, _ in wanted], abs=1e-5)


def test_a_photograph_finds_itself_by_path_by_image_and_by_vector(photos):
    index = Index.of(photos, LOADED)
    path = photos / "more" / "07.png"
    for query in (path, Image.open(path), index.vectors[index.paths.index("more/07.png")]):
        hit = index.search(query, 1)[0]
        assert hit.path == "more/07.png" and hit.cosine == pytest.approx(1, abs=1e-5)


# ---- the file follows the folder


def test_a_second_index_opens_no_photograph(photos, read):
    first = Index.of(photos, LOADED)
    assert read[0] == 40
    again = Index.of(photos, LOADED)
    assert read[0] == 40 and again.paths == first.paths
    assert torch.equal(again.vectors, first.vectors)


def test_only_new_and_changed_photographs_are_embedded_and_deleted_ones_go(photos, read):
    Index.of(photos, LOADED)
    read[0] = 0
    (photos / "00.png").unlink()
    shutil.copy(photos / "02.png", photos / "new.PNG")
    then = (photos / "06.png").stat().st_mtime_ns
    shutil.copy(photos / "04.png", photos / "06.png")  # another content under a known name, and of the same age
    os.utime(photos / "06.png", ns=(then, then))
    index = Index.of(photos, LOADED)
    assert read[0] == 2 and len(index.paths) == 40
    expected = by_hand(photos) | {"new.PNG": by_hand(photos)["02.png"]}
    assert_is(index, expected)
    with sqlite3.connect(index_files(photos)[0]) as file:
        assert file.execute("SELECT count(*) FROM images").fetchone() == (40,)


def test_a_photograph_that_was_only_touched_is_embedded_again(photos, read):
    Index.of(photos, LOADED)
    os.utime(photos / "00.png", (time.time() + 9, time.time() + 9))
    Index.of(photos, LOADED)
    assert read[0] == 41


def test_broken_photographs_are_listed_once_and_embedded_when_they_are_mended(photos, read):
    good = (photos / "00.png").read_bytes()
    for name, content in (("cut.png", good[: len(good) // 2]), ("empty.jpg", b""), ("text.png", b"no image")):
        (photos / name).write_bytes(content)
    for opened in (43, 43):
        index = Index.of(photos, LOADED)
        assert read[0] == opened and len(index.paths) == 40
        assert [re.sub(r" \(.+\)", "", line) for line in index.broken] == ["cut.png", "empty.jpg", "text.png"]
        assert all(len(line) > len("text.png ()") for line in index.broken)
    (photos / "cut.png").write_bytes(good)
    assert "cut.png" in Index.of(photos, LOADED).paths


def test_photographs_of_every_kind(tmp_path):
    photos = tmp_path / "kinds"
    photos.mkdir()
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype=np.uint8)).resize(
        (390, 270)
    )
    for mode, suffix in (("RGB", "jpg"), ("L", "png"), ("CMYK", "jpg"), ("RGBA", "png"), ("P", "gif"), ("RGB", "webp")):
        colours.convert(mode).save(photos / f"{mode}.{suffix}")
    turned = colours.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned back by a quarter
    turned.save(photos / "turned.png", exif=exif)
    colours.save(photos / "upright.png")
    index = Index.of(photos, LOADED)
    assert len(index.paths) == 8 and not index.broken
    turned, upright = (index.vectors[index.paths.index(name)] for name in ("turned.png", "upright.png"))
    torch.testing.assert_close(turned, upright, atol=1e-4, rtol=0)


def test_a_large_jpeg_is_decoded_smaller_and_means_the_same(tmp_path):
    image = minclip.load_pairs("shapes", "test", size=1).images[0].transpose(1, 2, 0)
    large = Image.fromarray(image).resize((800, 800), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=95)
    assert search.read_image((tmp_path / "large.jpg").read_bytes(), 64).size == (200, 200)
    index = Index.of(tmp_path, LOADED)
    with torch.no_grad():
        whole = MODEL.encode_image(PREPROCESS(large)[None], normalize=True)[0]
    assert index.picture("large.jpg", side=100).size == (100, 100)
    assert float(index.vectors[0] @ whole) > 0.98


def test_a_name_that_is_no_utf8(photos):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        shutil.copy(photos / "00.png", photos / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    index = Index.of(photos, LOADED)
    assert name in index.paths and index.picture(name).size == (64, 64)


def test_a_zip_is_searched_like_its_folder(photos, read):
    packed = photos.parent / "photos.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(photos.rglob("*.png")):
            archive.write(path, path.relative_to(photos).as_posix())
    index = Index.of(packed, LOADED)
    assert_is(index, by_hand(photos))
    assert read[0] == 40 and index.picture("more/07.png").size == (64, 64)
    with zipfile.ZipFile(packed, "a") as archive:
        archive.write(photos / "00.png", "new.PNG")
    assert len(Index.of(packed, LOADED).paths) == 41 and read[0] == 42  # the picture, and the new one
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(photos / "00.png", "02.png")
    assert_is(Index.of(packed, LOADED), {"02.png": by_hand(photos)["00.png"]})


def test_each_model_has_an_index_of_its_own(photos, read):
    Index.of(photos, LOADED)
    other, preprocess, tokenizer = minclip.load(DEMO)
    with torch.no_grad():
        other.image_projection.weight[0, 0] += 1
    Index.of(photos, (other, preprocess, tokenizer))
    assert read[0] == 80 and len(index_files(photos)) == 2
    Index.of(photos, LOADED)
    Index.of(photos, minclip.load(DEMO))  # the same weights, opened again
    assert read[0] == 80


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path):
    path.write_bytes(b"this is no data base" * 100)


def scratch(path):
    data = bytearray(path.read_bytes())
    data[4096:12288] = bytes(8192)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, overwrite, scratch])
def test_a_damaged_index_is_made_anew_with_a_note(photos, read, damage):
    vectors = Index.of(photos, LOADED).vectors
    damage(index_files(photos)[0])
    index = Index.of(photos, LOADED)
    assert read[0] == 80 and torch.equal(index.vectors, vectors)
    assert len(index.notes) == 1 and str(index_files(photos)[0]) in index.notes[0]
    assert Index.of(photos, LOADED).notes == [] and read[0] == 80


def test_a_preprocess_without_a_name_of_its_own_finds_its_index_again(photos, read):
    def made():  # another process's function lies at another address
        return lambda image: PREPROCESS(image)

    kept = [made(), made()]
    for preprocess in kept:
        assert len(Index.of(photos, (MODEL, preprocess, TOKENIZER)).paths) == 40
    assert read[0] == 40 and len(index_files(photos)) == 1


def test_a_picture_that_became_garbage_of_the_same_size_and_time_is_named(photos):
    Index.of(photos, LOADED)
    path = photos / "00.png"
    stat = path.stat()
    path.write_bytes(b"x" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    index = Index.of(photos, LOADED)
    with pytest.raises(MinclipError, match=r"00\.png"):
        index.picture("00.png")
    path.unlink()
    with pytest.raises(MinclipError, match=r"00\.png"):
        index.picture("00.png")


def test_where_nothing_can_be_written_the_index_lies_in_the_cache(photos, data_home, read):
    (photos / ".minclip").write_text("in the way")
    for _ in range(2):
        index = Index.of(photos, LOADED)
        assert len(index.notes) == 1 and "can't be written" in index.notes[0]
        assert read[0] == len(index.paths) == 40
    assert len(list((data_home / "cache").glob("index-*.sqlite"))) == 1
    others = Path(shutil.copytree(photos, photos.parent / "others"))
    (others / "00.png").unlink()
    assert len(Index.of(others, LOADED).paths) == 39  # another folder's is another file
    assert len(Index.of(photos, LOADED).paths) == 40 and read[0] == 79


def test_where_there_is_no_place_at_all_it_is_told(photos, data_home):
    for place in (photos / ".minclip", data_home):
        place.write_text("in the way")
    with pytest.raises(MinclipError, match=r"the index can't be stored.+MINCLIP_DATA"):
        Index.of(photos, LOADED)


def test_ctrl_c_keeps_what_is_embedded(photos, read, monkeypatch):
    original = MODEL.encode_image

    def interrupted(images, normalize):
        if read[0] > 20:
            raise KeyboardInterrupt
        return original(images, normalize)

    monkeypatch.setattr(MODEL, "encode_image", interrupted)
    with pytest.raises(KeyboardInterrupt, match="kept"):
        Index.of(photos, LOADED, batch_size=4)
    monkeypatch.undo()
    with sqlite3.connect(index_files(photos)[0]) as file:
        (kept,) = file.execute("SELECT count(*) FROM images").fetchone()
    assert 4 <= kept <= 20 and kept % 4 == 0
    assert_is(Index.of(photos, LOADED), by_hand(photos))


# ---- the command


def test_the_command_prints_the_hits_and_draws_them(here, photos, capsys):
    (photos / "broken.png").write_bytes(b"")
    query = "a <b>red</b> & 'striped' star $x"
    command = ["search", str(DEMO), "--images", str(photos), "--query", query, "--top", "5", "--out", "there"]
    assert main([*command, "--json"]) == 0
    out = capsys.readouterr().out
    result = last_json(out)
    wanted = Index.of(photos, LOADED).search(query, 5)
    assert [(hit["path"], hit["cosine"]) for hit in result["hits"]] == [
        (h.path, pytest.approx(h.cosine)) for h in wanted
    ]
    assert all(hit.path in out.split("{")[0] for hit in wanted) and "1 files can't be read" in out
    assert result["images"] == 40 and len(result["broken"]) == 1
    assert result["files"] == [str(Path("there", name)) for name in ("search.png", "search.html")]
    with Image.open("there/search.png") as sheet:
        assert sheet.width > 700 and sheet.height > 300
    page = Path("there/search.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg;base64,') == page.count("<img") == page.count("alt=") == 5
    assert "<b>" not in page and "&lt;b&gt;red" in page
    assert not re.search(r"https?:|url\(|<script|<link", page)  # nothing is asked of anybody
    assert all(f'alt="number {i}: {hit.path}"' in page for i, hit in enumerate(wanted, 1))


def test_the_command_finds_photographs_alike(here, photos, capsys):
    command = ["search", str(DEMO), "--images", str(photos), "--image", str(photos / "02.png"), "--json"]
    assert main(command) == 0
    hits = last_json(capsys.readouterr().out)["hits"]
    assert len(hits) == 12 and hits[0] == {"path": "02.png", "cosine": pytest.approx(1, abs=1e-5)}
    assert Path("search.html").read_text(encoding="utf-8").count("<img") == 13  # the asked one, too


def test_a_model_without_a_tokenizer_finds_photographs_alike_only(here, photos, capsys):
    MODEL.save_pretrained("mute")
    command = ["search", "mute", "--images", str(photos)]
    assert main([*command, "--query", "a star"]) == 2
    assert "has no tokenizer.json" in capsys.readouterr().err
    assert main([*command, "--image", str(photos / "02.png")]) == 0
    with pytest.raises(MinclipError, match="has no tokenizer"):
        Index.of(photos, (MODEL, PREPROCESS, None)).search("a star")


MISTAKES = [
    ("--images nowhere --query star", "/nowhere'"),
    ("--images empty --query star", "empty has no photographs"),
    ("--images text.png --query star", "text.png"),
    ("--images broken --query star", "1 images in broken can be read: a.png"),
    ("--images photos", "--query"),
    ("--images photos --query star --image photos/00.png", "--query"),
    ("--images photos --query=", "--query"),
    ("--images photos --image nowhere.png", "nowhere.png does not exist"),
    ("--images photos --image text.png", "text.png"),
    ("--images photos --query star --top 0", "--top must be at least 1, got 0"),
    ("--images photos --query star --out text.png", "text.png"),
    ("--query star", "--images"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[options for options, _ in MISTAKES])
def test_a_mistake_is_told_without_a_traceback(here, photos, capfd, options, message):
    for name, content in (("empty/notes.txt", b""), ("broken/a.png", b""), ("text.png", b"no image")):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(content)
    assert main(["search", str(DEMO), *options.split(), "--json"]) == 2
    out, err = capfd.readouterr()
    assert message in " ".join((out + err).replace("│", " ").split())
    assert "Traceback" not in out + err and "error" in last_json(out)


def test_searches_that_make_no_sense_are_errors(photos):
    index = Index.of(photos, LOADED)
    with pytest.raises(MinclipError, match="query is empty"):
        index.search(" ")
    with pytest.raises(MinclipError, match="k must be at least 1, got 0"):
        index.search("a star", 0)


# ---- the widget


def test_arguments_of_another_kind_are_refused(photos):
    with pytest.raises(MinclipError, match=r"minclip\.load"):
        Index.of(photos, MODEL)
    index = Index.of(photos, LOADED)
    for vectors in (index.vectors[:1], index.vectors[0, :3]):
        with pytest.raises(MinclipError, match=r"\(256,\)"):
            index.search(vectors)


def test_the_search_box_is_drawn_anew_for_each_query(photos):
    widgets = pytest.importorskip("minclip.course.widgets")
    box = widgets.search_box(Index.of(photos, LOADED), "a red star", top=3)
    text, top, picture = box.children
    seen = {bytes(picture.value)}
    text.value = "a blue ring"
    seen.add(bytes(picture.value))
    top.value = 5
    seen.add(bytes(picture.value))
    text.value = " "
    seen.add(bytes(picture.value))
    assert len(seen) == 4 and all(value.startswith(b"\x89PNG") for value in seen)


def test_the_search_figure_shows_rank_and_cosine_and_states_the_query(photos):
    widgets = pytest.importorskip("minclip.course.widgets")
    index = Index.of(photos, LOADED)
    figure = widgets.search_figure(index, "a red star", top=3)
    assert figure.get_suptitle() == "“a red star”: nearest of 40 images"
    wanted = [
        f"{i} · cosine {hit.cosine:.3f}\n{Path(hit.path).name}"
        for i, hit in enumerate(index.search("a red star", 3), 1)
    ]
    assert [axis.get_xlabel() for axis in figure.axes] == wanted
