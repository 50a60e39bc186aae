"""Packs: every kind of photograph upright and RGB, decoded once, and never half a file that passes for whole."""

import errno
import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from minclip.config import MinclipError
from minclip.data.pack import decode, pack

pytestmark = pytest.mark.usefixtures("data_home")
RED, BLUE = (220, 30, 30), (30, 30, 220)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}), **options)
    return file.getvalue()


def halves(size=(64, 64)):
    """Red above, blue below."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (0, size[1] // 2, *size))
    return image


def looks(pixels, colour, tolerance=12):
    return abs(pixels.reshape(3, -1).mean(axis=1) - colour).max() < tolerance


def photographs(n=6, size=20):
    return {f"{i}.jpg": encoded(Image.new("RGB", (size, size), (40 * i, 0, 0))) for i in range(n)}


def packed(files, size=16, source="here"):
    return pack(list(files), files.__getitem__, size, source)


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


def test_a_photograph_of_one_pixel_decodes():
    assert looks(decode(encoded(Image.new("RGB", (1, 1), RED), "PNG"), 16), RED, 1)


@pytest.mark.parametrize("broken", ["cut", "empty", "text"])
def test_a_broken_photograph_is_an_error(broken):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    whole = encoded(noise)
    with pytest.raises(OSError):
        decode({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>404</html>"}[broken], 16)


# ---- the pack


def test_the_pack_holds_what_decode_gives_in_order():
    files = photographs()
    images, kept, broken = packed(files)
    assert kept == list(files) and broken == []
    np.testing.assert_array_equal(images, [decode(file, 16) for file in files.values()])


def test_the_pack_is_a_memory_map_that_can_not_be_written():
    images, *_ = packed(photographs())
    assert isinstance(images, np.memmap) and not images.flags.writeable


def test_the_file_is_exactly_as_long_as_its_images(data_home):
    packed({**photographs(3), "x.jpg": b"broken"})
    (path,) = (data_home / "cache").glob("*.npy")
    assert path.stat().st_size == 128 + 3 * 3 * 16 * 16


def test_a_second_call_decodes_nothing():
    files = photographs()
    first = packed(files)

    def read(name):
        raise AssertionError(f"{name} was read again")

    images, kept, broken = pack(list(files), read, 16, "here")
    assert (images == first[0]).all() and (kept, broken) == first[1:]


@pytest.mark.parametrize("change", ["source", "size", "names"])
def test_anything_else_is_packed_anew(change):
    files, reads = photographs(), []
    packed(files)

    def read(name):
        reads.append(name)
        return files[name]

    names = list(files)[::-1] if change == "names" else list(files)
    images, kept, _ = pack(names, read, 24 if change == "size" else 16, "there" if change == "source" else "here")
    assert sorted(reads) == sorted(files) and kept == names and len(images) == 6


def test_broken_photographs_are_left_out_and_told_with_the_reason():
    files = photographs(4)
    files = {"0.jpg": files["0.jpg"], "bad.jpg": b"nonsense", "2.jpg": files["2.jpg"], "cut.jpg": files["3.jpg"][:300]}
    for _ in range(2):  # the second time from the cache
        images, kept, broken = packed(files)
        assert kept == ["0.jpg", "2.jpg"] and images.shape == (2, 3, 16, 16)
        assert [b.split(" ")[0] for b in broken] == ["bad.jpg", "cut.jpg"] and "cannot identify" in broken[0]
    assert looks(images[1], (80, 0, 0), 4)


def test_a_photograph_that_can_not_be_read_is_left_out():
    files = photographs(2)

    def read(name):
        if name == "1.jpg":
            raise FileNotFoundError("gone")
        return files[name]

    assert pack(list(files), read, 16, "here")[1:] == (["0.jpg"], ["1.jpg (gone)"])


def test_nothing_but_broken_photographs_is_an_error_and_leaves_no_file(data_home):
    with pytest.raises(MinclipError, match="none of the 2 images can be decoded"):
        packed({"a.jpg": b"x", "b.jpg": b"y"})
    assert cached(data_home) == []


# ---- interrupted


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, MemoryError])
def test_an_interrupted_pack_leaves_no_file(data_home, error):
    files = photographs()

    def read(name):
        if name == "4.jpg":
            raise error
        return files[name]

    with pytest.raises(error):
        pack(list(files), read, 16, "here")
    assert cached(data_home) == []
    assert len(packed(files)[0]) == 6


@pytest.mark.parametrize("step", ["array", "list"])
def test_a_pack_that_fails_on_its_last_steps_is_not_taken_for_whole(data_home, monkeypatch, step):
    files, replace = photographs(), type(data_home).replace

    def failing(self, target):
        if target.suffix == {"array": ".npy", "list": ".json"}[step]:
            raise OSError("stopped here")
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="stopped here"):
        patch.setattr(type(data_home), "replace", failing)
        packed(files)
    assert not any(name.endswith((".json", ".tmp")) for name in cached(data_home))
    assert len(packed(files)[0]) == 6


def test_a_cache_whose_array_was_deleted_is_made_anew(data_home):
    packed(photographs())
    next((data_home / "cache").glob("*.npy")).unlink()
    assert len(packed(photographs())[0]) == 6


KILLED = """
import io, time
from pathlib import Path
from PIL import Image
from minclip.data.pack import pack

def read(name):
    if name == "7.jpg":
        Path("marker").touch()
        time.sleep(60)
    file = io.BytesIO()
    Image.new("RGB", (256, 256)).save(file, "JPEG")
    return file.getvalue()

pack([f"{i}.jpg" for i in range(12)], read, 256, "here")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_pack_is_not_taken_for_whole(data_home, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", KILLED], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "marker").exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
    finally:
        child.kill()
        child.wait()
    left = cached(data_home)
    assert (tmp_path / "marker").exists() and [name.rsplit(".", 1)[1] for name in left] == ["tmp"]
    files = {f"{i}.jpg": encoded(Image.new("RGB", (256, 256))) for i in range(12)}
    assert len(packed(files, 256)[0]) == 12


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A real file system of one mebibyte as the data folder."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.strip()}")
    monkeypatch.setenv("MINCLIP_DATA", str(disk))
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_an_error_and_leaves_no_file(small_disk):
    with pytest.raises(OSError) as caught:
        packed(photographs(40, 32), 128)
    assert caught.value.errno == errno.ENOSPC and cached(small_disk) == []


def test_what_fits_on_a_small_disk_is_packed(small_disk):
    assert len(packed(photographs(10, 32), 64)[0]) == 10
