"""A run's folder: a resumed run goes on exactly where it was, a damaged one says so, and no file can run code."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minclip.config import CLIPConfig, DataConfig, LoopConfig, MinclipError, TextConfig, TrainConfig, VisionConfig
from minclip.losses import clip_loss
from minclip.model import CLIP
from minclip.tokenizer import Tokenizer
from minclip.training.checkpoint import Checkpoints, load_checkpoint
from minclip.training.optim import EMA, Muon
from minclip.training.run import (
    Run,
    check_images,
    is_finished,
    lock_run,
    read_learnt,
    read_metrics,
    read_run_config,
    resumed_config,
    rewind,
    start_run,
    write_metrics,
)

TOKENIZER = Tokenizer.train(["a red circle"] * 4, 520)
CONFIG = TrainConfig(
    data=DataConfig(image_size=16),
    model=CLIPConfig(
        embed_dim=8,
        # patch dropout draws from the random state in each step
        vision=VisionConfig(image_size=16, patch_size=4, width=16, layers=1, heads=2, patch_dropout=0.5),
        text=TextConfig(context_length=8, vocab_size=520, eot_id=519, width=16, layers=1, heads=2),
    ),
    train=LoopConfig(batch_size=4, steps=4),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, data_home):
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "runs" / "first"
    start_run(folder, CONFIG, TOKENIZER, names=[])
    return folder


def new():
    model = CLIP(CONFIG.model)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def save(folder, model, optimizer, step, seconds):
    if step and not optimizer.state:
        steps(model, optimizer, 1)
    progress = {"step": step, "seconds": seconds, "skipped": 0, "loss_scale": 0.0, "since": 0}
    Checkpoints(folder, model, optimizer, ema=None).save(progress)


def load(folder, model, optimizer):
    return load_checkpoint(folder, model, optimizer, ema=None)


def steps(model, optimizer, n=2):
    for _ in range(n):
        ids = torch.randint(1, 518, (4, 8))
        ids[:, -1] = 519
        loss = clip_loss(*model(torch.randn(4, 3, 16, 16), ids))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# ---- the state


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(folder):
    model, optimizer = new()
    steps(model, optimizer)
    save(folder, model, optimizer, 2, 1.5)
    torch.manual_seed(5)  # as the loop does it before each step: nothing random has to be saved
    steps(model, optimizer)

    torch.manual_seed(99)  # another process: other weights, another random state
    resumed, its_optimizer = new()
    load(folder, resumed, its_optimizer)
    torch.manual_seed(5)
    steps(resumed, its_optimizer)
    assert torch.equal(weights(resumed), weights(model))


def test_on_a_cpu_a_checkpoint_is_whole_before_training_goes_on_even_if_a_gpu_was_used(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    model, optimizer = new()
    save(folder, model, optimizer, 1, 0.0)
    assert torch.load(folder / "state.pt")["step"] == 1


def test_a_failed_run_waits_for_what_is_being_written(folder):
    checkpoints, done = Checkpoints(folder, *new(), ema=None), []
    with pytest.raises(RuntimeError, match="the machine stops"), checkpoints:
        checkpoints.writing = checkpoints.thread.submit(lambda: (time.sleep(0.2), done.append(1), 1 / 0))
        raise RuntimeError("the machine stops")
    assert done
    with pytest.raises(ZeroDivisionError):  # no error is lost
        checkpoints.wait()


def test_step_and_seconds_come_back(folder):
    model, optimizer = new()
    save(folder, model, optimizer, 7, 12.5)
    assert load(folder, *new()) == {"step": 7, "seconds": 12.5, "skipped": 0, "loss_scale": 0.0, "since": 0}


def test_the_optimizer_comes_back(folder):
    model, optimizer = new()
    steps(model, optimizer)
    save(folder, model, optimizer, 2, 0.0)
    resumed, its_optimizer = new()
    load(folder, resumed, its_optimizer)
    before, after = optimizer.state_dict()["state"], its_optimizer.state_dict()["state"]
    assert before.keys() == after.keys() and all(
        torch.equal(before[k][n], after[k][n]) for k in before for n in before[k]
    )


@pytest.mark.parametrize("kind", [torch.optim.AdamW, Muon])
def test_a_run_that_was_stopped_before_its_first_step_resumes_exactly(folder, kind):
    def fresh():
        model = CLIP(CONFIG.model)
        return model, kind([{"params": list(model.parameters())[3:], "lr": 1e-2}], betas=(0.9, 0.98))

    model, optimizer = fresh()
    save(folder, model, optimizer, 0, 0.0)
    resumed, its_optimizer = fresh()
    load(folder, resumed, its_optimizer)
    assert not its_optimizer.state  # Adam would count a step that was never taken
    for x in ((model, optimizer), (resumed, its_optimizer)):
        torch.manual_seed(5)
        steps(*x)
    assert torch.equal(weights(resumed), weights(model))


def test_a_state_of_before_the_first_step_is_not_believed_where_an_earlier_version_saved_it(folder):
    model, optimizer = new()
    steps(model, optimizer, 1)
    save(folder, model, optimizer, 0, 0.0)
    resumed, its_optimizer = new()
    load(folder, resumed, its_optimizer)
    assert not its_optimizer.state and torch.equal(weights(resumed), weights(model))


def test_the_config_decides_an_optimizers_options_and_not_the_file(folder):
    model, optimizer = new()
    steps(model, optimizer)
    optimizer.param_groups[0].update(lr=9.0, weight_decay=5.0)
    save(folder, model, optimizer, 2, 0.0)
    resumed, its_optimizer = new()
    load(folder, resumed, its_optimizer)
    assert [its_optimizer.param_groups[0][name] for name in ("lr", "weight_decay")] == [1e-2, 1e-2]


def test_without_a_state_a_run_starts_at_zero(folder):
    model, optimizer = new()
    before = weights(model)
    assert load(folder, model, optimizer) == {
        "step": 0,
        "seconds": 0,
        "skipped": 0,
        "loss_scale": 0.0,
        "since": 0,
    } and torch.equal(weights(model), before)


def test_the_state_holds_the_weights_too(folder):
    # the machine stopped between the two files: those of the state go with its optimizer
    model, optimizer = new()
    save(folder, model, optimizer, 1, 0.0)
    (folder / "model.safetensors").unlink()
    resumed, its_optimizer = new()
    load(folder, resumed, its_optimizer)
    assert torch.equal(weights(resumed), weights(model))


def test_a_checkpoint_replaces_the_last_and_leaves_no_litter(folder):
    model, optimizer = new()
    for step in (1, 2):
        save(folder, model, optimizer, step, 0.0)
    assert load(folder, model, optimizer)["step"] == 2
    assert {p.name for p in folder.iterdir()} == {"config.json", "tokenizer.json", "model.safetensors", "state.pt"}


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_off_state_is_refused(folder, share):
    model, optimizer = new()
    save(folder, model, optimizer, 1, 0.0)
    content = (folder / "state.pt").read_bytes()
    (folder / "state.pt").write_bytes(content[: int(share * len(content))])
    with pytest.raises(MinclipError, match=r"state\.pt is cut off or damaged .* model\.safetensors"):
        load(folder, model, optimizer)


@pytest.mark.parametrize("state", [3, {}, {"model": {}}, [1, 2]])
def test_a_state_that_holds_something_else_is_refused(folder, state):
    torch.save(state, folder / "state.pt")
    with pytest.raises(MinclipError, match=r"state\.pt "):
        load(folder, *new())


WRONG_STATES = [
    *(("step", value) for value in (-1, "3", 3.0, None, math.nan, True, 10**30)),
    *(("seconds", value) for value in (-1.0, "12", None, math.nan, math.inf)),
    *(("skipped", value) for value in (-1, "0", None)),
    *(("model", value) for value in (3, None, {}, [1], {"logit_scale": 3})),
    *(("optimizer", value) for value in ([], [1], 3, "x", {}, {"state": {}}, {"param_groups": 3, "state": []})),
    *(("average", value) for value in (3, [1], {"logit_scale": torch.zeros(2)})),
]


@pytest.mark.parametrize(("name", "value"), WRONG_STATES)
def test_a_state_with_a_wrong_part_is_refused(folder, name, value):
    model, optimizer = new()
    steps(model, optimizer, 1)
    save(folder, model, optimizer, 1, 0.0)
    state = torch.load(folder / "state.pt", weights_only=True)
    torch.save({**state, name: value}, folder / "state.pt")
    resumed, its_optimizer = new()
    with pytest.raises(MinclipError, match=r"state\.pt .*model\.safetensors"):
        load_checkpoint(folder, resumed, its_optimizer, ema=EMA(resumed, 0.9))


def test_an_optimizers_state_of_other_shapes_is_refused(folder):
    model, optimizer = new()
    steps(model, optimizer, 1)
    next(iter(optimizer.state.values()))["exp_avg"] = torch.zeros(3)
    save(folder, model, optimizer, 1, 0.0)
    with pytest.raises(MinclipError, match=r"state\.pt .*shapes"):
        load(folder, *new())


class Malicious:
    """Unpickled, it makes a folder; it could do anything."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def plain_pickle(x, path):
    path.write_bytes(pickle.dumps(x, protocol=2))


@pytest.mark.parametrize("write", [torch.save, plain_pickle])
def test_a_state_cannot_run_code(folder, tmp_path, write):
    write({"step": 1, "model": Malicious(tmp_path / "owned")}, folder / "state.pt")
    with pytest.raises(MinclipError, match="damaged"):
        load(folder, *new())
    assert not (tmp_path / "owned").exists()


def test_the_malicious_state_would_run_code_in_a_plain_unpickler(tmp_path):
    # or the test above would prove nothing
    pickle.loads(pickle.dumps(Malicious(tmp_path / "owned")))
    assert (tmp_path / "owned").exists()


# ---- the folder


def test_a_folder_that_holds_a_run_is_not_overwritten(folder):
    with pytest.raises(MinclipError, match=r"runs/first .*resume"):
        start_run(folder, CONFIG, TOKENIZER, names=[])


def test_the_config_of_a_run_comes_back(folder):
    assert read_run_config(folder) == CONFIG


def trained(folder):
    model, optimizer = new()
    save(folder, model, optimizer, 4, 2.0)
    write_metrics(folder, {"step": 4, "loss": 1.5})
    write_metrics(folder, {"step": 4, "final": {"test": {"recall@1": 0.25}}})
    return model


@pytest.mark.parametrize("name", ["first", "runs/first"])
def test_a_run_is_opened_by_name_or_folder(folder, name):
    model = trained(folder)
    run = Run.load(name)
    assert torch.equal(weights(run.model), weights(model))
    assert (run.config, run.tokenizer.merges) == (CONFIG, TOKENIZER.merges)


def test_a_run_knows_its_final_figures(folder):
    trained(folder)
    assert Run.load(folder).final == {"test": {"recall@1": 0.25}}


def test_a_run_that_did_not_end_has_no_final_figures(folder):
    save(folder, *new(), 4, 2.0)
    assert Run.load(folder).final == {}


def test_a_model_is_no_run(folder, tmp_path):
    trained(folder)
    Run.load(folder).model.save_pretrained(tmp_path / "model", tokenizer=TOKENIZER)
    with pytest.raises(MinclipError, match=r"minclip\.load"):
        Run.load(tmp_path / "model")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_of_a_run_is_named(folder, name):
    trained(folder)
    (folder / name).unlink()
    with pytest.raises(MinclipError, match=name.replace(".", r"\.")):
        Run.load(folder)


def test_an_export_opens_as_a_run_with_rounded_weights(folder, tmp_path):
    model = trained(folder)
    Run.load(folder).export(tmp_path / "shipped")
    run = Run.load(tmp_path / "shipped")
    assert torch.equal(weights(run.model), weights(model).half().float())
    assert (run.config, run.metrics) == (CONFIG, Run.load(folder).metrics)


def test_an_export_leaves_the_state_behind(folder, tmp_path):
    trained(folder)
    Run.load(folder).export(tmp_path / "shipped")
    assert not (tmp_path / "shipped" / "state.pt").exists()


def test_a_run_of_another_format_is_refused(folder):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "format": 0}))
    with pytest.raises(MinclipError, match="has format 0"):
        read_run_config(folder)


def test_a_config_that_was_edited_wrongly_names_the_field(folder):
    values = json.loads((folder / "config.json").read_text())
    values["train"]["steps"] = "many"
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(MinclipError, match=r"config\.json: train\.steps .*int.*'many'"):
        read_run_config(folder)


@pytest.mark.parametrize("content", ["[" * 10**5, "3", "null", "{}", '{"format": 1}', "\xff"])
def test_a_config_that_holds_something_else_is_refused(folder, content):
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(MinclipError, match=r"config\.json"):
        read_run_config(folder)


@pytest.mark.parametrize(
    ("field", "value"), [("lr", 10**400), ("steps", 10**400), ("lr", math.nan), ("seed", -1)], ids=lambda x: f"{x!r:.9}"
)
def test_a_number_that_cannot_be_meant_names_file_and_field(folder, field, value):
    values = json.loads((folder / "config.json").read_text())
    values["train"][field] = value
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(MinclipError, match=rf"config\.json: train\.{field}"):
        read_run_config(folder)


@pytest.mark.parametrize("content", ["3", "null", "[[1]]", '["a", 3]', '{"a": 1}', '["a.jpg", ', "[" * 10**5, "\xff"])
def test_a_damaged_list_of_photographs_is_refused(folder, content):
    (folder / "learnt.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(MinclipError, match=r"learnt\.json .*delete it"):
        read_learnt(folder)
    with pytest.raises(MinclipError, match=r"learnt\.json"):
        check_images(folder, ["a.jpg"])


# ---- one process at a time


HOLD = """
import sys, time
from pathlib import Path
from minclip.training.run import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder):
    """A process that holds the folder's lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_locked_while_a_process_trains_and_free_when_it_is_gone(tmp_path):
    folder = tmp_path / "runs" / "new"  # there is no run yet: both could start it
    process = holder(folder)
    with pytest.raises(MinclipError, match=rf"runs/new .*process {process.pid} on \S+, since 20"), lock_run(folder):
        pass
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()
    with lock_run(folder):
        assert json.loads((folder / ".lock.json").read_text())["pid"] == os.getpid()
        with pytest.raises(MinclipError, match=f"process {os.getpid()}"), lock_run(folder):
            pass
        (folder / ".lock.json").write_text("{")  # about to be written: then nobody is named
        with pytest.raises(MinclipError, match="another process"), lock_run(folder):
            pass
    assert not folder.exists()  # nothing was begun in it


def test_a_lock_leaves_the_files_of_a_run_alone(folder):
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(RuntimeError, match="stop"), lock_run(folder):
        raise RuntimeError("stop")
    assert sorted(path.name for path in folder.iterdir()) == before


# ---- metrics


LINES = [{"step": 1, "loss": 2.0}, {"step": 2, "val": {"recall@1": 0.5}}, {"step": 3, "loss": 1.0}]


@pytest.fixture
def logged(folder):
    for line in LINES:
        write_metrics(folder, line)
    return folder


def test_metrics_come_back(logged):
    assert read_metrics(logged) == LINES


def test_without_metrics_there_are_none(folder):
    assert read_metrics(folder) == []


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_last_line_that_was_cut_off_is_dropped(logged, cut):
    path = logged / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[: -1 - cut])
    assert read_metrics(logged) == LINES[:-1]


def test_a_damaged_line_in_the_middle_is_told_by_its_number(logged):
    lines = (logged / "metrics.jsonl").read_text().splitlines()
    (logged / "metrics.jsonl").write_text("\n".join([lines[0], '{"step": 2, "va', lines[2]]))
    with pytest.raises(MinclipError, match=r"metrics\.jsonl line 2"):
        read_metrics(logged)


WRONG_LINES = [
    *("3", "[1]", "null", "{}", '{"loss": 1.0}', "[" * 10**5, '{"step": 1, "loss": "\xff"}'),
    *(
        '{"step": "3"}',
        '{"step": -1}',
        '{"step": 1.5}',
        '{"step": null}',
        '{"step": true}',
        '{"step": 1' + "0" * 400 + "}",
    ),
    *('{"step": 1, "seconds": "3"}', '{"step": 1, "loss": "x"}', '{"step": 1, "loss": [1]}', '{"step": 1, "final": 3}'),
    *('{"step": 1, "final": {"test": 3}}', '{"step": 1, "val": {"a": {"b": 1}}}', '{"step": 1, "val": {"a": "x"}}'),
]


@pytest.mark.parametrize("wrong", WRONG_LINES, ids=lambda line: line[:40])
def test_a_line_that_holds_something_else_is_named(logged, wrong):
    lines = (logged / "metrics.jsonl").read_bytes().splitlines()
    (logged / "metrics.jsonl").write_bytes(b"\n".join([lines[0], wrong.encode("latin-1"), *lines[1:]]) + b"\n")
    for read in (lambda: read_metrics(logged), lambda: is_finished(logged, CONFIG.train), lambda: rewind(logged, 1)):
        with pytest.raises(MinclipError, match=r"metrics\.jsonl line 2"):
            read()


def test_the_demos_metrics_are_read():
    demo = Path(__file__).parent.parent.parent / "data" / "demo"
    assert {"test", "heldout"} == read_metrics(demo)[-1]["final"].keys()


@pytest.mark.parametrize(("step", "kept"), [(0, 0), (1, 1), (2, 2), (9, 3)])
def test_rewinding_drops_what_came_after_the_checkpoint(logged, step, kept):
    rewind(logged, step)
    assert read_metrics(logged) == LINES[:kept]


def test_rewinding_drops_the_final_figures(logged):
    # the resumed run will end anew
    write_metrics(logged, {"step": 3, "final": {}})
    rewind(logged, 3)
    assert read_metrics(logged) == LINES


def test_after_a_cut_off_line_logging_goes_on(logged):
    path = logged / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    rewind(logged, 3)
    write_metrics(logged, LINES[-1])
    assert read_metrics(logged) == LINES


# ---- resuming


def test_what_decides_the_result_may_not_change_and_what_does_not_may(folder):
    faster = replace(CONFIG, train=replace(CONFIG.train, steps=9, micro_batch=2, lr=1e-4, log_every=3))
    assert resumed_config(folder, faster) == faster
    with pytest.raises(MinclipError, match=r"train\.seed \(0, now 1\), train\.batch_size \(4, now 8\)"):
        resumed_config(folder, replace(CONFIG, train=replace(CONFIG.train, batch_size=8, seed=1)))


def test_shards_are_resumed_with_the_workers_they_began_with(tmp_path):
    shards = replace(CONFIG, data=replace(CONFIG.data, name="shards", root="there", workers=2))
    start_run(tmp_path / "run", shards, TOKENIZER, names=[])
    elsewhere = replace(shards, data=replace(shards.data, root="elsewhere"))
    assert resumed_config(tmp_path / "run", elsewhere) == elsewhere
    with pytest.raises(MinclipError, match=r"data\.workers \(2, now 4\)"):  # which take the shards in another order
        resumed_config(tmp_path / "run", replace(shards, data=replace(shards.data, workers=4)))


@pytest.mark.parametrize(
    ("loop", "finished"), [({"minutes": 1.0}, True), ({"minutes": 2.0, "steps": 1}, False), ({"steps": 31}, False)]
)
def test_a_run_ends_by_its_minutes_if_it_has_some(tmp_path, loop, finished):
    write_metrics(tmp_path, {"step": 30, "final": {}, "seconds": 61.0})
    assert is_finished(tmp_path, LoopConfig(**loop)) == finished
    write_metrics(tmp_path, {"step": 30, "loss": 1.0, "seconds": 61.0})
    assert not is_finished(tmp_path, LoopConfig(steps=30))
