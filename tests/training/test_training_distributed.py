"""The whole loop in several processes: the same weights as in one, resumed on another number of them, and no hang."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from processes import in_processes
from training_runs import all_trained, failure, same, tiny, trained

from minclip.config import MinclipError
from minclip.loop import train
from minclip.model import CLIP
from minclip.tokenizer import Tokenizer
from minclip.training.run import Run, read_metrics
from minclip.weights.folder import read_config

pytestmark = pytest.mark.usefixtures("small_world")
AVERAGED = {"ema": 0.9, "warmup": 0.95}  # steps that grow to the end, so that the average lags behind
WAYS = {
    **{f"{loss} by {way}{name}": tiny({"parallel": way, **more}, loss=loss)
       for loss in ("clip", "siglip") for way in ("ddp", "fsdp")
       for name, more in {"": {}, ", cached": {"micro_batch": 4}}.items()},
    "clip by ddp, in chunks": tiny({"loss_chunk": 3}),
    "siglip by ddp, in chunks": tiny({"loss_chunk": 3}, loss="siglip"),
    "clip by fsdp, cached in large parts": tiny({"parallel": "fsdp", "micro_batch": 16}),
    "averaged by ddp": tiny(AVERAGED),
    "averaged by fsdp": tiny({**AVERAGED, "parallel": "fsdp"}),
}  # fmt: skip
OF_FOUR = ("clip by ddp", "siglip by ddp, cached", "clip by fsdp")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Weights after 20 steps in one process."""
    folder = tmp_path_factory.mktemp("alone")
    runs = {"clip": tiny(), "siglip": tiny(loss="siglip"), "averaged": tiny(AVERAGED)}
    return all_trained(folder, runs)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder of runs in two and in four processes, and the weights that each process had at their end."""
    folder = tmp_path_factory.mktemp("together")
    two = in_processes(2, all_trained, folder / "2", WAYS)
    four = in_processes(4, all_trained, folder / "4", {way: WAYS[way] for way in OF_FOUR})
    return folder, {2: two, 4: four}


@pytest.mark.parametrize(("world", "way"), [*((2, way) for way in WAYS), *((4, way) for way in OF_FOUR)])
@pytest.mark.slow
def test_many_processes_end_with_the_weights_of_one(together, alone, world, way):
    folder, weights = together
    wanted = alone[way.split()[0]]
    for of_process in weights[world]:  # each process has them all
        same(of_process[way], wanted)
    saved = Run.load(folder / str(world) / way)
    same(saved.model.state_dict(), wanted)
    assert [line["step"] for line in saved.metrics if "loss" in line] == list(range(1, 21))  # written once


@pytest.mark.slow
def test_other_runs_differ_by_far_more(alone, tmp_path):
    # or the test above would prove nothing
    not_averaged = trained(tmp_path / "run", tiny({**AVERAGED, "ema": 0.0}))
    for a, b in ((alone["clip"], alone["siglip"]), (alone["averaged"], not_averaged)):
        assert (a["text_projection.weight"] - b["text_projection.weight"]).abs().max() > 5e-5


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4)])
@pytest.mark.slow
def test_a_run_goes_on_in_another_number_of_processes(tmp_path, alone, before, after):
    # 10 steps here, 10 steps there; the schedule is that of 20
    folder = tmp_path / "run"
    in_processes(before, stopped_at_10, folder)
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["step"] == 10
    for weights in in_processes(after, trained, folder, tiny(), True):
        same(weights, alone["clip"])


def stopped_at_10(folder):
    """Trains until the checkpoint of step 10, and breaks."""
    from minclip.training.checkpoint import Checkpoints

    save = Checkpoints.save

    def save_and_break(*args, **named):
        save(*args, **named)
        raise RuntimeError("the machine stops")

    Checkpoints.save = save_and_break
    with pytest.raises(RuntimeError, match="machine stops"):
        train(tiny(), folder)


@pytest.mark.slow
def test_convolutions_and_batchnorm_are_shared_out_too(tmp_path):
    # each process's BatchNorm sees its share: FSDP must do what DDP does
    vision = replace(tiny().model.vision, stem="conv", stem_width=4, pool="mean")
    runs = {
        way: replace(tiny({"parallel": way, "steps": 5}), model=replace(tiny().model, vision=vision))
        for way in ("ddp", "fsdp")
    }
    first, _ = in_processes(2, all_trained, tmp_path, runs)
    parameters = {name for name in first["ddp"] if "running" not in name and "tracked" not in name}
    same(*({name: first[way][name] for name in parameters} for way in ("fsdp", "ddp")))


@pytest.mark.slow
def test_many_processes_fine_tune_as_one_does(tmp_path):
    # single numbers, levels of a tower, and the towers' late start are groups of their own for FSDP, too
    loop = {"steps": 6, "layer_decay": 0.5, "heads_first": 0.5, "text_lr": 1e-4, "init": str(tmp_path / "mine")}
    base = tiny(loop, loss="siglip")
    tokenizer = Tokenizer([])
    text = replace(base.model.text, vocab_size=tokenizer.vocab_size, eot_id=-1)
    config = replace(base, model=replace(base.model, text=text))
    CLIP(config.model).save_pretrained(tmp_path / "mine", tokenizer=tokenizer)
    ways = {way: replace(config, train=replace(config.train, parallel=way)) for way in ("ddp", "fsdp")}
    wanted = trained(tmp_path / "alone", config)
    for of_process in in_processes(2, all_trained, tmp_path, ways):
        for way in ways:
            same(of_process[way], wanted)
    assert read_config(tmp_path / "fsdp")["origin"] == read_config(tmp_path / "alone")["origin"]


@pytest.mark.slow
def test_processes_with_different_configs_are_told_which_fields(tmp_path):
    configs = [tiny(), tiny({"lr": 3e-4, "seed": 5})]
    for message in in_processes(2, failure, tmp_path / "run", configs):
        assert re.search(r"process 1 .*train\.seed, train\.lr .*process 0", message)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_batch_that_processes_cant_share_is_refused(tmp_path):
    for message in in_processes(2, failure, tmp_path / "run", [tiny({"batch_size": 31})] * 2):
        assert re.search(r"train\.batch_size 31 .*2 processes", message)


@pytest.mark.parametrize("micro_batch", [5, 64])
def test_a_micro_batch_that_doesnt_divide_the_batch_is_refused(tmp_path, micro_batch):
    with pytest.raises(MinclipError, match=rf"train\.micro_batch {micro_batch} .*32 pairs"):
        train(tiny({"micro_batch": micro_batch}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- with torchrun itself


def torchrun(folder, *options, count=2, environment=None):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += ["-m", "minclip", "train", "shapes", "--name", "a", *TINY, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **(environment or {})}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


TINY = (
    *("--data.image-size", "16", "--data.size", "64", "--model.vision.width", "32", "--model.vision.layers", "1"),
    *(
        "--model.vision.patch-size",
        "8",
        "--model.text.width",
        "32",
        "--train.batch-size",
        "16",
        "--train.device",
        "cpu",
    ),
    *("--train.log-every", "1", "--train.eval-every", "0", "--train.checkpoint-every", "5"),
)


@pytest.mark.slow
def test_torchrun_trains_with_nothing_else_changed(tmp_path):
    process = torchrun(tmp_path, "--train.steps", "6", "--json")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert out.count("saved in") == 1 and out.count('"run"') == 1  # one process speaks
    assert [line["step"] for line in read_metrics(tmp_path / "runs" / "a") if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert Run.load(tmp_path / "runs" / "a").final


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run(tmp_path):
    process = torchrun(tmp_path, "--train.steps", "100000")
    try:
        log = tmp_path / "runs" / "a" / "metrics.jsonl"
        deadline = time.monotonic() + 120
        while not (log.exists() and len(log.read_text().splitlines()) > 7):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        assert len(workers) == 2
        os.kill(int(workers[1]), signal.SIGKILL)
        process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode != 0
    assert torch.load(tmp_path / "runs" / "a" / "state.pt", weights_only=True)["step"] % 5 == 0  # the last good one


@pytest.mark.slow
def test_a_users_mistake_under_torchrun_is_one_sentence(tmp_path):
    process = torchrun(tmp_path, "--train.micro-batch", "3", "--train.steps", "5")
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert len(re.findall(r"minclip: --train\.micro-batch 3 .*8 pairs", err)) == 1
    assert "process 1:" not in err  # both failed alike


@pytest.mark.slow
def test_wrong_options_under_torchrun_are_told_once(tmp_path):
    process = torchrun(tmp_path, "--train.batch-sise", "3")
    out, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert (out + err).count("--train.batch-size") == 1


@pytest.mark.slow
def test_a_mistake_of_one_process_alone_is_told_by_its_number(tmp_path):
    # its data lie elsewhere, and the other one waits for it
    (tmp_path / "sitecustomize.py").write_text(ONE_FAILS)
    process = torchrun(tmp_path, "--train.steps", "5", environment={"PYTHONPATH": path_with(tmp_path)})
    _, err = process.communicate(timeout=180)
    assert process.returncode != 0
    assert err.count("minclip: process 1: its photographs are not there") == 1 and err.count("minclip: ") == 1


ONE_FAILS = """
import os
if os.environ.get("RANK") == "1":
    import minclip.data.stream, minclip.config
    def open_data(*given, **named):
        raise minclip.config.MinclipError("its photographs are not there")
    minclip.data.stream.open_data = open_data
"""


def path_with(folder):
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_resuming_with_another_architecture_names_the_fields(tmp_path):
    train(tiny({"steps": 2}), tmp_path / "run")
    changed = tiny({"steps": 2})
    text = replace(changed.model.text, layers=3)
    changed = replace(changed, model=replace(changed.model, embed_dim=64, text=text))
    with pytest.raises(MinclipError, match=r"model\.embed_dim \(32, now 64\), model\.text\.layers \(2, now 3\)"):
        train(changed, tmp_path / "run", resume=True)
