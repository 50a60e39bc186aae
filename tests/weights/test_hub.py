"""The hub's real client against a stand-in on loopback: what comes, what is refused, and what the message says."""

import hashlib
import inspect

import huggingface_hub
import huggingface_hub.constants as constants
import pytest
from local_hub import CONTENT, go_to

from minclip.config import MinclipError
from minclip.training import bars as bars_of_minclip
from minclip.weights.hub import check_hub_hash, hub_file, sha256


def test_a_file_comes_whole(hub):
    assert hub_file("owner/name", "weights.bin").read_bytes() == CONTENT


def test_a_file_is_fetched_once(hub):
    first = hub_file("owner/name", "weights.bin")
    hub.status = 503  # nothing more can be had
    assert hub_file("owner/name", "weights.bin") == first


def test_in_a_notebook_the_bar_is_ours(hub, monkeypatch):
    """The hub's own is a widget, whose place in a saved notebook is an error message."""
    if "tqdm_class" not in inspect.signature(huggingface_hub.hf_hub_download).parameters:
        pytest.skip("this version of the hub's client has no choice of bars")
    bars = []

    class Bar(bars_of_minclip.CellBar):
        def __init__(self, *items, **options):
            bars.append(self)
            super().__init__(*items, **options)

    monkeypatch.setattr("minclip.weights.hub.tqdm", Bar)
    hub_file("owner/name", "weights.bin")
    assert bars == []  # in a terminal
    monkeypatch.setattr("minclip.weights.hub.in_notebook", True)
    hub.files["other.bin"] = CONTENT + b"!"  # or it would be the same blob
    hub_file("owner/name", "other.bin")
    assert ["other.bin" in bar.desc for bar in bars] == [True] and bars[0].n == len(CONTENT) + 1


def test_other_content_than_announced_is_refused(hub):
    hub.announced = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(MinclipError, match=r"weights\.bin.*delete"):
        hub_file("owner/name", "weights.bin")


def test_a_file_that_was_changed_in_the_cache_is_refused(hub):
    path = hub_file("owner/name", "weights.bin")
    path.resolve().write_bytes(CONTENT[:-1])
    with pytest.raises(MinclipError, match=r"weights\.bin.*delete"):
        hub_file("owner/name", "weights.bin")


def test_a_file_that_the_repository_lacks_is_told(hub):
    with pytest.raises(MinclipError, match=r"owner/name.*other\.bin"):
        hub_file("owner/name", "other.bin")
    assert hub_file("owner/name", "other.bin", missing_ok=True) is None


def test_a_repository_that_is_not_there_is_told(hub):
    with pytest.raises(MinclipError, match=r"'owner/nothing'.*HF_TOKEN"):
        hub_file("owner/nothing", "weights.bin")


def test_without_a_network_the_message_tells_what_to_fetch(hub, monkeypatch):
    go_to("http://127.0.0.1:9", monkeypatch)  # the discard port: nobody listens
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's pauses between its attempts
    with pytest.raises(MinclipError, match=r"no network.*ask a friend$"):
        hub_file("owner/name", "weights.bin", by_hand="ask a friend")


def test_the_message_without_a_network_tells_what_to_copy(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MinclipError, match=r"`hf download owner/name`"):
        hub_file("owner/name", "weights.bin")


@pytest.mark.parametrize("status", [401, 403])
def test_an_error_of_the_server_is_told(hub, status):
    hub.status = status
    with pytest.raises(MinclipError, match="owner/name"):
        hub_file("owner/name", "weights.bin")


def test_a_name_that_can_be_none_is_told(hub):
    with pytest.raises(MinclipError, match="a/b/c"):
        hub_file("a/b/c", "weights.bin")


def test_small_files_are_checked_against_gits_hash(tmp_path):
    digest = hashlib.sha1(b"blob 3\0abc").hexdigest()
    (tmp_path / digest).write_bytes(b"abc")
    check_hub_hash(tmp_path / digest)
    (tmp_path / digest).write_bytes(b"abd")
    with pytest.raises(MinclipError, match=digest):
        check_hub_hash(tmp_path / digest)


def test_sha256_is_that_of_the_whole_file(tmp_path):
    data = bytes(range(256)) * 9000  # more than one piece
    (tmp_path / "file").write_bytes(data)
    assert sha256(tmp_path / "file") == hashlib.sha256(data).hexdigest()
