"""Weights files as data: each format gives its tensors, damage is told, and nothing in a file is executed."""

import os
import pickle
import re
import zipfile

import pytest
import safetensors.torch
import torch
from torch import nn

from minclip.config import MinclipError
from minclip.weights.files import read_tensors

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}


class Attack:
    """A pickle that writes a file when it is opened the careless way."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"echo executed > {self.path}",)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin", ".legacy"])
def test_each_format_gives_its_tensors(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=suffix != ".legacy")
    assert same(read_tensors(path), TENSORS)


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(
            torch.arange(12.0).view(3, 4).T[1:]
        )  # neither contiguous nor from the storage's start
        self.register_buffer("counter", torch.tensor(5))
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("bytes", torch.arange(3, dtype=torch.uint8))
        self.size = 7

    def forward(self, x):
        return x @ self.weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_torchscript_archive_gives_its_tensors(tmp_path, dtype, monkeypatch):
    module = nn.Sequential(Inner(), nn.Sequential(nn.BatchNorm1d(4))).to(dtype).eval()
    torch.jit.save(torch.jit.script(module), tmp_path / "module.pt")
    monkeypatch.setattr(torch.jit, "load", None)
    assert same(read_tensors(tmp_path / "module.pt"), dict(module.state_dict()))


@pytest.mark.parametrize(
    ("prefixes", "stripped"),
    [
        (["module.a", "module.logit_scale"], ["a", "logit_scale"]),
        (["_orig_mod.module.logit_scale", "_orig_mod.module.b"], ["b", "logit_scale"]),
        (["a._orig_mod.b", "logit_scale"], ["a.b", "logit_scale"]),
        (["module.a", "logit_scale"], ["logit_scale", "module.a"]),  # a part of the model that has that name
        (["module.a", "module.b"], ["module.a", "module.b"]),  # no CLIP
        ([], []),
    ],
)
def test_the_prefix_of_the_scale_goes(tmp_path, prefixes, stripped):
    safetensors.torch.save_file({name: torch.zeros(1) for name in prefixes}, tmp_path / "weights.safetensors")
    assert sorted(read_tensors(tmp_path / "weights.safetensors")) == sorted(stripped)


# ---- nothing is executed


@pytest.mark.parametrize("name", ["weights.pt", "weights.bin", "plain.pkl"])
def test_a_pickle_that_would_run_something_is_refused(tmp_path, name):
    attack = {"a": torch.zeros(1), "evil": Attack(tmp_path / "trace")}
    if name == "plain.pkl":
        (tmp_path / name).write_bytes(pickle.dumps(attack["evil"]))
    else:
        torch.save(attack, tmp_path / name)
    with pytest.raises(MinclipError, match=re.escape(name)) as error:
        read_tensors(tmp_path / name)
    assert "weights_only" not in str(error.value)  # torch's message tells how to switch the safety off
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("member", ["data.pkl", "constants.pkl"])
def test_an_archive_whose_pickle_would_run_something_is_refused(tmp_path, member):
    torch.jit.save(torch.jit.script(Inner()), tmp_path / "module.pt")
    with zipfile.ZipFile(tmp_path / "module.pt") as good, zipfile.ZipFile(tmp_path / "evil.pt", "w") as evil:
        for name in good.namelist():
            data = pickle.dumps(Attack(tmp_path / "trace"), protocol=2) if name.endswith(member) else good.read(name)
            evil.writestr(name, data)
    if member == "data.pkl":
        with pytest.raises(MinclipError, match=r"evil\.pt.*(posix|nt)\.system"):
            read_tensors(tmp_path / "evil.pt")
    else:  # never opened
        assert read_tensors(tmp_path / "evil.pt")
    assert not (tmp_path / "trace").exists()


def test_code_within_an_archive_is_not_looked_at(tmp_path):
    torch.jit.save(torch.jit.script(Inner()), tmp_path / "module.pt")
    with zipfile.ZipFile(tmp_path / "module.pt") as good, zipfile.ZipFile(tmp_path / "other.pt", "w") as other:
        for name in good.namelist():
            other.writestr(name, b"this is no code" if "/code/" in name else good.read(name))
    assert same(read_tensors(tmp_path / "other.pt"), dict(Inner().state_dict()))


def test_an_archive_can_not_reach_the_next_ones_reader(tmp_path):
    # a pickle may set attributes on the class that it is handed: here `mark`, on the stand-in for modules
    attack = b"c__torch__\nX\nN}X\x04\x00\x00\x00markK\x01s\x86b."
    torch.jit.save(torch.jit.script(Inner()), tmp_path / "module.pt")
    with zipfile.ZipFile(tmp_path / "module.pt") as good, zipfile.ZipFile(tmp_path / "evil.pt", "w") as evil:
        for name in good.namelist():
            evil.writestr(name, attack if name.endswith("data.pkl") else good.read(name))
    with pytest.raises(MinclipError, match=r"evil\.pt"):
        read_tensors(tmp_path / "evil.pt")
    assert same(read_tensors(tmp_path / "module.pt"), dict(Inner().state_dict()))


# ---- damage


@pytest.mark.parametrize("kind", ["safetensors", "pt", "legacy", "torchscript"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.98])
def test_a_file_that_is_cut_off_is_told(tmp_path, kind, share):
    path = tmp_path / f"weights.{kind}"
    tensors = {f"layer{i}": torch.randn(50, 50) for i in range(4)}
    if kind == "safetensors":
        safetensors.torch.save_file(tensors, path)
    elif kind == "torchscript":
        torch.jit.save(torch.jit.script(nn.Linear(50, 50)), path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "pt")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(MinclipError, match=rf"weights\.{kind}"):
        read_tensors(path)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x80\x04.", b"PK\x03\x04", b"\0" * 100])
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_what_is_no_weights_file_is_told(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MinclipError, match=re.escape(name)):
        read_tensors(tmp_path / name)


def test_a_zip_of_something_else_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photo.jpg", b"no weights")
    with pytest.raises(MinclipError, match=r"photos\.zip"):
        read_tensors(tmp_path / "photos.zip")


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"epoch": 3}, {"state_dict": {}}])
def test_a_file_without_named_tensors_is_told(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(MinclipError, match=rf"other\.pt.*{type(content).__name__}"):
        read_tensors(tmp_path / "other.pt")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(MinclipError, match=r"nothing\.pt"):
        read_tensors(tmp_path / "nothing.pt")
