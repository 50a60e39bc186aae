"""Weights files as they lie about: placeholders, wrong endings, prefixes, checkpoints, numbers beside tensors."""

import argparse
import shutil
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tiny_weights import CONFIG, TOKENIZER, equal, opened, state

from minclip import CLIP, MinclipError, load
from minclip.weights.load import save
from minclip.weights.names import OPEN_CLIP_NAMES, TRANSFORMERS_NAMES

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 605247071\n"
TABLES = {"open_clip": OPEN_CLIP_NAMES, "transformers": TRANSFORMERS_NAMES}


pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def model(own_home):
    return CLIP(CONFIG).eval()


# ---- placeholders and other kinds of files


@pytest.mark.parametrize("format", ["minclip", "open_clip", "transformers"])
@pytest.mark.parametrize("what", ["*.safetensors", "*config.json", "*tokenizer.json"])
def test_a_pointer_of_git_lfs_is_named(model, here, format, what):
    model.save_pretrained(here / "there", format=format, tokenizer=TOKENIZER)
    files = sorted((here / "there").glob(what))
    for file in files:
        file.write_text(POINTER)
    with pytest.raises(MinclipError, match=r"git lfs pull") as error:
        opened(here / "there")
    assert any(str(file) in str(error.value) for file in files)


@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (POINTER.encode(), "git lfs pull"),
        (b"", "empty"),
        (b"<!doctype html><html>404</html>", "another format"),
        (b"GGUF\3\0\0\0" + bytes(99), "another format"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "another format"),
    ],
)
def test_a_file_of_another_kind_is_named(here, name, content, what):
    (here / name).write_bytes(content)
    with pytest.raises(MinclipError, match=f"{name}.*{what}"):
        load(here / name)


@pytest.mark.parametrize("name", ["model.onnx", "flax_model.msgpack", "tf_model.h5"])
def test_weights_of_another_framework_are_refused_with_advice(model, here, name):
    save(here / "there", model, format="transformers")
    (here / "there" / "model.safetensors").rename(here / "there" / name)
    (here / "there" / name).write_bytes(b"\x08\x07\x12" + bytes(50))
    for path in (here / "there", here / "there" / name):
        with pytest.raises(MinclipError, match=rf"{name}.*safetensors|safetensors.*{name}"):
            load(path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_is_read_by_its_content_not_by_its_ending(model, here, name):
    save(here / "there", model, format="transformers")
    tensors = state(model, table=TRANSFORMERS_NAMES)
    (here / "there" / "model.safetensors").unlink()
    if name.endswith(".bin"):
        safetensors.torch.save_file({n: t.contiguous() for n, t in tensors.items()}, here / "there" / name)
    else:
        torch.save(tensors, here / "there" / name)
    assert equal(load(here / "there")[0], model)


def test_a_zip_of_a_folder_is_to_be_unpacked(model, here):
    save(here / "there", model, format="open_clip")
    shutil.make_archive(here / "model", "zip", here / "there")
    with pytest.raises(MinclipError, match=r"model\.zip.*unpack"):
        load(here / "model.zip")


# ---- names of tensors

PREFIXES = ["model.", "clip_model.", "module.", "_orig_mod.", "module._orig_mod.model.", "net.a.b."]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_that_all_names_share_is_taken_off(model, here, table, prefix):
    torch.save(state(model, prefix, TABLES[table]), here / "w.pt")
    assert equal(opened(here / "w.pt"), model)
    tensors = {name: tensor.contiguous() for name, tensor in state(model, prefix, TABLES[table]).items()}
    safetensors.torch.save_file(tensors, here / "w.safetensors")
    assert equal(opened(here / "w.safetensors"), model)


def test_a_custom_text_clip_is_read_behind_a_prefix(model, here):
    custom = {
        f"model.{name}" if name.startswith(("visual.", "logit_scale")) else f"model.text.{name}": tensor
        for name, tensor in state(model).items()
    }
    torch.save(custom, here / "w.pt")
    assert equal(opened(here / "w.pt"), model)


@pytest.mark.parametrize("around", [["state_dict"], ["model"], ["module"], ["net", "weights"], ["state", "model_ema"]])
def test_weights_are_found_however_deep_they_lie(model, here, around):
    whole = state(model)
    for key in around:
        whole = {key: whole}
    torch.save({**whole, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}, here / "w.pt")
    assert equal(opened(here / "w.pt"), model)


def test_a_checkpoint_of_lightning_is_read_and_what_is_left_out_is_said(model, here, recwarn):
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 16, 16), torch.tensor([[518, 1, 519]] * 2))[0].sum().backward()
    optimizer.step()
    checkpoint = {
        "state_dict": state(model, "model.") | {"loss.weight": torch.ones(3), "head.bias": torch.ones(2)},
        "optimizer_states": [optimizer.state_dict()],
        "optimizer": optimizer.state_dict(),
        "epoch": np.float64(3),
        "pytorch-lightning_version": "2.5.0",
    }
    torch.save(checkpoint, here / "epoch=3.ckpt")
    assert equal(opened(here / "epoch=3.ckpt"), model)
    (told,) = [str(w.message) for w in recwarn if "loss.weight" in str(w.message)]
    assert "head.bias" in told and "2 " in told and "exp_avg" not in told


def test_of_two_models_the_first_is_read_and_the_other_named(model, here):
    other = CLIP(CONFIG)
    torch.save({"model": state(model), "teacher": state(other)}, here / "w.pt")
    with pytest.warns(UserWarning, match=r"teacher\."):
        assert equal(opened(here / "w.pt"), model)


def test_what_compiling_parts_puts_into_names_is_taken_out(model, here):
    torch.save({n.replace("visual.", "visual._orig_mod."): t for n, t in state(model).items()}, here / "w.pt")
    assert equal(opened(here / "w.pt"), model)


def test_a_file_that_holds_itself_ends(here):
    whole = {"a": {}}
    whole["a"]["b"] = whole
    torch.save(whole, here / "w.pt")
    with pytest.raises(MinclipError, match=r"w\.pt"):
        load(here / "w.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_is_read_as_fp32(model, here, dtype):
    torch.save({name: tensor.to(dtype) for name, tensor in state(model).items()}, here / "w.pt")
    loaded = opened(here / "w.pt")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.text_projection.weight, model.text_projection.weight.to(dtype).float())


# ---- NumPy beside tensors


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "beside",
    [
        np.float64(0.5),
        np.float32(0.5),
        np.int64(3),
        np.bool_(True),
        np.str_("a"),
        np.arange(3.0),
        np.random.get_state(),
    ],
    ids=lambda x: type(x).__name__,
)
def test_numbers_of_numpy_beside_tensors_do_not_matter(model, here, beside, zipped):
    whole = {"epoch": beside, "state_dict": state(model), "metrics": OrderedDict(recall=beside)}
    torch.save(whole, here / "w.pt", _use_new_zipfile_serialization=zipped)
    assert equal(opened(here / "w.pt"), model)


def test_numpys_old_name_is_known_too(model, here):
    torch.save({"epoch": np.float64(0.5), **state(model)}, here / "w.pt", _use_new_zipfile_serialization=False)
    data = (here / "w.pt").read_bytes()
    assert b"numpy._core.multiarray" in data
    (here / "w.pt").write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert equal(opened(here / "w.pt"), model)


@pytest.mark.parametrize(
    ("beside", "named"), [(argparse.Namespace(lr=1), "argparse.Namespace"), (Path("a"), "Path"), (np.add, "numpy")]
)
def test_an_object_of_another_class_is_refused_by_its_name(model, here, beside, named):
    torch.save({"args": beside, **state(model)}, here / "w.pt")
    with pytest.raises(MinclipError, match=rf"w\.pt.*{named}"):
        load(here / "w.pt")
