"""The training loop: what it learns, what it writes, how it goes on."""

import json
import math
import shutil
import sys
import time
from dataclasses import replace

import pytest
import torch
from training_runs import stopped_after

from minclip import vision
from minclip.config import (
    CLIPConfig,
    DataConfig,
    LoopConfig,
    MinclipError,
    TextConfig,
    TrainConfig,
    VisionConfig,
)
from minclip.data import open_data
from minclip.data.stream import Stream
from minclip.evaluate import final_figures
from minclip.loop import train
from minclip.model import CLIP
from minclip.presets import PRESETS
from minclip.resnet import SmallResNet
from minclip.training import engine, watch
from minclip.training.engine import pick_device, schedule
from minclip.training.optim import parameter_groups
from minclip.training.run import Run, is_finished, read_metrics, write_metrics

pytestmark = pytest.mark.usefixtures("small_world")


def tiny_config():
    vision = VisionConfig(image_size=16, patch_size=8, width=32, layers=1, heads=1, mean=(0.5,) * 3, std=(0.25,) * 3)
    model = CLIPConfig(
        32, vision, TextConfig(context_length=32, vocab_size=600, eot_id=599, width=32, layers=1, heads=1)
    )
    loop = LoopConfig(
        batch_size=32, steps=12, log_every=1, eval_every=6, checkpoint_every=4, device="cpu", precision="fp32"
    )
    return TrainConfig(DataConfig("shapes", image_size=16, size=128), model, loop)


@pytest.fixture
def tiny(here):
    """The config of a run of a second, in an empty folder."""
    return tiny_config()


@pytest.fixture(scope="module")
def plain(tmp_path_factory, small_world):
    """The run of that config, made once: for tests that only look at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minclip.training.watch.peak_flops", lambda device, *, autocast: 1e12)
        return train(tiny_config(), tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture
def copied(plain, tiny):
    """Its folder's copy "runs/a", for tests that change it or might."""
    shutil.copytree(plain.folder, "runs/a")


def change(config, **values):
    return replace(config, train=replace(config.train, **values))


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def test_a_run_leaves_every_file_of_its_folder(plain):
    names = {p.name for p in plain.folder.iterdir()}
    assert names == {"config.json", "tokenizer.json", "model.safetensors", "state.pt", "metrics.jsonl"}


@pytest.mark.slow
def test_the_first_logged_loss_of_the_shapes_preset_is_ln_b_within_5_percent(tmp_path):
    config = change(PRESETS["shapes"], steps=1, eval_every=0, device="cpu")
    run = train(replace(config, data=replace(config.data, size=512)), tmp_path / "run")
    assert abs(run.metrics[0]["loss"] / math.log(config.train.batch_size) - 1) < 0.05


def test_training_learns(tiny):
    run = train(change(tiny, steps=250, lr=1e-3, eval_every=0, checkpoint_every=100))
    losses = [line["loss"] for line in run.metrics if "loss" in line]
    assert sum(losses[-5:]) / 5 < math.log(32) - 0.3


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny, plain):
    again, other = (train(change(tiny, seed=s), f"runs/{s}") for s in (0, 1))
    assert torch.equal(weights(plain), weights(again))
    assert not torch.equal(weights(plain), weights(other))


def small_recipe(tiny):
    """A tiny run with all of the recipe for few photographs."""
    vision = VisionConfig(tower="small_resnet", image_size=32, width=8, stages=(1, 1, 1, 1), dropout=0.2)
    model = replace(
        tiny.model, vision=vision, text=TextConfig("bag", context_length=32, vocab_size=600, eot_id=599, width=32)
    )
    data = replace(tiny.data, image_size=32, first_size=16, min_crop=0.3, flip=True, color=0.4)
    return change(replace(tiny, data=data, model=model), optimizer="muon", label_smoothing=0.1, ema=0.9)


def test_the_pictures_of_a_run_grow(tiny, monkeypatch):
    sides = []
    forward = SmallResNet.forward

    def watched(self, images):
        if self.training:
            sides.append(images.shape[-1])
        return forward(self, images)

    monkeypatch.setattr(SmallResNet, "forward", watched)
    run = train(small_recipe(tiny))
    steps = [side for i, side in enumerate(sides) if i not in (0, sides.index(32) if 32 in sides else 0)]
    assert sorted(set(steps)) == [16, 32] and steps == sorted(steps)
    assert run.model.config.vision.image_size == 32


def test_muon_moves_the_matrices_and_adamw_the_rest(tiny):
    config = small_recipe(tiny)
    muon, adamw = (
        train(change(config, optimizer=optimizer, steps=1, ema=0.0), f"runs/{optimizer}").model.state_dict()
        for optimizer in ("muon", "adamw")
    )
    different = {name for name in muon if not torch.allclose(muon[name], adamw[name], atol=1e-7)}
    assert {"image_projection.weight", "text_projection.weight", "vision.blocks.1.shortcut.conv.weight"} <= different
    assert not {"text.token_embedding.weight", "logit_scale", "vision.stem.norm.bias"} & different


def test_every_parameter_moves_also_the_temperature(plain):
    torch.manual_seed(plain.config.train.seed)
    fresh = CLIP(plain.config.model)
    still = [n for (n, a), b in zip(fresh.named_parameters(), plain.model.parameters()) if torch.equal(a, b)]
    assert not still
    assert plain.model.logit_scale.item() != pytest.approx(math.log(1 / 0.07), abs=1e-6)


def test_both_towers_and_the_scale_get_the_same_learning_rate(tiny):
    groups = parameter_groups(CLIP(tiny.model), 0.1)
    assert all("lr" not in group for group in groups)
    assert sum(len(g["params"]) for g in groups) == len(list(CLIP(tiny.model).parameters()))


def test_weight_decay_spares_norms_biases_embeddings_and_the_scale(tiny):
    model = CLIP(tiny.model)
    names = {id(p): n for n, p in model.named_parameters()}
    groups = parameter_groups(model, 0.1)
    decayed, *spared = ({names[id(p)] for p in group["params"]} for group in groups)
    assert [group["weight_decay"] for group in groups] == [0.1, 0, 0] and spared[1] == {"logit_scale"}
    spared = spared[0] | spared[1]
    assert {
        n for n in spared if n.endswith(("bias", "logit_scale", "token_embedding.weight", "positional_embedding"))
    } >= {
        "logit_scale",
        "text.token_embedding.weight",
        "text.positional_embedding",
        "vision.positional_embedding",
    }
    assert decayed and all(n.endswith("weight") and "norm" not in n and "token_embedding" not in n for n in decayed)


def test_the_learning_rate_rises_then_falls_to_nothing(plain):
    rates = [schedule(i / 100, 0.1) for i in range(101)]
    assert rates[0] > 0 and rates[10] == pytest.approx(1) and rates[100] == pytest.approx(0)
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert schedule(0.0, 0.1) == 0.001 / 0.101 and schedule(0.0999, 0.1) < 1
    logged = [line["lr"] for line in plain.metrics if "lr" in line]
    assert max(logged) > 3 * logged[-1]
    # and the optimizer really has what was logged, for both towers and the scale
    groups = torch.load(plain.folder / "state.pt", weights_only=True)["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == [logged[-1]] * 3


def test_the_scale_is_clamped_at_100(tiny):
    run = train(change(replace(tiny, model=replace(tiny.model, logit_scale_init=math.log(1000))), steps=2))
    assert run.metrics[1]["scale"] == pytest.approx(100)


@pytest.mark.parametrize("recipe", ["patch dropout", "small"])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(tiny, monkeypatch, recipe):
    dropping = replace(tiny, model=replace(tiny.model, vision=replace(tiny.model.vision, patch_dropout=0.5)))
    tiny = small_recipe(tiny) if recipe == "small" else dropping
    whole = train(tiny, "runs/whole")

    def break_at_step_10(folder, line):
        if line["step"] == 10:
            raise RuntimeError("the machine stops")
        write_metrics(folder, line)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="machine stops"):
        patch.setattr("minclip.training.run.write_metrics", break_at_step_10)
        train(tiny, "runs/cut")
    resumed = train(tiny, "runs/cut", resume=True)  # from the checkpoint of step 8
    assert torch.equal(weights(whole), weights(resumed))
    assert [line.get("loss") for line in whole.metrics] == [line.get("loss") for line in resumed.metrics]


def test_metrics_hold_each_step_once_after_a_resume(tiny, copied):
    train(change(tiny, steps=20), "runs/a", resume=True)
    steps = [line["step"] for line in read_metrics(Run.load("a").folder) if "loss" in line]
    assert steps == list(range(1, 21))


def test_a_finished_run_is_given_back_as_it_is(tiny, copied, capsys):
    # it must not be validated or end twice, whatever of the log or the machine is changed
    whole = Run.load("a")
    files = {p.name: p.read_bytes() for p in whole.folder.iterdir()}
    again = train(change(tiny, log_every=5), "runs/a", resume=True)
    assert "train.steps" in capsys.readouterr().out
    assert torch.equal(weights(again), weights(whole)) and again.final == whole.final
    assert {p.name: p.read_bytes() for p in whole.folder.iterdir()} == files


def test_a_run_ends_by_its_minutes_where_it_has_some(tmp_path):
    write_metrics(tmp_path, {"step": 30, "final": {}, "seconds": 61.0})
    for loop, finished in (({"minutes": 1.0}, True), ({"minutes": 2.0, "steps": 1}, False), ({"steps": 31}, False)):
        assert is_finished(tmp_path, LoopConfig(**loop)) == finished
    write_metrics(tmp_path, {"step": 30, "loss": 1.0, "seconds": 61.0})
    assert not is_finished(tmp_path, LoopConfig(steps=30))


def test_a_resume_with_another_model_names_the_fields(tiny, copied):
    with pytest.raises(MinclipError, match=r"other values of model\.embed_dim|other values of model"):
        train(replace(tiny, model=replace(tiny.model, embed_dim=64)), "runs/a", resume=True)


def test_a_run_is_never_overwritten(tiny, copied):
    with pytest.raises(MinclipError, match="runs/a"):
        train(tiny, "runs/a")


def test_minutes_end_the_run_on_time(tiny):
    run = train(change(tiny, minutes=0.02, steps=10**9, checkpoint_every=10**9, eval_every=0))
    logged = [line for line in run.metrics if "loss" in line]
    assert logged[-1]["seconds"] > 0.6  # of 1.2; no upper bound, which a busy machine would break
    assert logged[-1]["lr"] < 0.2 * tiny.train.lr  # the schedule followed the clock


def test_a_batch_larger_than_the_data_is_refused(tiny):
    with pytest.raises(MinclipError, match=r"129.*128"):
        train(change(tiny, batch_size=129))


def test_a_device_that_is_not_there_is_refused(tiny):
    with pytest.raises(MinclipError, match="nonsense"):
        pick_device("nonsense", "auto")


@pytest.mark.parametrize(
    ("able", "seconds", "dtype"), [(True, 0.5, torch.bfloat16), (True, 0.9, None), (False, 0.5, None)]
)
def test_auto_takes_bf16_where_a_cpu_multiplies_it_faster(monkeypatch, able, seconds, dtype):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": able, "amx_bf16": False})
    monkeypatch.setattr(engine, "seconds_of_product", lambda dtype: seconds if dtype == torch.bfloat16 else 1.0)
    engine.fast_bf16.cache_clear()
    assert pick_device("cpu", "auto") == (torch.device("cpu"), dtype)
    assert [pick_device("cpu", precision)[1] for precision in ("bf16", "fp32")] == [torch.bfloat16, None]
    with pytest.raises(MinclipError, match=r"train\.precision fp16 .*cpu"):
        pick_device("cpu", "fp16")
    engine.fast_bf16.cache_clear()


def test_a_loss_that_is_not_finite_stops_the_run_and_says_what_to_do(tiny):
    with pytest.raises(MinclipError, match=r"lower train\.lr"):
        train(change(tiny, lr=1e30, warmup=0.0, grad_clip=1e30, steps=12))


def test_the_final_figures_come_out_again_from_the_saved_run(plain):
    again, data = Run.load(plain.folder), open_data(plain.config.data)
    splits = {split: data.load(split) for split in data.evaluation_splits}
    assert final_figures(again.model, again.tokenizer, splits) == plain.final
    assert set(plain.final) == {"test", "heldout"}


def test_metrics_are_one_json_object_a_line(plain):
    lines = [json.loads(line) for line in (plain.folder / "metrics.jsonl").read_text().splitlines()]
    assert set(lines[0]) == {
        *("step", "loss", "scale", "lr", "grad_norm", "param_norm", "update_norm", "images_per_s"),
        *("mfu", "memory_gb", "skipped", "seconds"),
    }
    assert [line["step"] for line in lines if "val" in line] == [6, 12]


# ---- what can be switched on


def test_a_step_without_a_finite_gradient_is_skipped_and_counted(tiny, monkeypatch):
    clip_gradients, calls = engine.clip_gradients, []

    def broken_at_step_3(parameters, max_norm, **options):
        calls.append(1)
        norm = clip_gradients(parameters, max_norm, **options)
        return norm * float("nan") if len(calls) == 3 else norm

    whole = train(change(tiny, steps=2), "runs/two")
    monkeypatch.setattr(engine, "clip_gradients", broken_at_step_3)
    run = train(change(tiny, steps=3, lr=tiny.train.lr), "runs/three")
    lines = [line for line in run.metrics if "loss" in line]
    assert lines[2]["grad_norm"] is None and len(run.steps) == 2  # JSON knows no NaN
    assert [line["skipped"] for line in lines] == [0, 0, 1] and lines[2]["update_norm"] == 0
    assert lines[1]["param_norm"] == lines[2]["param_norm"] and len(calls) == 3
    assert len([line for line in whole.metrics if "loss" in line]) == 2


def test_a_skipped_step_leaves_batchnorms_statistics_alone(tiny, monkeypatch):
    step, calls = engine.gradients, []

    def broken_at_step_2(model, batch, loop, **options):
        calls.append(1)
        batch.images[0, 0, 0, 0] = float("nan") if len(calls) == 2 else batch.images[0, 0, 0, 0]
        return step(model, batch, loop, **options)

    monkeypatch.setattr(engine, "gradients", broken_at_step_2)
    vision = replace(tiny.model.vision, stem="conv", stem_width=4, pool="mean")
    run = train(change(replace(tiny, model=replace(tiny.model, vision=vision)), steps=3, eval_every=0))
    assert [line["skipped"] for line in run.metrics if "loss" in line] == [0, 1, 1]
    assert all(buffer.isfinite().all() for buffer in run.model.buffers())


def test_the_rate_counts_the_time_that_the_data_took(tiny, monkeypatch):
    following = Stream.next

    def slow(self, image_size=None):
        time.sleep(0.2)
        return following(self, image_size)

    monkeypatch.setattr(Stream, "next", slow)
    run = train(change(tiny, steps=3, eval_every=None))
    assert all(line["images_per_s"] < 32 / 0.2 for line in run.steps)


def test_a_run_may_go_on_with_a_lower_learning_rate(tiny, copied):
    run = train(change(tiny, lr=1e-5, steps=14), "runs/a", resume=True)
    assert run.steps[-1]["lr"] < 1e-5 and run.config.train.lr == 1e-5


def test_siglip_on_its_plateau_is_told_too(tiny, monkeypatch, capsys):
    config = replace(tiny, model=replace(tiny.model, loss="siglip"))
    assert "image features" in sabotaged(change(config, lr=1e-2), monkeypatch, capsys, one_image)


def test_patches_are_kept_in_the_runs_last_part(tiny, monkeypatch):
    seen = []
    drop = vision.drop_patches
    monkeypatch.setattr(vision, "drop_patches", lambda x, fraction: (seen.append(fraction), drop(x, fraction))[1])
    tower = replace(tiny.model.vision, patch_dropout=0.5)
    run = train(
        change(replace(tiny, model=replace(tiny.model, vision=tower)), steps=10, eval_every=0, unmasked_last=0.3)
    )
    assert len(seen) == 7 + 1 and set(seen) == {0.5}  # 7 steps, and the counting of FLOPs
    assert run.model.vision.patch_dropout == 0.5
    assert run.model.config.vision.patch_dropout == 0.5  # the config tells how it was trained


def test_the_average_is_what_is_validated_and_saved(tiny):
    config = change(tiny, ema=0.99, warmup=0.9, lr=1e-2)
    run, plain = train(config, "runs/average"), train(change(config, ema=0.0), "runs/plain")
    assert not torch.equal(weights(run), weights(plain))
    assert torch.equal(weights(Run.load("average")), weights(run))
    state = torch.load(run.folder / "state.pt", weights_only=True)
    assert torch.equal(state["model"]["logit_scale"], plain.model.logit_scale.detach())
    assert torch.equal(state["average"]["logit_scale"], run.model.logit_scale.detach())


def test_an_averaged_run_resumes_exactly(tiny):
    config = change(tiny, ema=0.9, checkpoint_every=6)
    whole = train(config, "runs/whole")
    stopped_after(config, 6, "runs/cut")
    assert torch.equal(weights(train(config, "runs/cut", resume=True)), weights(whole))


def test_tensorboard_gets_every_figure(tiny):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(change(tiny, tensorboard=True))
    events = EventAccumulator(str(run.folder / "tensorboard"), size_guidance={"scalars": 0})
    run = train(change(tiny, tensorboard=True, steps=14), resume=True)  # which logs steps 13 and 14 to the same place
    events.Reload()
    logged = {line["step"]: line["loss"] for line in run.steps}
    assert sorted(logged) == list(range(1, 15))
    assert {e.step: e.value for e in events.Scalars("train/loss")} == pytest.approx(logged)
    assert "val/text_to_image_r@5" in events.Tags()["scalars"]


def test_without_tensorboard_it_is_said_before_training(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MinclipError, match="pip install tensorboard"):
        train(change(tiny, tensorboard=True))


def test_the_norms_are_those_of_the_step(tiny):
    run = train(change(tiny, steps=1, warmup=0.0, weight_decay=0.0))
    line = run.metrics[0]
    after = weights(run)
    torch.manual_seed(tiny.train.seed)
    before = torch.cat([p.detach().flatten() for p in CLIP(run.config.model).parameters()])
    assert line["update_norm"] == pytest.approx((after - before).norm().item(), rel=1e-4)
    assert line["param_norm"] == pytest.approx(after.norm().item(), rel=1e-5)
    assert 0 < line["mfu"] < 1.5 and line["memory_gb"] > 0.1


# ---- when it doesn't learn


def test_pairs_are_memorized(tiny):
    config = change(tiny, overfit=16, steps=150, lr=3e-3, log_every=5)
    config = replace(config, data=replace(config.data, min_crop=0.5))
    run = train(config)
    assert run.config.train.batch_size == 16 and run.config.data.min_crop == 1 and run.final == {}
    assert "16 pairs memorized" in watch.verdict(run)


def test_pairs_that_are_not_memorized_are_reported_with_causes(tiny):
    run = train(change(tiny, overfit=16, steps=20, lr=1e-9))
    said = watch.verdict(run)
    assert "16 pairs were not memorized" in said and "train.lr 1e-09 is too low" in said


def test_more_pairs_than_there_are_captions_cannot_be_memorized(tiny):
    with pytest.raises(MinclipError, match=r"train\.overfit 129.*128"):
        train(change(tiny, overfit=129))


def sabotaged(config, monkeypatch, capsys, spoil):
    """What a run says whose model is spoiled."""
    monkeypatch.setattr("minclip.loop.CLIP", lambda c: spoil(CLIP(c)))
    train(change(config, steps=40, log_every=1, eval_every=0, checkpoint_every=1000))
    return capsys.readouterr().out


def freeze_vision(model):
    model.vision.requires_grad_(False)
    model.image_projection.weight.data.zero_().add_(1e-3)
    return model


def long_features(model):
    model.encode_image = lambda images, normalize=False: 50 * model.image_projection(model.vision(images)).float()
    return model


def one_image(model):
    vision = model.vision.forward
    model.vision.forward = lambda images: vision(torch.zeros_like(images))
    return model


@pytest.mark.parametrize(
    ("spoil", "hint"),
    [
        (freeze_vision, "no gradient reaches vision"),
        (long_features, "the image features have length"),
        (one_image, "image features"),
    ],
)
def test_a_run_that_does_not_learn_says_what_is_likely_wrong(tiny, monkeypatch, capsys, spoil, hint):
    assert hint in sabotaged(tiny, monkeypatch, capsys, spoil)


def test_a_learning_rate_that_is_too_low_is_named(tiny, capsys):
    train(change(tiny, steps=40, lr=1e-9, eval_every=0, checkpoint_every=1000))
    assert "train.lr 1e-09 is too low" in capsys.readouterr().out


def test_a_run_that_learns_is_not_disturbed(tiny, capsys):
    train(change(tiny, steps=150, lr=2e-3, eval_every=0, checkpoint_every=1000))
    assert "Likely causes" not in capsys.readouterr().out


# ---- shards


def test_a_run_on_shards_learns_from_them_and_resumes_exactly(tiny, tmp_path):
    from shard_files import BROKEN, folder

    folder(tmp_path, change=BROKEN)
    data = DataConfig("shards", root=str(tmp_path), image_size=16, workers=0)
    config = change(replace(tiny, data=data), batch_size=8, steps=12, checkpoint_every=6)
    whole = train(config, "runs/whole")
    assert whole.final["val"]["text_to_image_r@10"] >= 0
    assert [line["bad_samples"] for line in whole.metrics if "loss" in line][-1] >= len(BROKEN) - 1
    stopped_after(config, 6, "runs/cut")
    assert torch.equal(weights(train(config, "runs/cut", resume=True)), weights(whole))


def test_one_shard_is_not_enough(tiny, tmp_path):
    from shard_files import folder

    with pytest.raises(MinclipError, match=r"00000\.tar is one shard"):
        train(replace(tiny, data=DataConfig("shards", root=folder(tmp_path)[0], image_size=16)))
