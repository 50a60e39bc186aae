"""Each option on each path: it changes what it should, or it is refused; none is ignored.

A field that is new in DataConfig or LoopConfig fails here until a row says what it does.
"""

import csv
import io
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image
from shard_files import folder, sample

from minclip.config import CLIPConfig, DataConfig, LoopConfig, MinclipError, TextConfig, TrainConfig, VisionConfig
from minclip.data.stream import Stream
from minclip.loop import train
from minclip.tokenizer import Tokenizer
from minclip.training.checkpoint import Checkpoints
from minclip.training.engine import picture_size

pytestmark = pytest.mark.usefixtures("data_home", "small_world")
TOWERS = {  # by the kind of image tower; the text tower changes with it
    "vit": (VisionConfig(patch_size=16, width=16, layers=1, heads=2, patch_dropout=0.5), "transformer"),
    "resnet": (VisionConfig(tower="resnet", width=4, heads=4, stages=(1, 1, 1, 1)), "bag"),
    "small_resnet": (VisionConfig(tower="small_resnet", width=4, stages=(1, 1, 1, 1)), "bag"),
}


def config_of(tower, data, **loop):
    vision, text = TOWERS[tower]
    text = TextConfig(tower=text, context_length=16, vocab_size=600, eot_id=599, width=16)
    text = replace(text, layers=1, heads=2) if text.tower == "transformer" else text
    loop = {"batch_size": 8, "steps": 3, "log_every": 1, "device": "cpu", "precision": "fp32", "warmup": 0.5, **loop}
    return TrainConfig(data, CLIPConfig(16, vision, text), LoopConfig(**loop))


# ---- DataConfig: painted scenes, photographs in memory, shards


def noisy(number):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Two roots of photographs with a table, and two of shards."""
    out = {}
    for second in (0, 100):
        own = tmp_path_factory.mktemp("own")
        rows = [(f"{i}.png", f"picture {second + i}", f"{i + 1}.png", f"another {i}") for i in range(60)]
        for i in range(61):
            (own / f"{i}.png").write_bytes(noisy(second + i))
        with (own / "captions.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("image", "caption", "left", "other"), *rows])
        shards = tmp_path_factory.mktemp("shards")
        change = {n: sample(n, noisy(second + n), f"p {second + n}") | {"other": b"another"} for n in range(40)}
        folder(shards, 4, each=10, change=change)
        out |= {("own", second): str(own), ("shards", second): str(shards)}
    return out


def data_of(kind, roots, **change):
    root = {} if kind == "shapes" else {"root": roots[kind, 0]}
    few = {"size": 24} if kind == "shapes" else {}
    return DataConfig(**{"name": kind, "image_size": 32, **root, **few, **change})


REFUSED = "refused"
CHANGED = {"images", "ids", "count"}
ALWAYS = {kind: {"images"} for kind in ("shapes", "own", "shards")}
# field -> its value, and by data set what changes of the first batches and of the number of captions
DATA = {
    "name": ("own", {"shapes": CHANGED, "shards": CHANGED}),
    "root": ("another", {"shapes": REFUSED, "own": {"images", "ids"}, "shards": {"images", "ids"}}),
    "image_column": ("left", {"shapes": REFUSED, "own": {"images"}, "shards": REFUSED}),
    "caption_column": ("other", {"shapes": REFUSED, "own": {"ids"}, "shards": {"ids"}}),
    "image_size": (64, ALWAYS),
    "size": (16, {"shapes": CHANGED, "own": CHANGED, "shards": REFUSED}),
    "first_size": (16, ALWAYS),
    "min_crop": (0.3, ALWAYS),
    "flip": (True, ALWAYS),
    "color": (0.4, ALWAYS),
    "on_gpu": ("no", {"shapes": set(), "own": set(), "shards": REFUSED}),  # on a CPU it changes nothing
    "workers": (3, {"shapes": REFUSED, "own": REFUSED, "shards": {"images", "ids"}}),
}


def view(data):
    """What a run would see first: images and ids of three batches, and the number of captions."""
    stream = Stream(config_of("small_resnet", data))
    stream.start(Tokenizer([]), torch.device("cpu"), 0)
    seen = [stream.next(picture_size(0.0, data)) for _ in range(3)]
    return {
        "images": [b.images for b in seen],
        "ids": [b.ids for b in seen],
        "count": [torch.tensor(len(stream.texts()))],
    }


def equal(a, b):
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in zip(a, b))


def test_every_field_of_the_data_has_a_row():
    assert {*DATA} == {field.name for field in fields(DataConfig)}


@pytest.mark.parametrize("kind", ALWAYS)
@pytest.mark.parametrize("field", DATA)
def test_data(field, kind, roots):
    value, expected = DATA[field]
    if kind not in expected:
        return
    base = data_of(kind, roots)
    change = {field: value}
    if field == "root":
        change = {"root": roots.get((kind, 100), "another")}
    if field == "name":
        change = {"name": value, "root": roots[value, 0]} | ({"size": None} if kind == "shapes" else {})
    if expected[kind] == REFUSED:
        with pytest.raises(MinclipError, match=rf"data\.{field}"):
            view(replace(base, **change))
        return
    before, after = view(base), view(replace(base, **change))
    assert {part for part in before if not equal(before[part], after[part])} == expected[kind]


# ---- LoopConfig: each kind of tower

WEIGHTS, SAME = {"weights"}, set()
# field -> the fields that are set, and what changes; or by tower, where they differ
LOOP = {
    "seed": ({"seed": 1}, WEIGHTS),
    "batch_size": ({"batch_size": 12}, WEIGHTS),
    "micro_batch": ({"micro_batch": 4}, WEIGHTS),  # by other dropped patches, and by BatchNorm
    "loss_chunk": ({"loss_chunk": 3}, SAME),
    "optimizer": ({"optimizer": "muon"}, WEIGHTS),
    "lr": ({"lr": 1e-2}, WEIGHTS),
    "vision_lr": ({"vision_lr": 1e-2}, WEIGHTS),
    "text_lr": ({"text_lr": 1e-2}, WEIGHTS),
    "layer_decay": ({"layer_decay": 0.5}, WEIGHTS),
    "freeze": ({"freeze": "vision"}, REFUSED),  # for pretrained towers only
    "heads_first": ({"heads_first": 0.5}, REFUSED),  # likewise
    "warmup": ({"warmup": 0.0}, WEIGHTS),
    "weight_decay": ({"weight_decay": 0.9}, WEIGHTS),
    "beta1": ({"beta1": 0.1}, WEIGHTS),
    "beta2": ({"beta2": 0.1}, WEIGHTS),
    "label_smoothing": ({"label_smoothing": 0.3}, WEIGHTS),
    "grad_clip": ({"grad_clip": 1e-9}, WEIGHTS),
    "steps": ({"steps": 4}, {"weights", "steps", "validations"}),
    "minutes": ({"minutes": 1e-5}, {"weights", "steps", "validations"}),
    "log_every": ({"log_every": 3}, {"steps"}),
    "eval_every": ({"eval_every": 1}, {"validations"}),
    "checkpoint_every": ({"checkpoint_every": 1}, {"saves"}),
    "device": ({"device": "meta"}, REFUSED),
    "precision": ({"precision": "bf16"}, WEIGHTS),
    "grad_checkpointing": ({"grad_checkpointing": True}, SAME),
    "ema": ({"ema": 0.9}, WEIGHTS),
    "unmasked_last": ({"unmasked_last": 0.5}, {"vit": WEIGHTS, "resnet": REFUSED, "small_resnet": REFUSED}),
    "tensorboard": ({"tensorboard": True}, {"files"}),
    "overfit": ({"overfit": 12}, WEIGHTS),
}
ELSEWHERE = {"parallel", "compile", "cuda_graph", "init"}  # in tests of several processes, of minutes, of fine-tuning
# what works inside the towers, or by their parameters, is tried on each; the rest of the loop sees no difference
BY_TOWER = {"micro_batch", "optimizer", "weight_decay", "freeze", "precision", "ema", "unmasked_last"}
BY_TOWER |= {"vision_lr", "text_lr", "layer_decay", "grad_checkpointing"}
PATHS = [(field, tower) for field in LOOP for tower in TOWERS if field in BY_TOWER or tower == "small_resnet"]


def test_every_field_of_the_loop_has_a_row():
    assert {*LOOP} | ELSEWHERE == {field.name for field in fields(LoopConfig)}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """`outcome(tower, **loop)`: what a run of three steps leaves behind; each is trained once."""
    done, saves, save = {}, [], Checkpoints.save

    def of(tower, **loop):
        key = (tower, *loop.items())
        if key not in done:
            saves.clear()
            run = train(config_of(tower, DataConfig(image_size=32, size=24), **loop), tmp_path_factory.mktemp("run"))
            done[key] = {
                "weights": list(run.model.state_dict().values()),
                "steps": [line["step"] for line in run.metrics if "loss" in line],
                "validations": [line["step"] for line in run.metrics if "val" in line],
                "saves": len(saves),
                "files": {path.name for path in run.folder.iterdir()},
            }
        return done[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", lambda *given: saves.append(1) or save(*given))
        yield of


def changed(before, after):
    out = {part for part in before if part != "weights" and before[part] != after[part]}
    # chunks and parts add up in another order
    close = all(torch.allclose(a.float(), b.float(), atol=2e-4) for a, b in zip(before["weights"], after["weights"]))
    return out if close else out | {"weights"}


@pytest.mark.slow
@pytest.mark.parametrize(("field", "tower"), PATHS)
def test_loop(field, tower, outcome):
    change, expected = LOOP[field]
    expected = expected[tower] if isinstance(expected, dict) else expected
    if expected == REFUSED:
        with pytest.raises(MinclipError, match=rf"train\.{field}"):
            outcome(tower, **change)
        return
    assert changed(outcome(tower), outcome(tower, **change)) == expected
