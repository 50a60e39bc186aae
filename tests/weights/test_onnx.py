"""minclip export: each kind of tower as ONNX equals the model in onnxruntime, and what is written is whole."""

import json
import sys
from pathlib import Path

import pytest
import torch

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
runtime = pytest.importorskip("onnxruntime")

from command_line import last_json  # noqa: E402
from tiny_models import far_from_start  # noqa: E402

import minclip  # noqa: E402
from minclip import CLIP, CLIPConfig, MinclipError, TextConfig, Tokenizer, VisionConfig, load  # noqa: E402
from minclip.cli import main  # noqa: E402
from minclip.weights.load import save  # noqa: E402

IMAGE = {
    "vit": VisionConfig(image_size=16, patch_size=8, width=64, layers=1, heads=2),
    "vit with convolutions": VisionConfig(
        image_size=16, patch_size=8, width=32, layers=1, heads=1, stem="conv", pool="mean", mlp_width=48
    ),
    "resnet": VisionConfig("resnet", image_size=32, stages=(1, 1, 1, 1), width=8, heads=4),
    "small_resnet": VisionConfig("small_resnet", image_size=32, stages=(1, 1, 1, 1), width=8),
}
TEXT = {
    "transformer": TextConfig(context_length=8, vocab_size=520, width=64, layers=1, heads=2),
    "bag": TextConfig("bag", context_length=8, vocab_size=520, width=32),
}
TOKENIZER = Tokenizer.train(["a red circle"] * 4, 520)
PAIRS = [("vit", "transformer"), ("vit with convolutions", "bag"), ("resnet", "bag"), ("small_resnet", "bag")]


def tiny(image="vit", text="transformer", **more):
    torch.manual_seed(0)
    transformer = image.startswith("vit") or text == "transformer"
    more |= {"activation": "quick_gelu"} if transformer and image != "vit" else {}
    return far_from_start(CLIP(CLIPConfig(16, IMAGE[image], TEXT[text], **more)))


@pytest.fixture
def somewhere(here, data_home):
    return here


@pytest.mark.parametrize(("image", "text"), PAIRS)
def test_each_kind_of_tower_equals_the_model(somewhere, image, text):
    siglip = {"loss": "siglip"} if image == "vit" else {}
    model = tiny(image, text, **siglip).train()
    if siglip:
        model.logit_bias.data.fill_(-2.5)
    save(somewhere / "out", model, tokenizer=TOKENIZER, format="onnx")
    assert model.training and model.forward.__func__ is CLIP.forward  # it was left as it was
    model.eval()
    size = model.config.vision.image_size
    rows = [TOKENIZER(["a red circle"] * n, length) for n, length in ((1, 5), (5, 8), (2, 6))]
    batches = {"image": [torch.randn(n, 3, size, size) for n in (1, 2, 7)], "text": rows}
    for tower, inputs in batches.items():
        file = somewhere / "out" / f"{tower}.onnx"
        session = runtime.InferenceSession(file)
        ((taken, shape),) = [(i.name, i.shape) for i in session.get_inputs()]
        ((given, out),) = [(o.name, o.shape) for o in session.get_outputs()]
        assert (taken, given, out) == (tower, "features", ["batch", 16])
        assert shape == (["batch", 3, size, size] if tower == "image" else ["batch", "length"])
        for batch in inputs:
            expected = getattr(model, f"encode_{tower}")(batch, normalize=True).detach()
            found = torch.from_numpy(session.run(None, {tower: batch.numpy()})[0])
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        proto = onnx.load(file, load_external_data=False)
        assert [(o.domain, o.version) for o in proto.opset_import] == [("", 18)]
        assert not any(i.external_data for i in proto.graph.initializer)  # the browser loads one file
        assert str(Path(minclip.__file__).parent).encode() not in file.read_bytes()
    check_what_goes_along(somewhere / "out", model)


def check_what_goes_along(folder, model):
    facts, images = (json.loads((folder / f"{name}.json").read_text()) for name in ("model", "preprocess"))
    assert facts["scale"] == pytest.approx(model.logit_scale.exp().item())
    assert facts["bias"] == (-2.5 if model.config.loss == "siglip" else 0)
    assert (facts["embed_dim"], facts["context_length"], facts["eot_id"]) == (16, 8, 519)
    assert 0 < facts["max_error"] < 1e-5
    vision = model.config.vision
    assert (images["size"], images["mean"], images["std"]) == (
        vision.image_size,
        list(vision.mean),
        list(vision.std),
    )
    assert Tokenizer.load(folder / "tokenizer.json").merges == TOKENIZER.merges
    assert {path.name for path in folder.iterdir()} == {
        *("image.onnx", "text.onnx", "model.json", "preprocess.json", "tokenizer.json")
    }


def test_vectors_that_differ_are_refused_and_nothing_is_written(somewhere, monkeypatch):
    session = runtime.InferenceSession

    class Off(session):
        def run(self, *args):
            return [super().run(*args)[0] + 2e-4]

    monkeypatch.setattr(runtime, "InferenceSession", Off)
    with pytest.raises(MinclipError, match=r"image tower.*2\.\de-04"):
        save(somewhere / "out", tiny("small_resnet", "bag"), format="onnx")
    assert not (somewhere / "out").exists()


@pytest.mark.parametrize("name", ["onnxscript", "onnxruntime"])
def test_without_the_libraries_the_extra_is_named(somewhere, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MinclipError, match=rf'{name}.*pip install "minclip\[onnx\]"'):
        save(somewhere / "out", tiny(), format="onnx")
    assert not (somewhere / "out").exists()


# ---- the command


@pytest.mark.parametrize("to", ["open_clip", "transformers", "minclip"])
def test_a_model_goes_to_another_library_by_the_command_line(somewhere, capsys, to):
    tiny().save_pretrained("mine", tokenizer=TOKENIZER)
    assert main(["export", "mine", "--to", to, "--json"]) == 0
    result = last_json(capsys.readouterr().out)
    assert result["folder"] == f"mine-{to}" and set(result["files"]) == {p.name for p in Path(f"mine-{to}").iterdir()}
    again, _, tokenizer = load(f"mine-{to}")
    assert tokenizer.merges == TOKENIZER.merges
    assert torch.equal(again.text_projection.weight, load("mine")[0].text_projection.weight)


def test_a_folder_that_exists_is_never_written_to(somewhere, capsys):
    tiny().save_pretrained("runs/mine", tokenizer=TOKENIZER)
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")}
    for to in ("minclip", "onnx"):
        assert main(["export", "mine", "--to", to, "--out", "runs/mine"]) == 2
    assert "--out" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")} == before


def test_a_format_that_does_not_exist_is_told(somewhere, capsys):
    assert main(["export", "mine", "--to", "tflite"]) == 2
    assert "onnx" in capsys.readouterr().err


@pytest.mark.slow
def test_the_demo_as_onnx_gives_the_models_cosines(somewhere, monkeypatch, capsys):
    monkeypatch.delenv("MINCLIP_DATA")
    assert main(["export", "demo", "--out", "out", "--json"]) == 0
    assert set(last_json(capsys.readouterr().out)["files"]) > {"image.onnx", "text.onnx"}
    model, _, tokenizer = load("demo")
    images, ids = torch.randn(4, 3, 64, 64), tokenizer(["a red star", "two blue rings"])
    run = {tower: runtime.InferenceSession(f"out/{tower}.onnx").run for tower in ("image", "text")}
    image, text = run["image"](None, {"image": images.numpy()})[0], run["text"](None, {"text": ids.numpy()})[0]
    scale = json.loads(Path("out/model.json").read_text())["scale"]
    expected = model.logits(images, ids)[0].detach()
    torch.testing.assert_close(torch.from_numpy(scale * image @ text.T), expected, rtol=0, atol=1e-3)
