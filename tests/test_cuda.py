"""What only a CUDA GPU can show.  `python tests/gpu.py` runs this file there; elsewhere the device is a CPU, or it skips."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_runs import stopped_after

from minclip.config import CLIPConfig, DataConfig, LoopConfig, MinclipError, TextConfig, TrainConfig, VisionConfig
from minclip.data.stream import Stream
from minclip.evaluate import embed_images
from minclip.loop import train
from minclip.model import CLIP
from minclip.recall import retrieval
from minclip.tokenizer import Tokenizer
from minclip.training import checkpoint, engine, graph
from minclip.training.distributed import start

CUDA = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not CUDA, reason="no CUDA GPU")
DEVICE = torch.device("cuda" if CUDA else "cpu")
VIT = VisionConfig(image_size=32, patch_size=8, width=64, layers=2, heads=2, patch_dropout=0.25)
TEXT = TextConfig(context_length=30, vocab_size=600, width=64, layers=2, heads=2)
RESNET = VisionConfig("small_resnet", image_size=32, width=16, stages=(1, 1, 1, 1), dropout=0.1)
TOWERS = {
    "transformers": CLIPConfig(32, VIT, TEXT),
    "resnet and bag": CLIPConfig(
        32, RESNET, TextConfig("bag", context_length=30, vocab_size=600, width=64, dropout=0.1)
    ),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, small_world):
    monkeypatch.chdir(tmp_path)


def config(towers="transformers", *, data=None, **loop):
    given = {"batch_size": 64, "steps": 16, "log_every": 4, "device": DEVICE.type, "precision": "fp32", **loop}
    data = {"name": "shapes", "image_size": 32, "size": 256, "min_crop": 0.5, "color": 0.2, **(data or {})}
    return TrainConfig(DataConfig(**data), TOWERS[towers], LoopConfig(**given))


def weights(run):
    return torch.cat([x.detach().float().cpu().flatten() for x in run.model.state_dict().values()])


def losses(run):
    return [line["loss"] for line in run.steps]


# ---- the same numbers, whatever makes it faster


@pytest.fixture
def exact(monkeypatch):
    """Without TF32, whose rounding depends on which algorithm was the fastest in this run."""
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda precision: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def needs_bf16(precision):
    if precision == "bf16" and CUDA and not engine.fast_bf16("cuda"):
        pytest.skip("this GPU has no bf16")


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("towers", TOWERS)
def test_recorded_steps_equal_launched_ones(towers, optimizer):
    base = config(towers, optimizer=optimizer, ema=0.9, steps=24)
    recorded = train(base, "recorded")
    launched = train(replace(base, train=replace(base.train, cuda_graph="off")), "launched")
    assert losses(recorded) == pytest.approx(losses(launched), rel=1e-3)
    assert (weights(recorded) - weights(launched)).norm() < 1e-2 * weights(launched).norm()


@needs_gpu
def test_a_small_models_steps_are_recorded(monkeypatch):
    made, record = [], graph.Recorded.record
    monkeypatch.setattr(graph.Recorded, "record", lambda self, batch: made.append(1) or record(self, batch))
    train(config(), "run")
    assert 1 <= len(made) <= 3  # one for each length of text, a multiple of 8


@needs_gpu
def test_a_step_that_cannot_be_recorded_is_launched(monkeypatch, capfd):
    def refuse(self, batch):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graph.Recorded, "record", refuse)
    assert losses(train(config(), "run"))[-1] < 5
    assert "can't be recorded" in capfd.readouterr().out


@needs_gpu
def test_a_step_that_reads_a_value_back_is_never_recorded(monkeypatch, capfd):
    forward = CLIP.forward

    def reading(self, images, ids):
        image, text, scale = forward(self, images, ids)
        return image, text, scale * float(scale.detach() > 0)

    monkeypatch.setattr(CLIP, "forward", reading)
    monkeypatch.setattr(graph.Recorded, "record", None)
    assert losses(train(config(), "run"))[-1] < 5
    assert "can't be recorded" in capfd.readouterr().out
    assert torch.cuda.get_sync_debug_mode() == 0


@pytest.mark.usefixtures("exact")
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_another_gpu_trains_as_the_first():
    first, second = (train(config(device=f"cuda:{number}"), f"run{number}") for number in (0, 1))
    assert losses(second) == pytest.approx(losses(first), rel=1e-2)
    assert second.model.device.index == 1


@needs_gpu
@pytest.mark.parametrize("towers", TOWERS)
def test_compiled_towers_equal_plain_ones(towers):
    plain = train(config(towers, cuda_graph="off", steps=8), "plain")
    compiled = train(config(towers, compile=True, steps=8), "compiled")
    assert losses(compiled) == pytest.approx(losses(plain), rel=2e-2)


def test_images_on_the_gpu_and_streamed_ones_make_the_same_batches():
    seen = []
    for on_gpu in ("yes", "no"):
        stream = Stream(config(data={"on_gpu": on_gpu}))
        stream.start(Tokenizer([]), DEVICE, 0)
        seen.append([stream.next() for _ in range(5)])
    for a, b in zip(*seen):
        assert a.images.device.type == DEVICE.type
        assert torch.equal(a.images, b.images) and torch.equal(a.ids, b.ids)


@needs_gpu
def test_images_that_do_not_fit_are_refused_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    with pytest.raises(MinclipError, match=r"data\.on_gpu yes"):
        train(config(data={"on_gpu": "yes"}), "run")


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("precision", ["fp32", "bf16", pytest.param("fp16", marks=needs_gpu)])
def test_a_resumed_run_ends_as_an_uninterrupted_one(precision):
    needs_bf16(precision)
    base = config(precision=precision, ema=0.9, checkpoint_every=8)
    whole = train(base, "whole")
    stopped_after(base, 8, "cut")
    resumed = train(base, "cut", resume=True)
    assert losses(resumed)[-1] == pytest.approx(losses(whole)[-1], rel=1e-3)


# ---- no waiting


@needs_gpu
@pytest.mark.parametrize("steps", [{"cuda_graph": "auto"}, {"cuda_graph": "off"}, {"micro_batch": 32}], ids=str)
@pytest.mark.parametrize("on_gpu", ["yes", "no"])
@pytest.mark.parametrize("towers", TOWERS)
def test_an_unlogged_step_never_waits_for_the_gpu(monkeypatch, towers, on_gpu, steps):
    following, calls = Stream.next, []

    def watched(self, image_size=None):
        calls.append(1)
        torch.cuda.set_sync_debug_mode("error" if 10 < len(calls) < 30 else "default")
        return following(self, image_size)

    monkeypatch.setattr(Stream, "next", watched)
    try:
        # recording a step waits, and so does a first log; steps 11 to 29 do neither
        loop = {"steps": 31, "log_every": 100, "optimizer": "muon", "ema": 0.9, **steps}
        train(config(towers, data={"on_gpu": on_gpu, "size": 64}, **loop), "run")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(calls) == 31


def test_a_checkpoint_is_a_copy_of_its_step(monkeypatch):
    there, written, save, write = {}, {}, checkpoint.Checkpoints.save, checkpoint._write

    def noting(self, progress):
        there[progress["step"]] = {name: x.clone() for name, x in self.model.state_dict().items()}
        save(self, progress)

    def slow(folder, state, copied):
        time.sleep(0.3)  # on a GPU, training goes on meanwhile
        write(folder, state, copied)
        written[state["step"]] = torch.load(folder / "state.pt")["model"]

    monkeypatch.setattr(checkpoint.Checkpoints, "save", noting)
    monkeypatch.setattr(checkpoint, "_write", slow)
    train(config("resnet and bag", checkpoint_every=8), "run")
    assert set(there) == set(written) == {8, 16}
    for step, weights in there.items():
        assert all(torch.equal(x.cpu(), written[step][name]) for name, x in weights.items())


# ---- precisions, memory, processes


@needs_gpu
def test_auto_takes_a_format_of_16_bits():
    device, autocast = engine.pick_device("auto", "auto")
    assert device.type == "cuda" and autocast in (torch.bfloat16, torch.float16)


@needs_gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("towers", TOWERS)
def test_sixteen_bits_train_as_thirty_two(towers, precision):
    needs_bf16(precision)
    exact, rounded = (train(config(towers, precision=p), p) for p in ("fp32", precision))
    assert losses(rounded) == pytest.approx(losses(exact), rel=0.05)


@needs_gpu
def test_a_full_memory_says_what_to_change():
    vision = replace(VIT, image_size=224, patch_size=16, width=1024, heads=16, layers=24)
    big = replace(config(batch_size=8192, data={"image_size": 224, "size": 8192}), model=CLIPConfig(32, vision, TEXT))
    with pytest.raises(MinclipError, match=r"micro_batch.*grad_checkpointing.*batch_size"):
        train(replace(big, train=replace(big.train, steps=1)), "run")


@pytest.mark.skipif(CUDA, reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_refused_under_torchrun_too(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MinclipError, match=r"train\.device 'cuda'"):
        start("cuda")


@pytest.mark.slow
def test_the_gpu_script_runs_its_parts_on_a_cpu():
    script = Path(__file__).with_name("gpu.py")
    command = [sys.executable, str(script), "--smoke", "--parts", "paper,retrieval"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(Path("gpu.json").read_text())
    assert report["smoke"] and report["paper"]["exit"] == 0 and report["paper"]["steps"] == 4
    assert report["paper"]["images_per_s"] > 0 and len(report["retrieval"]["seconds"]) == 3


@needs_gpu
def test_one_process_under_torchrun_trains_with_nccl():
    code = "import torch.distributed as d; from test_cuda import *; r = train(config(device='auto'), 'one')"
    code += "; print(d.get_backend(), losses(r)[-1])"
    own = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533"}
    here = Path(__file__).parent
    environment = {**os.environ, **own, "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "nccl" in done.stdout


@needs_gpu
def test_batchnorm_over_all_processes_is_plain_batchnorm_for_one():
    assert start("cuda") == "cuda"  # without torchrun there is no group
    torch.manual_seed(0)
    model = CLIP(TOWERS["resnet and bag"]).to(DEVICE).train()
    images = torch.randn(8, 3, 32, 32, device=DEVICE)
    plain = model.vision(images)
    synchronized = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model.vision)
    torch.manual_seed(0)
    assert synchronized(images).shape == plain.shape


def test_retrieval_is_the_same_on_both_devices():
    torch.manual_seed(0)
    image, text = torch.randn(300, 16), torch.randn(1500, 16)
    image, text = torch.nn.functional.normalize(image, dim=1), torch.nn.functional.normalize(text, dim=1)
    owner = torch.arange(1500) // 5
    here, there = (retrieval(image.to(d), text.to(d), owner) for d in ("cpu", DEVICE))
    assert there == pytest.approx(here, abs=2e-3)


def test_embedding_uses_the_models_device():
    model = CLIP(TOWERS["transformers"]).to(DEVICE).eval()
    pairs = Stream(config()).validation
    assert embed_images(model, pairs).device.type == DEVICE.type
