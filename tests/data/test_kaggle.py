"""Fetching from Kaggle: the real client against a stand-in on loopback, and every fault made for real."""

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from disks import small_disk
from kaggle_stub import Kaggle
from PIL import Image

from minclip.cli import main
from minclip.config import DataConfig, MinclipError
from minclip.data import kaggle as module
from minclip.data import load_pairs, open_data
from minclip.data.kaggle import MARK, SOURCES, fetch, fetched

kaggle_env = pytest.importorskip("kagglesdk.kaggle_env", reason="Kaggle's client 2.2 needs Python 3.11")
posix = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
MB = 1 << 20
SOURCE = SOURCES["flickr8k"]
CREDENTIALS = {"KAGGLE_USERNAME": "stub", "KAGGLE_KEY": "secret"}
BASIC = "Basic c3R1YjpzZWNyZXQ="  # the two in base64


def photographs(count=30):
    """A data set as Kaggle delivers it: captions.txt and Images/."""
    files, captions = {}, "image,caption\n"
    for i in range(count):
        file = io.BytesIO()
        Image.new("RGB", (16, 16), (8 * i, 90, 40)).save(file, "JPEG")
        files[f"Images/{i}.jpg"] = file.getvalue()
        captions += f'{i}.jpg,"A dog, number {i} ."\n'
    return {"captions.txt": captions.encode(), **files}


def zipped(files, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


FILES = photographs()
LARGE = {
    "captions.txt": FILES["captions.txt"],
    "large.bin": os.urandom(5 * MB),
}  # the client writes a megabyte at a time


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Nothing of the person's own is read or written: neither credentials, nor data, nor a proxy."""
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    (home / ".kaggle").mkdir(parents=True)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("MINCLIP_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(module, "TIMEOUT", 20)
    return home


@pytest.fixture
def kaggle(home, monkeypatch):
    """The stand-in, which has small photographs; in this process the client is sent to it by its table of addresses."""
    with Kaggle({source: zipped(FILES) for source in SOURCES.values()}) as kaggle:
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, kaggle.address)
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        yield kaggle


@pytest.fixture
def waits(kaggle, monkeypatch):
    """The seconds that the client was about to wait."""
    from kaggle.api import kaggle_api_extended as client  # signs in when it is imported

    waits = []
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=waits.append, mktime=time.mktime))
    return waits


def start(kaggle, *command):
    env = {**os.environ, **kaggle.env, "OMP_NUM_THREADS": "1"}
    options = {"env": env, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if os.name == "posix":  # what a shell starts in its background ignores Ctrl-C, and so do its children
        options["preexec_fn"] = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([sys.executable, *command], **options)


FETCH = ("-m", "minclip", "fetch", "flickr8k")


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"did not come in {seconds} s")
        time.sleep(0.01)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def is_whole(tmp_path, files):
    """The data set is there, and nothing else is."""
    found = contents(tmp_path / "data" / "flickr8k")
    found.pop(MARK)
    return found == files and [p.name for p in (tmp_path / "data").iterdir()] == ["flickr8k"]


def archive(tmp_path):
    return tmp_path / "data" / ".flickr8k.fetch" / f"{SOURCE.replace('/', '_')}.zip"


def nothing_is_left(tmp_path):
    return not list((tmp_path / "data").iterdir())


def ranges(kaggle):
    return [start for method, path, start, _ in kaggle.log if method == "GET" and start]


# ---- when all goes well


def test_a_data_set_comes_whole_with_a_mark_that_tells_what_it_is(kaggle, tmp_path):
    made = fetch("flickr8k")
    assert is_whole(tmp_path, FILES)
    data = kaggle.zips[SOURCE]
    mark = {"source": SOURCE, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "date": made["date"]}
    folder = tmp_path / "data" / "flickr8k"
    assert json.loads((folder / MARK).read_text()) == mark
    assert made == {"folder": str(folder), "new": True, **mark}


def test_it_is_fetched_once(kaggle):
    first = fetch("flickr8k")
    kaggle.log.clear()
    assert fetch("flickr8k") == {**first, "new": False} and kaggle.log == []


@pytest.mark.parametrize("name", SOURCES)
def test_each_name_has_its_source_and_its_folder(kaggle, tmp_path, name):
    kaggle.zips = {SOURCES[name]: zipped({name: b"content"})}
    assert fetched(name) == ""
    fetch(name)
    assert Path(fetched(name)) == tmp_path / "data" / name
    assert (tmp_path / "data" / name / name).read_bytes() == b"content"


def test_another_source_and_another_folder_can_be_given(kaggle, tmp_path):
    kaggle.zips["hsankesara/flickr-image-dataset"] = zipped({"results.csv": b"x"})
    made = fetch("flickr30k", to=tmp_path / "there" / "photos", source="hsankesara/flickr-image-dataset")
    assert made["folder"] == str(tmp_path / "there" / "photos") and fetched("flickr30k") == ""
    assert made["source"] == "hsankesara/flickr-image-dataset"
    assert (tmp_path / "there" / "photos" / "results.csv").read_bytes() == b"x"
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["photos"]


def test_a_folder_that_holds_another_source_is_told(kaggle):
    fetch("flickr8k")
    with pytest.raises(MinclipError, match=r"flickr8k already holds adityajn105/flickr8k: .*other/one"):
        fetch("flickr8k", source="other/one")


def test_a_folder_with_something_in_it_is_left_alone(kaggle, tmp_path):
    folder = tmp_path / "data" / "flickr8k"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(MinclipError, match=r"flickr8k exists.*minclip fetch"):
        fetch("flickr8k")
    assert contents(tmp_path / "data") == {"flickr8k/mine.txt": b"mine"} and kaggle.log == []


def test_an_empty_folder_is_taken(kaggle, tmp_path):
    (tmp_path / "data" / "flickr8k").mkdir(parents=True)
    fetch("flickr8k")
    assert is_whole(tmp_path, FILES)


def test_the_secret_goes_to_kaggle_alone(kaggle):
    fetch("flickr8k")
    assert kaggle.signed.startswith("Basic ") and kaggle.blob_signed is None


# ---- the package finds what was fetched


def test_load_pairs_finds_what_was_fetched(kaggle):
    fetch("flickr8k")
    pairs = load_pairs("flickr8k", "train", image_size=16)
    assert len(pairs) > 20 and all(pairs.captions[i] == [f"A dog, number {pairs.names[i][:-4]} ."] for i in range(5))
    assert open_data(DataConfig("flickr8k")).evaluation_splits == ("test",)


def test_what_was_not_fetched_whole_is_not_found(home, tmp_path):
    (tmp_path / "data" / "flickr8k").mkdir(parents=True)
    for look in (lambda: load_pairs("flickr8k"), lambda: open_data(DataConfig("flickr8k"))):
        with pytest.raises(MinclipError, match=r"flickr8k.*minclip fetch flickr8k.*data\.root"):
            look()


# ---- the command


def test_the_command_shows_progress_and_says_what_to_do_next(kaggle, capsys, tmp_path):
    assert main(["fetch", "flickr8k"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("adityajn105/flickr8k is in") and "minclip train flickr8k " in out and "%|" in err
    assert main(["fetch", "flickr8k", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "already" in out and err == ""
    assert json.loads(out.splitlines()[-1])["folder"] == str(tmp_path / "data" / "flickr8k")


def test_an_error_is_one_message_and_exit_code_2(kaggle, capsys):
    kaggle.questions = [403]
    assert main(["fetch", "flickr8k", "--json"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("minclip: Kaggle refuses") and json.loads(out) == {"error": err[9:].strip()}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["flickr3k"], r"no data set is named 'flickr3k' \(did you mean 'flickr30k'\?\)"),
        (["flickr8k", "--source", "flickr"], "'flickr'.*OWNER/NAME"),
    ],
)
def test_a_wrong_name_is_told(home, capsys, arguments, message):
    assert main(["fetch", *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("there", [None, "1.7.4.5"])
def test_a_client_that_is_missing_or_too_old_is_told(home, monkeypatch, there):
    def version(name):
        if there is None:
            raise module.PackageNotFoundError
        return there

    monkeypatch.setattr(module, "version", version)
    with pytest.raises(MinclipError, match=r"2\.2.*pip install"):
        fetch("flickr8k")


# ---- credentials


@pytest.mark.parametrize("place", ["token", "token's file", "access_token", "name and key"])
def test_credentials_are_read_where_the_client_reads_them(kaggle, home, monkeypatch, place):
    kaggle.tokens = ("good",)
    for name in CREDENTIALS if place != "name and key" else ():
        monkeypatch.delenv(name)
    if place == "token":
        monkeypatch.setenv("KAGGLE_API_TOKEN", "good")
    elif place == "token's file":
        (home / "secret.txt").write_text("good\n")
        monkeypatch.setenv("KAGGLE_API_TOKEN", str(home / "secret.txt"))
    elif place == "access_token":
        (home / ".kaggle" / "access_token").write_text("good\n")
    assert fetch("flickr8k")["new"]
    assert kaggle.signed == ("Bearer good" if "token" in place else BASIC)


@pytest.mark.slow
def test_kaggle_json_is_read(home, tmp_path):
    (home / ".kaggle" / "kaggle.json").write_text(json.dumps({"username": "stub", "key": "secret"}))
    with Kaggle({SOURCE: zipped(FILES)}) as kaggle:
        process = start(kaggle, *FETCH)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and kaggle.signed == BASIC, err
    assert is_whole(tmp_path, FILES)


def is_told_three_steps(err):
    return (
        err.startswith("minclip: Kaggle requires a free account")
        and "Traceback" not in err
        and all(f"\n  {step}. " in err for step in (1, 2, 3))
        and "~/.kaggle/access_token" in err
    )


@pytest.mark.slow
def test_who_has_no_credentials_is_told_three_steps(home, tmp_path):
    with Kaggle({SOURCE: zipped(FILES)}) as kaggle:
        process = start(kaggle, *FETCH)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and out == "" and is_told_three_steps(err)  # the client's help page is not shown
    assert nothing_is_left(tmp_path)


def test_whose_token_is_not_valid_is_told_three_steps(kaggle, tmp_path, monkeypatch, capsys):
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "expired")
    assert main(["fetch", "flickr8k"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and is_told_three_steps(err) and nothing_is_left(tmp_path)


# ---- the line breaks


def test_a_cut_connection_is_resumed(kaggle, tmp_path, waits, capsys):
    kaggle.zips[SOURCE] = zipped(LARGE)
    kaggle.blobs = ["cut"]
    fetch("flickr8k")
    assert is_whole(tmp_path, LARGE)
    assert ranges(kaggle) == [f"bytes={2 * MB}-"] and len(waits) == 1
    assert "Retrying in" in capsys.readouterr().err


def test_a_line_that_breaks_without_end_is_given_up_and_resumed_by_the_next_call(kaggle, tmp_path, waits):
    kaggle.zips[SOURCE] = zipped(LARGE)
    kaggle.blobs = ["cut"] * 9
    with pytest.raises(MinclipError, match=r"failed \(.*: run the same command again later; .* is kept"):
        fetch("flickr8k")
    had = archive(tmp_path).stat().st_size
    assert not (tmp_path / "data" / "flickr8k").exists() and had >= 2 * MB and 1 < len(waits) < 9
    kaggle.blobs, kaggle.log = [], []
    fetch("flickr8k")
    assert is_whole(tmp_path, LARGE) and ranges(kaggle) == [f"bytes={had}-"]


def broken_off(kaggle, waits, client=5):
    """A fetch that stopped with 2 MB of the zip of LARGE."""
    kaggle.zips[SOURCE], kaggle.blobs = zipped(LARGE), ["cut", *[503] * client]
    with pytest.raises(MinclipError, match=r"Kaggle answers 503: run the same command again later; .* is kept"):
        fetch("flickr8k")
    assert len(waits) == client and not kaggle.blobs


def test_a_data_set_that_has_changed_meanwhile_starts_anew(kaggle, tmp_path, waits):
    broken_off(kaggle, waits)
    assert archive(tmp_path).stat().st_size == 2 * MB
    newer = {**LARGE, "new.txt": b"new"}
    kaggle.zips[SOURCE] = zipped(newer)
    fetch("flickr8k")
    assert is_whole(tmp_path, newer)


@pytest.mark.parametrize("fault", [403, 503, "page"])
def test_an_error_page_is_not_taken_for_the_rest_of_the_file(kaggle, tmp_path, waits, fault):
    kaggle.zips[SOURCE] = zipped(LARGE)
    kaggle.blobs = ["cut", fault]
    with contextlib.suppress(MinclipError):
        fetch("flickr8k")
    fetch("flickr8k")
    assert is_whole(tmp_path, LARGE)


def started_slowly(kaggle, tmp_path):
    """A fetch in a process of its own, of which the first megabyte is here."""
    kaggle.zips[SOURCE] = zipped(LARGE)
    kaggle.blobs = ["slow"]
    process = start(kaggle, *FETCH)
    wait_until(lambda: archive(tmp_path).exists() and archive(tmp_path).stat().st_size >= MB)
    return process


@posix
@pytest.mark.slow
def test_a_process_killed_while_downloading_is_resumed(kaggle, tmp_path):
    process = started_slowly(kaggle, tmp_path)
    process.kill()
    process.communicate()
    assert not (tmp_path / "data" / "flickr8k").exists()
    had = archive(tmp_path).stat().st_size
    fetch("flickr8k")
    assert is_whole(tmp_path, LARGE) and ranges(kaggle) == [f"bytes={had}-"]


@posix
@pytest.mark.slow
def test_a_process_killed_while_unpacking_unpacks_anew(kaggle, tmp_path):
    many = {f"{i}.txt": b"x" for i in range(8_000)}
    kaggle.zips[SOURCE] = zipped(many)
    process = start(kaggle, *FETCH)
    wait_until(lambda: (archive(tmp_path).parent / "unpacked" / "50.txt").exists())
    process.kill()
    process.communicate()
    assert not (tmp_path / "data" / "flickr8k").exists() and not fetched("flickr8k")
    kaggle.zips[SOURCE] = b""
    (archive(tmp_path).parent / "unpacked" / "stale.txt").write_text("of the killed run")
    kaggle.log.clear()
    fetch("flickr8k")
    assert is_whole(tmp_path, many) and kaggle.log == []  # the zip was whole


@posix
@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(kaggle, tmp_path):
    process = started_slowly(kaggle, tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert "minclip: interrupted; what was downloaded is kept: run the same command again" in err
    fetch("flickr8k")
    assert is_whole(tmp_path, LARGE) and len(ranges(kaggle)) == 1


@pytest.mark.slow
def test_two_at_once_do_not_meet(kaggle, tmp_path):
    kaggle.zips[SOURCE] = zipped(LARGE)
    kaggle.blobs = ["slow"]
    process = start(kaggle, *FETCH)
    wait_until(lambda: archive(tmp_path).exists())
    with pytest.raises(MinclipError, match=r"another process is fetching .*flickr8k"):
        fetch("flickr8k")
    assert process.wait(60) == 0
    assert is_whole(tmp_path, LARGE)
    assert len([1 for line in kaggle.log if line[0] == "POST"]) == 1


@pytest.mark.slow
def test_a_second_one_that_comes_before_the_first_byte_leaves_the_first_alone(kaggle, tmp_path):
    kaggle.questions = ["silent"]
    process = start(kaggle, *FETCH)
    wait_until(lambda: ("POST", "/api/v1/datasets.DatasetApiService/DownloadDataset", None, "silent") in kaggle.log)
    with pytest.raises(MinclipError, match="another process is fetching"):
        fetch("flickr8k")
    assert (archive(tmp_path).parent / "lock").exists()
    process.kill()
    process.communicate()
    fetch("flickr8k")
    assert is_whole(tmp_path, FILES)


# ---- a server that never answers


@pytest.mark.parametrize("where", ["signing in", "the question", "the zip"])
def test_a_silent_server_is_given_up(kaggle, tmp_path, monkeypatch, where):
    monkeypatch.setattr(module, "TIMEOUT", 0.4)
    if where == "signing in":
        monkeypatch.setenv("KAGGLE_API_TOKEN", "good")
        kaggle.tokens, kaggle.signing_in = ("good",), ["silent"]
    elif where == "the question":
        kaggle.questions = ["silent"]
    else:
        kaggle.blobs = ["silent"]
    with pytest.raises(MinclipError, match=r"no answer for 0\.4 s\): run the same command again later"):
        fetch("flickr8k")
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize("blobs", [["stall"], ["cut", "silent"]])
def test_a_server_that_falls_silent_amid_the_zip_is_asked_again(kaggle, tmp_path, monkeypatch, waits, blobs):
    monkeypatch.setattr(module, "TIMEOUT", 0.4)
    kaggle.zips[SOURCE], kaggle.blobs = zipped(LARGE), [*blobs]
    fetch("flickr8k")
    assert is_whole(tmp_path, LARGE) and len(waits) == len(blobs)


def test_the_client_waits_as_it_did_before_when_all_is_done(kaggle):
    from requests.adapters import HTTPAdapter

    before = HTTPAdapter.send
    kaggle.questions = [404]
    with contextlib.suppress(MinclipError):
        fetch("flickr8k")
    assert HTTPAdapter.send is before


def test_without_a_network_it_is_told(kaggle, tmp_path, monkeypatch):
    # the discard port: nobody listens
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9")
    with pytest.raises(
        MinclipError, match=r"the connection to Kaggle failed \(ConnectionError\): run the same command"
    ):
        fetch("flickr8k")
    assert nothing_is_left(tmp_path)


# ---- what Kaggle answers


@pytest.mark.parametrize(
    "status, message",
    [
        (401, r"\(401\).*https://www\.kaggle\.com/settings/api"),
        (403, r"\(403\): open https://www\.kaggle\.com/datasets/adityajn105/flickr8k, .*accept the data set's rules"),
        (404, r"adityajn105/flickr8k \(404\): .*source.*OWNER/NAME"),
        (418, "answers 418: run the same command again later"),
        (429, "answers 429: run the same command again later"),
        (500, "answers 500: run the same command again later"),
    ],
)
def test_a_refusal_is_told_at_once(kaggle, tmp_path, status, message):
    kaggle.questions = [status]
    with pytest.raises(MinclipError, match=message):
        fetch("flickr8k")
    assert nothing_is_left(tmp_path)


def test_a_refusal_while_signing_in_is_told(kaggle, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "good")
    kaggle.signing_in = [401]
    with pytest.raises(MinclipError, match=r"does not accept these credentials \(401\)"):
        fetch("flickr8k")


@pytest.mark.parametrize("place", ["questions", "blobs"])
def test_a_web_page_is_told_and_what_was_downloaded_is_kept(kaggle, tmp_path, waits, place):
    broken_off(kaggle, waits)
    kaggle.log = []
    setattr(kaggle, place, ["page"])
    with pytest.raises(MinclipError, match=r"a web page instead of the zip of adityajn105/flickr8k: .*in a browser"):
        fetch("flickr8k")
    fetch("flickr8k")
    assert is_whole(tmp_path, LARGE) and ranges(kaggle) == [f"bytes={2 * MB}-"]


# ---- what is in the zip


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


BROKEN = {
    "a byte was changed": flipped(zipped(FILES), 200),
    "its end is missing": zipped(FILES)[:-100],
    "half is missing": zipped(FILES)[: len(zipped(FILES)) // 2],
    "something else": b"not a zip at all" * 20,
    "nothing": zipped({}),
    "a compressed byte was changed": flipped(zipped({"a.txt": b"abc" * 5000}, zipfile.ZIP_DEFLATED), 45),
    "encrypted": zipped({"a.txt": b"abc"}).replace(b"\x14\0\0\0\0\0", b"\x14\0\1\0\0\0"),
    "Deflate64": zipped({"a.txt": b"abc"}).replace(b"\x14\0\0\0\0\0", b"\x14\0\0\0\x09\0"),
    "lzma, damaged": flipped(zipped({"a.txt": b"abc" * 5000}, zipfile.ZIP_LZMA), 49),
    "bzip2, damaged": flipped(zipped({"a.txt": b"abc" * 5000}, zipfile.ZIP_BZIP2), 49),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_zip_is_told_and_deleted(kaggle, tmp_path, broken):
    kaggle.zips[SOURCE] = BROKEN[broken]
    with pytest.raises(MinclipError, match=r"zip of adityajn105/flickr8k .*deleted"):
        fetch("flickr8k")
    assert nothing_is_left(tmp_path)
    kaggle.zips[SOURCE] = zipped(FILES)
    fetch("flickr8k")
    assert is_whole(tmp_path, FILES)


OUTSIDE = ["../x", "/x", "C:\\x", "C:x", "Images/../../x", "Images\\..\\..\\x", "\\\\server\\share\\x", "..", "\\x"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_the_folder_is_refused(kaggle, tmp_path, name):
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    kaggle.zips[SOURCE] = zipped({"captions.txt": b"fine", name: b"evil"})
    with pytest.raises(MinclipError, match="outside its folder"):
        fetch("flickr8k")
    assert nothing_is_left(tmp_path)
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == before


def test_names_that_only_look_odd_are_fine(kaggle, tmp_path):
    files = {"a..b.jpg": b"1", "...txt": b"2", "deep/er/and/Zwei Hündchen.jpg": b"3"}
    kaggle.zips[SOURCE] = zipped({**files, "./here.txt": b"4"})
    fetch("flickr8k")
    assert is_whole(tmp_path, {**files, "here.txt": b"4"})


# ---- the disk


@pytest.fixture
def disk(tmp_path):
    """A real file system of 3 MB."""
    with small_disk(tmp_path / "disk", "3m") as folder:
        yield folder


def test_too_small_a_disk_is_told_before_anything_is_written(kaggle, disk):
    kaggle.zips[SOURCE] = zipped({"large.bin": os.urandom(2 * MB)})  # fits, but not twice
    with pytest.raises(MinclipError, match=r"the zip .*4\.2 MB in .*disk, and 3\.1 MB are free: .*to="):
        fetch("flickr8k", to=disk / "flickr8k")
    assert not list(disk.iterdir())


@pytest.mark.parametrize("while_", ["downloading", "unpacking"])
def test_a_disk_that_fills_up_meanwhile_is_told(kaggle, disk, monkeypatch, waits, while_):
    files = {"large.bin": os.urandom(4 * MB)} if while_ == "downloading" else {"large.txt": bytes(4 * MB)}
    kaggle.zips[SOURCE] = zipped(files, zipfile.ZIP_DEFLATED)
    room = SimpleNamespace(free=10**9)  # there was some when it was looked for
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: room)
    with pytest.raises(MinclipError, match=r"no space left for .*flickr8k: free some, and run the same command"):
        fetch("flickr8k", to=disk / "flickr8k")
    work = disk / ".flickr8k.fetch"
    assert not (work / "unpacked").exists() and not (disk / "flickr8k").exists()
    if while_ == "downloading":
        subprocess.run(["mount", "-o", "remount,size=30m", str(disk)], check=True)
        kaggle.log.clear()
        fetch("flickr8k", to=disk / "flickr8k")
        assert contents(disk / "flickr8k")["large.bin"] == files["large.bin"] and len(ranges(kaggle)) == 1
