"""Small runs for the tests of the loop: configs, and what a process of a group does with them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from minclip.config import CLIPConfig, DataConfig, LoopConfig, TextConfig, TrainConfig, VisionConfig
from minclip.loop import train
from minclip.training import distributed
from minclip.training.checkpoint import Checkpoints


def tiny(loop: dict[str, Any] | None = None, **model: Any) -> TrainConfig:
    """A run of seconds on 128 scenes of 16 pixels; `loop` and `model` override fields."""
    vision = VisionConfig(image_size=16, patch_size=8, width=32, layers=2, heads=2, mean=(0.5,) * 3, std=(0.25,) * 3)
    text = TextConfig(context_length=40, vocab_size=600, eot_id=599, width=32, layers=2, heads=2)
    fields = {
        "batch_size": 32,
        "steps": 20,
        "log_every": 1,
        "checkpoint_every": 10,
        "lr": 3e-5,
        "device": "cpu",
        "precision": "fp32",
    }
    return TrainConfig(
        DataConfig("shapes", image_size=16, size=128),
        CLIPConfig(32, vision, text, **model),
        LoopConfig(**{**fields, **(loop or {})}),
    )


def trained(folder: Path, config: TrainConfig, resume: bool = False) -> dict[str, torch.Tensor]:
    """The weights after training in `folder`, as this process has them."""
    return {name: value.clone() for name, value in train(config, folder, resume=resume).model.state_dict().items()}


def all_trained(folder: Path, configs: dict[str, TrainConfig]) -> dict[str, dict[str, torch.Tensor]]:
    """`trained` for each config, in a folder of its name."""
    return {name: trained(folder / name, config) for name, config in configs.items()}


def failure(folder: Path, configs: list[TrainConfig]) -> str:
    """What training says when process i has config i."""
    try:
        train(configs[distributed.rank()], folder)
    except ValueError as error:
        return str(error)
    return "no error"


def same(ours, wanted, tolerance=1e-5):
    """Asserts that two state dicts hold the same weights."""
    assert ours.keys() == wanted.keys()
    for name, value in wanted.items():
        mine = ours[name]
        if name.endswith("qkv.bias"):
            # a bias of the keys shifts all scores of a row alike and does nothing: its gradient is rounding, which Adam's
            # step makes as large as any other
            mine, value = (x.unflatten(0, (3, -1))[[0, 2]] for x in (mine, value))
        torch.testing.assert_close(mine, value, rtol=tolerance, atol=tolerance)


def stopped_after(config, step, folder):
    """Trains until the checkpoint of `step`, and breaks."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="machine stops"):
        save = Checkpoints.save

        def save_and_break(checkpoints, progress):
            save(checkpoints, progress)
            if progress["step"] == step:
                raise RuntimeError("the machine stops")

        patch.setattr(Checkpoints, "save", save_and_break)
        train(config, folder)
