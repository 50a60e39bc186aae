"""Weights on disk: what is written comes back, by path and by name; what is damaged says so; nothing is half written."""

import contextlib
import json
import os

import pytest
import safetensors.torch
import torch
from PIL import Image

import minclip
from minclip.config import CLIPConfig, MinclipError, TextConfig, VisionConfig
from minclip.model import CLIP
from minclip.tokenizer import Tokenizer
from minclip.weights.config_json import FORMAT
from minclip.weights.folder import atomic_write, find_folder, write_folder
from minclip.weights.load import Preprocess, load

TOKENIZER = Tokenizer.train(["a red circle"] * 4, 520)
CONFIG = CLIPConfig(
    embed_dim=8,
    vision=VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2),
    text=TextConfig(context_length=8, vocab_size=520, eot_id=519, width=16, layers=1, heads=2),
    activation="quick_gelu",
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, data_home):
    """An empty place: no runs and no data folder but the test's own."""
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model():
    return CLIP(CONFIG)


def same_bytes(a, b):
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[name].view(-1), y[name].view(-1)) for name in x)


# ---- there and back


def test_parameters_come_back_byte_for_byte(model, here):
    model.save_pretrained(here / "mine")
    assert same_bytes(CLIP.from_pretrained(here / "mine"), model)


def test_the_config_comes_back(model, here):
    # mistake 25: the activation is part of it
    model.save_pretrained(here / "mine")
    assert CLIP.from_pretrained(here / "mine").config == CONFIG


def test_features_come_back(model, here):
    model.save_pretrained(here / "mine")
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(CLIP.from_pretrained(here / "mine").encode_image(images), model.eval().encode_image(images))


def test_a_loaded_model_is_in_eval_mode(model, here):
    model.train().save_pretrained(here / "mine")
    assert not CLIP.from_pretrained(here / "mine").training


def test_saving_again_replaces_the_old_weights(model, here):
    CLIP(CONFIG).save_pretrained(here / "mine")
    model.save_pretrained(here / "mine")
    assert same_bytes(CLIP.from_pretrained(here / "mine"), model)


def test_half_precision_halves_the_file(model, here):
    write_folder(here / "full", model)
    write_folder(here / "half", model, dtype=torch.float16)
    full, half = (safetensors.torch.load_file(here / name / "model.safetensors") for name in ("full", "half"))
    assert {t.dtype for t in half.values()} == {torch.float16}
    assert sum(t.nbytes for t in full.values()) == 2 * sum(t.nbytes for t in half.values())


def test_half_precision_is_rounded_and_comes_back_as_fp32(model, here):
    # mistake 24: parameters in memory are fp32 wherever they came from
    write_folder(here / "half", model, dtype=torch.float16)
    loaded = CLIP.from_pretrained(here / "half")
    for name, parameter in loaded.named_parameters():
        assert parameter.dtype == torch.float32, name
        assert torch.equal(parameter, model.get_parameter(name).half().float()), name


def test_writing_in_half_precision_leaves_the_model_alone(model, here):
    write_folder(here / "half", model, dtype=torch.float16)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_load_gives_model_preprocess_and_tokenizer(model, here):
    write_folder(here / "mine", model, tokenizer=TOKENIZER)
    loaded, preprocess, tokenizer = load(here / "mine")
    image = preprocess(Image.new("RGB", (40, 30), "red"))
    assert loaded.logits(image[None], tokenizer(["a red circle", "a"], 8))[0].shape == (1, 2)


def test_the_tokenizer_comes_back(model, here):
    write_folder(here / "mine", model, tokenizer=TOKENIZER)
    assert load(here / "mine")[2].merges == TOKENIZER.merges


def test_a_folder_without_tokenizer_loads_without_one(model, here):
    model.save_pretrained(here / "mine")
    assert load(here / "mine")[2] is None


def test_minclip_load_is_pretrained_load():
    assert minclip.load is load


# ---- by name


def test_a_run_is_found_by_its_name(model, here):
    model.save_pretrained(here / "runs" / "first")
    assert same_bytes(CLIP.from_pretrained("first"), model)


def test_a_shipped_model_is_found_by_its_name(model, data_home):
    model.save_pretrained(data_home / "demo")
    assert same_bytes(CLIP.from_pretrained("demo"), model)


def test_a_path_goes_before_a_name(here):
    (here / "first").mkdir()
    (here / "runs" / "first").mkdir(parents=True)
    assert find_folder("first").resolve() == here / "first"


def test_an_unknown_name_tells_the_nearest_and_all(model, here, data_home):
    model.save_pretrained(here / "runs" / "flickr")
    model.save_pretrained(data_home / "demo")
    with pytest.raises(MinclipError, match=r"'fliker'.*'flickr'.*demo, flickr"):
        load("fliker")


def test_where_nothing_is_there_the_message_tells_how_to_make_one():
    with pytest.raises(MinclipError, match="minclip train shapes"):
        load("anything")


# ---- damaged


@pytest.fixture
def folder(model, here):
    write_folder(here / "mine", model, tokenizer=TOKENIZER)
    return here / "mine"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_cut_off_weights_are_refused(folder, share):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(MinclipError, match=r"model\.safetensors"):
        load(folder)


def test_missing_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(MinclipError, match=r"model\.safetensors"):
        load(folder)


def change_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)


def test_a_tensor_of_another_shape_is_named(folder):
    change_tensors(folder, lambda tensors: tensors.update({"text_projection.weight": torch.zeros(9, 16)}))
    with pytest.raises(MinclipError, match=r"text_projection\.weight \(9, 16\), not \(8, 16\)$"):
        load(folder)


def test_a_missing_tensor_is_named(folder):
    change_tensors(folder, lambda tensors: tensors.pop("logit_scale"))
    with pytest.raises(MinclipError, match=r"1 missing: logit_scale$"):
        load(folder)


def test_at_most_ten_tensors_are_named(folder):
    change_tensors(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("text.")])
    with pytest.raises(MinclipError, match=r"16 missing: text\.norm_final\.bias,") as error:
        load(folder)
    assert str(error.value).count("text.") == 10


def test_a_tensor_too_many_is_named(folder):
    change_tensors(folder, lambda tensors: tensors.update(surplus=torch.zeros(1)))
    with pytest.raises(MinclipError, match=r"1 unknown: surplus$"):
        load(folder)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_weights_of_a_wrapped_model_are_unwrapped(model, folder, prefix):
    # mistake 26
    def wrap(tensors):
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    change_tensors(folder, wrap)
    assert same_bytes(load(folder)[0], model)


def test_a_config_of_another_size_does_not_fit(folder):
    values = json.loads((folder / "config.json").read_text())
    values["model"]["text"]["context_length"] = 9
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(MinclipError, match=r"text\.positional_embedding \(8, 16\), not \(9, 16\)"):
        load(folder)


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    with pytest.raises(MinclipError, match=r"mine.*config\.json"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b'{"format": 1, "mod', b"\xff\xfe", b"nonsense"])
def test_a_damaged_config_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(MinclipError, match=r"config\.json"):
        load(folder)


@pytest.mark.parametrize("values", [[], 3, None, {}, {"format": FORMAT + 1, "minclip": "9.9"}, {"format": str(FORMAT)}])
def test_another_format_is_refused(folder, values):
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(MinclipError, match=rf"format {FORMAT}"):
        load(folder)


def test_another_format_tells_who_wrote_it(folder):
    (folder / "config.json").write_text(json.dumps({"format": FORMAT + 1, "minclip": "9.9"}))
    with pytest.raises(MinclipError, match=rf"{FORMAT + 1} .*9\.9"):
        load(folder)


@pytest.mark.parametrize(
    "values", [{"format": FORMAT}, {"format": FORMAT, "model": 3}, {"format": FORMAT, "model": []}]
)
def test_a_config_without_a_model_is_refused(folder, values):
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(MinclipError, match=r"config\.json: model"):
        load(folder)


def test_an_unknown_field_in_a_file_names_the_file_and_the_field(folder):
    values = json.loads((folder / "config.json").read_text())
    values["model"]["vision"]["patchsize"] = 8
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(MinclipError, match=r"config\.json.*model\.vision\.patchsize.*'patch_size'"):
        load(folder)


def test_a_damaged_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(MinclipError, match=r"tokenizer\.json"):
        load(folder)


# ---- atomic_write


@contextlib.contextmanager
def largest_file(size):
    """The kernel refuses to let any file of this process grow beyond `size` bytes, as a full disk would."""
    resource = pytest.importorskip("resource", reason="no limit on file sizes on this system")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_atomic_write_writes(here):
    atomic_write(here / "file", b"old")
    atomic_write(here / "file", b"new")
    assert (here / "file").read_bytes() == b"new"


def test_a_write_that_fails_leaves_the_old_file_whole(here):
    old = b"old" * 1000
    atomic_write(here / "file", old)
    with pytest.raises(OSError), largest_file(64 * 1024):
        atomic_write(here / "file", b"new" * 100_000)
    assert (here / "file").read_bytes() == old


def test_a_write_that_fails_leaves_no_litter(here):
    with pytest.raises(OSError), largest_file(64 * 1024):
        atomic_write(here / "file", b"new" * 100_000)
    assert [p for p in here.iterdir() if p.is_file()] == []


def test_a_save_that_fails_keeps_the_model_loadable(folder, model, here):
    before = CLIP.from_pretrained(folder)
    with pytest.raises(OSError), largest_file(16 * 1024):
        CLIP(CONFIG).save_pretrained(folder)
    assert same_bytes(CLIP.from_pretrained(folder), before)


def test_a_reader_never_sees_half_a_file(here, monkeypatch):
    # up to the very move the old content stands there
    atomic_write(here / "file", b"old")
    seen, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append((here / "file").read_bytes()), replace(a, b)))
    atomic_write(here / "file", b"new")
    assert seen == [b"old"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_others_may_read_what_the_umask_lets_them(here):
    # a run on a shared disk is for the whole class
    before = os.umask(0o022)
    try:
        atomic_write(here / "file", b"x")
    finally:
        os.umask(before)
    assert (here / "file").stat().st_mode & 0o777 == 0o644


# ---- Preprocess; tests/parity holds it against open_clip's


@pytest.mark.parametrize("size", [(16, 16), (100, 30), (9, 50)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_an_image_of_any_size_and_mode_fits_the_tower(mode, size):
    x = Preprocess(CONFIG.vision)(Image.new(mode, size))
    assert (x.shape, x.dtype) == ((3, 16, 16), torch.float32)


def test_preprocess_keeps_the_center():
    image = Image.new("RGB", (48, 16), "black")
    image.paste("white", (16, 0, 32, 16))
    x = Preprocess(CONFIG.vision)(image)
    white = (1 - torch.tensor(CONFIG.vision.mean)) / torch.tensor(CONFIG.vision.std)
    torch.testing.assert_close(x, white[:, None, None].expand(3, 16, 16))
