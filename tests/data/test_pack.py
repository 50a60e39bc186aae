"""Packs: every kind of photograph upright and RGB, decoded once, and never half a file that passes for whole."""

import collections
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from disks import small_disk
from PIL import Image

from minclip.batches import assemble, raw_batches, tokenize
from minclip.config import DataConfig, MinclipError, VisionConfig
from minclip.data import Pairs
from minclip.data.photos import pack as module
from minclip.data.photos.images import BROKEN, decode, read_image
from minclip.data.photos.pack import pack
from minclip.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("data_home")
RED, BLUE = (220, 30, 30), (30, 30, 220)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}) | options)
    return file.getvalue()


def halves(size=(64, 64)):
    """Red above, blue below."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (0, size[1] // 2, *size))
    return image


def looks(pixels, colour, tolerance=12):
    return abs(pixels.reshape(3, -1).mean(axis=1) - colour).max() < tolerance


def lively(seed, size=(500, 375)):
    """A JPEG with even light, edges and some noise, as a photograph has them."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    for _ in range(12):
        (x, y), (w, h) = rng.integers(0, 400, 2), rng.integers(10, 150, 2)
        image.paste(tuple(rng.integers(0, 256, 3).tolist()), (x, y, x + w, y + h))
    pixels = np.asarray(image) + rng.normal(0, 4, (size[1], size[0], 1))
    return encoded(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), subsampling=2)


def photographs(n=6, size=20):
    return {f"{i}.jpg": encoded(Image.new("RGB", (size, size), (40 * i, 0, 0))) for i in range(n)}


def packed(files, size=16, place="here"):
    return pack(list(files), files.__getitem__, size, place=place)


def cached(home):
    return sorted(p.name for p in (home / "cache").iterdir()) if (home / "cache").exists() else []


# ---- decoding


@pytest.mark.parametrize("size", [1, 16, 33, 64])
def test_decode_gives_rgb_bytes_of_the_size(size):
    pixels = decode(encoded(halves()), size)
    assert pixels.shape == (3, size, size) and pixels.dtype == np.uint8


def test_the_top_stays_at_the_top():
    pixels = decode(encoded(halves()), 32)
    assert looks(pixels[:, :14], RED) and looks(pixels[:, 18:], BLUE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_and_colour_decode_right(mode, kind):
    pixels = decode(encoded(Image.new("RGB", (40, 30), (200, 100, 50)).convert(mode), kind), 16)
    assert looks(pixels, (200, 100, 50) if mode == "RGB" else (124, 124, 124), 4)


def test_a_cmyk_jpeg_decodes_right():
    assert looks(decode(encoded(Image.new("RGB", (40, 30), RED).convert("CMYK")), 16), RED)


def test_greys_of_sixteen_bits_keep_their_upper_eight():
    grey = np.linspace(0, 65_535, 64 * 64).reshape(64, 64).astype(np.uint16)
    file = encoded(Image.fromarray(grey), "PNG")
    assert Image.open(io.BytesIO(file)).mode.startswith("I")
    np.testing.assert_array_equal(decode(file, 64), np.broadcast_to(grey // 256, (3, 64, 64)))
    np.testing.assert_array_equal(np.asarray(read_image(file, 64)), np.repeat((grey // 256)[..., None], 3, axis=2))


def test_a_cmyk_jpeg_without_adobes_mark_decodes_as_pillow_does():
    file = encoded(Image.new("CMYK", (40, 30), (0, 200, 200, 0)))
    start = file.index(b"\xff\xee")
    unmarked = file[:start] + file[start + 2 + int.from_bytes(file[start + 2 : start + 4], "big") :]
    with Image.open(io.BytesIO(unmarked)) as image:
        colour = image.convert("RGB").getpixel((20, 15))
    assert looks(decode(unmarked, 16), colour, 2)


def test_a_palette_png_decodes_right():
    pixels = decode(encoded(halves().quantize(8), "PNG"), 32)
    assert looks(pixels[:, :14], RED) and looks(pixels[:, 18:], BLUE)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "1"])
def test_other_modes_decode(mode):
    assert decode(encoded(Image.new("RGB", (40, 30), (255, 255, 255)).convert(mode), "PNG"), 16).min() == 255


@pytest.mark.parametrize("size", [(64, 64), (2000, 1200)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(orientation, size):
    # what the camera stores, and EXIF's orientation, undo each other
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL's Transpose that stores an upright image so
    upright = Image.new("RGB", size, RED)
    upright.paste(BLUE, (0, size[1] // 2, *size))
    upright.paste((30, 220, 30), (0, 0, size[0] // 2, size[1] // 2))
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encoded(stored, exif=exif.tobytes()), 32)
    assert (
        looks(pixels[:, 2:14, 2:14], (30, 220, 30))
        and looks(pixels[:, 2:14, 18:30], RED)
        and looks(pixels[:, 18:30], BLUE)
    )


@pytest.mark.parametrize("size", [(200, 50), (50, 200), (1000, 250), (51, 200)])
def test_the_middle_is_kept_and_not_squeezed(size):
    image = Image.new("RGB", size, (0, 0, 0))
    x, y = size[0] // 2, size[1] // 2
    half = min(size) // 2
    image.paste((255, 255, 255), (x - half, y - half, x + half, y + half))
    assert decode(encoded(image), 32)[:, 1:-1, 1:-1].min() > 180


def test_decoding_is_close_to_resizing_the_whole_photograph():
    # drawn at a smaller size by the JPEG decoder, a smooth picture stays what it was
    y, x = np.mgrid[:600, :600]
    smooth = np.stack([128 + 100 * np.sin(x / 90), 128 + 100 * np.cos(y / 70), 128 + 60 * np.sin((x + y) / 80)], axis=2)
    image = Image.fromarray(smooth.astype(np.uint8))
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert abs(decode(encoded(image), 32).astype(int) - expected).max() <= 6


@pytest.mark.parametrize(("image_size", "bound"), [(224, 0.1), (64, 2.5), (32, 3)])
def test_decoding_is_close_to_pillow_on_the_whole_photograph(image_size, bound):
    # at 224 px the photograph is decoded as it is, at 64 px at a half and at 32 px at a quarter of its size
    file = lively(0)
    with Image.open(io.BytesIO(file)) as image:
        whole = image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=(62.5, 0, 437.5, 375))
    difference = decode(file, image_size).astype(int) - np.asarray(whole).transpose(2, 0, 1)
    assert abs(difference).mean() < bound and abs(difference.mean()) < 0.3


def test_a_photograph_of_one_pixel_decodes():
    assert looks(decode(encoded(Image.new("RGB", (1, 1), RED), "PNG"), 16), RED, 1)


@pytest.mark.parametrize("broken", ["cut", "empty", "text"])
def test_a_broken_photograph_is_an_error(broken):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    whole = encoded(noise)
    with pytest.raises(BROKEN):
        decode({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>404</html>"}[broken], 16)


# ---- the pack


def test_the_pack_holds_what_decode_gives_in_order():
    files = photographs()
    images, kept, broken = packed(files)
    assert kept == list(files) and broken == []
    np.testing.assert_array_equal(images, [decode(file, 16) for file in files.values()])


def test_the_order_is_that_of_the_names_over_many_chunks(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 3)
    files = {f"{i}.jpg": encoded(Image.new("RGB", (20, 20), (i, 2 * i, 3 * i)), "PNG") for i in range(80)}
    files["40.jpg"] = b"broken"
    images, kept, _ = packed(files)
    assert kept == [name for name in files if name != "40.jpg"]
    assert images[:, 1, 0, 0].tolist() == [2 * i for i in range(80) if i != 40]


def test_the_pack_is_a_memory_map_that_can_not_be_written():
    images, *_ = packed(photographs())
    assert isinstance(images, np.memmap) and not images.flags.writeable and images.shape == (6, 3, 16, 16)


def test_the_file_is_exactly_as_long_as_its_images(data_home):
    packed({**photographs(3), "x.jpg": b"broken"})
    assert array_of(data_home).stat().st_size == 3 * 3 * 16 * 16


def test_a_second_call_decodes_nothing():
    files = photographs()
    first = packed(files)
    images, kept, broken = pack(list(files), never, 16, place="here")
    assert (images == first[0]).all() and (kept, broken) == first[1:]


@pytest.mark.parametrize("change", ["place", "size", "names"])
def test_anything_else_is_packed_anew(change):
    files, reads = photographs(), []
    packed(files)

    def read(name):
        reads.append(name)
        return files[name]

    names = list(files)[::-1] if change == "names" else list(files)
    images, kept, _ = pack(names, read, 24 if change == "size" else 16, place="there" if change == "place" else "here")
    assert sorted(reads) == sorted(files) and kept == names and len(images) == 6
    if change != "names":  # which replaces the earlier pack
        assert len(pack(list(files), never, 16, place="here")[0]) == 6


def test_broken_photographs_are_left_out_and_told_with_the_reason():
    files = photographs(4)
    files = {"0.jpg": files["0.jpg"], "bad.jpg": b"nonsense", "2.jpg": files["2.jpg"], "cut.jpg": files["3.jpg"][:300]}
    for _ in range(2):  # the second time from the cache
        images, kept, broken = packed(files)
        assert kept == ["0.jpg", "2.jpg"] and images.shape == (2, 3, 16, 16)
        assert broken == ["bad.jpg (not an image)", "cut.jpg (Truncated File Read)"]
    assert looks(images[1], (80, 0, 0), 4)


def test_a_photograph_that_can_not_be_read_is_left_out():
    files = photographs(2)

    def read(name):
        if name == "1.jpg":
            raise FileNotFoundError("gone")
        return files[name]

    assert pack(list(files), read, 16, place="here")[1:] == (["0.jpg"], ["1.jpg (gone)"])


def test_nothing_but_broken_photographs_is_an_error_the_second_time_too(data_home):
    files = {"a.jpg": b"x", "b.jpg": b"y"}
    for _ in range(2):
        with pytest.raises(MinclipError, match=r"none of the 2 images can be decoded: a.jpg \(not an image"):
            packed(files)
        assert not list((data_home / "cache").glob("photos-*"))


# ---- stopped or damaged


def never(name):
    raise AssertionError(f"{name} was read again")


def array_of(home):
    (path,) = (home / "cache").glob("*.u8")
    return path


def list_of(home):
    return array_of(home).with_suffix(".json")


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("at", [0, 7, 11])
def test_a_stopped_pack_is_made_anew(data_home, capsys, error, at):
    files, stop = photographs(12) | {"4.jpg": b"broken"}, [error]

    def read(name):
        if name == f"{at}.jpg" and stop:
            raise stop.pop()
        return files[name]

    with pytest.raises(error):
        pack(list(files), read, 16, place="here")
    assert not list_of(data_home).exists()
    images, names, broken = pack(list(files), read, 16, place="here")
    assert "never finished: rebuilding it" in capsys.readouterr().out
    assert names == [name for name in files if name != "4.jpg"] and broken == ["4.jpg (not an image)"]
    np.testing.assert_array_equal(images, [decode(files[name], 16) for name in names])


def flip(path, place):
    """Another byte at `place`, as a program would write it."""
    with path.open("r+b") as file:
        file.seek(place)
        old = file.read(1)[0]
        file.seek(place)
        file.write(bytes([old ^ 1]))


@pytest.mark.parametrize(
    "damage", ["cut", "longer", "flipped", "gone", "empty", "list gone", "list flipped", "list of nonsense", "list cut"]
)
def test_a_damaged_cache_is_made_anew(data_home, capsys, damage):
    files = photographs(12) | {"4.jpg": b"broken"}
    whole = np.array(packed(files)[0])
    path, listed = array_of(data_home), list_of(data_home)
    if damage in ("cut", "longer"):
        os.truncate(path, path.stat().st_size + (-1 if damage == "cut" else 1))
    elif damage == "flipped":
        flip(path, 5000)
    elif damage == "empty":
        path.write_bytes(b"")
    elif "gone" in damage:
        (listed if "list" in damage else path).unlink()
    else:
        good = listed.read_bytes()
        bad = {"flipped": good.replace(b'"broken"', b'"brokem"'), "cut": good[:-3], "of nonsense": b"[1]\n\xff\xfe\n"}
        listed.write_bytes(bad[damage.removeprefix("list ")])
    images, kept, _ = packed(files)
    assert (images == whole).all() and len(kept) == 11
    assert "rebuilding it" in capsys.readouterr().out
    assert (pack(list(files), never, 16, place="here")[0] == whole).all()


def test_a_list_that_names_other_images_is_not_believed(data_home):
    files = photographs(12) | {"4.jpg": b"broken"}
    packed(files)
    listed = list_of(data_home)
    listed.write_bytes(listed.read_bytes().replace(b'"4.jpg"', b'"9.jpg"'))
    images, kept, broken = packed(files)
    assert "9.jpg" in kept and broken == ["4.jpg (not an image)"]
    np.testing.assert_array_equal(images, [decode(files[name], 16) for name in kept])


def test_a_small_cache_is_read_through_at_every_start(data_home, capsys):
    whole = np.array(packed(photographs())[0])
    path = array_of(data_home)
    before = path.stat()
    flip(path, 100)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk that rots
    assert (packed(photographs())[0] == whole).all() and "rebuilding it" in capsys.readouterr().out


def test_of_a_large_cache_only_the_size_is_checked(data_home, monkeypatch):
    monkeypatch.setattr(module, "_SMALL", 0)
    packed(photographs())
    with monkeypatch.context() as patch:
        patch.setattr(zlib, "crc32", never)
        packed(photographs())
    os.truncate(array_of(data_home), 5)
    assert len(packed(photographs())[0]) == 6


def test_who_has_a_damaged_cache_mapped_keeps_it(data_home):
    files = photographs()
    before, *_ = packed(files)
    flip(array_of(data_home), 100)
    damaged = np.array(before)
    after, *_ = packed(files)
    assert (np.array(before) == damaged).all() and (after != damaged).sum() == 1


CHILD = """
import sys, time
from pathlib import Path
from minclip.data.photos import pack as module

module._CHUNK = 7
jpeg = Path("one.jpg").read_bytes()

def read(name):
    with open(f"read-{sys.argv[1]}", "a") as log:
        log.write(name + "\\n")
    time.sleep(0.005)
    return jpeg if int(name) % 7 else b"broken"

images, kept, broken = module.pack([str(i) for i in range(150)], read, 32, place="here")
print(len(images), len(kept), len(broken))
"""


def child(folder, log):
    (folder / "one.jpg").write_bytes(lively(1))
    command = [sys.executable, "-c", CHILD, log]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_pack_is_made_anew(data_home, tmp_path, monkeypatch, capsys):
    killed = child(tmp_path, "first")
    try:
        deadline = time.monotonic() + 120
        while killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
            if list((data_home / "cache").glob("*.u8")) and array_of(data_home).stat().st_size > 0:
                break
    finally:
        killed.kill()
        killed.communicate()
    assert killed.returncode == -signal.SIGKILL and not list_of(data_home).exists()
    names, jpeg = [str(i) for i in range(150)], (tmp_path / "one.jpg").read_bytes()
    files = {name: jpeg if int(name) % 7 else b"broken" for name in names}
    assert len(packed(files, 32)[0]) == 128 and "rebuilding it" in capsys.readouterr().out
    again = {p.name: p.read_bytes() for p in (data_home / "cache").iterdir()}
    monkeypatch.setenv("MINCLIP_DATA", str(tmp_path / "other"))
    packed(files, 32)
    assert again == {p.name: p.read_bytes() for p in (tmp_path / "other" / "cache").iterdir()}


@pytest.mark.slow
def test_of_processes_that_pack_the_same_at_once_one_decodes(tmp_path, data_home):
    processes = [child(tmp_path, f"at-once-{i}") for i in range(2)]
    assert [p.communicate(timeout=300)[0].split()[-3:] for p in processes] == [["128", "128", "22"]] * 2
    read = [line for log in tmp_path.glob("read-at-once-*") for line in log.read_text().split()]
    assert sorted(map(int, read)) == list(range(150))


def test_who_waits_for_another_process_is_told_so(data_home, capsys):
    (data_home / "cache").mkdir(parents=True)
    lock, done = module.FileLock(data_home / "cache" / "packing.lock", thread_local=False), []
    lock.acquire()
    thread = threading.Thread(target=lambda: done.append(packed(photographs())))
    thread.start()
    thread.join(0.5)
    assert not done and "another process is packing photographs: waiting for it" in capsys.readouterr().out
    lock.release()
    thread.join(60)
    assert len(done[0][0]) == 6


# ---- memory and disk


def private_bytes():
    """This process's memory without the pages of mapped files, which the system takes back when it needs them."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+)", status)[1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's memory")
def test_memory_does_not_grow_by_the_pack(data_home):
    jpeg, data, vision = lively(2, (240, 240)), DataConfig(image_size=224, min_crop=0.5), VisionConfig(image_size=224)
    most, stop = [0], threading.Event()

    def seen(names):
        images, *_ = pack(names, lambda name: jpeg, 224, place="here")
        pairs = Pairs(images, [["a dog"]] * len(names), names)
        raw = raw_batches(pairs, tokenize(pairs, Tokenizer([]), 16), batch_size=8, epoch=0, seed=0)
        return sum(len(assemble(batch, data, vision).images) for batch in raw), images.nbytes

    def sample():
        while not stop.wait(0.005):
            most[0] = max(most[0], private_bytes())

    seen([str(i) for i in range(40)])  # what any pack takes
    before, thread = private_bytes(), threading.Thread(target=sample)
    thread.start()
    try:
        count, size = seen([str(i) for i in range(800)])
    finally:
        stop.set()
        thread.join()
    assert count == 800 and most[0] > 0
    assert most[0] - before < size / 2, f"{(most[0] - before) / 1e6:.0f} MB for {size / 1e6:.0f} MB"


def test_too_little_room_is_told_before_anything_is_decoded(data_home, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, 7_000_000))
    with pytest.raises(MinclipError, match=r"15 MB.*cache.* 7 MB are free.*MINCLIP_DATA"):
        pack([str(i) for i in range(100)], never, 224, place="here")


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A real file system of one mebibyte as the data folder."""
    with small_disk(tmp_path / "disk", "1m") as folder:
        monkeypatch.setenv("MINCLIP_DATA", str(folder))
        yield folder


def test_a_disk_that_fills_up_meanwhile_is_an_error_and_gets_its_room_back(disk):
    files, other = photographs(14, 32), disk / "other"

    def read(name):
        if name == "6.jpg":  # somebody else fills the disk
            other.write_bytes(bytes(600_000))
        return files[name]

    with pytest.raises(MinclipError, match=r"1 MB.*No space left.*free some"):
        pack(list(files), read, 128, place="here")
    assert not list((disk / "cache").glob("photos-*"))
    other.unlink()
    images, *_ = packed(files, 128)
    np.testing.assert_array_equal(images, [decode(file, 128) for file in files.values()])
