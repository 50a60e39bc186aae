"""How large a model would be: counted without building it."""

import resource
import time

import pytest
import torch

from minclip.config import CLIPConfig, MinclipError, TextConfig, VisionConfig
from minclip.model import CLIP
from minclip.presets import PRESETS
from minclip.weights import towers


def check_size(config, copies=1):
    with torch.device("meta"):
        towers.check_memory(CLIP(config), copies=copies)


LARGE = [
    CLIPConfig(vision=VisionConfig(width=65536, heads=1024)),
    CLIPConfig(vision=VisionConfig("resnet", width=65536, heads=64)),
    CLIPConfig(vision=VisionConfig("small_resnet", width=65536)),
    CLIPConfig(vision=VisionConfig(image_size=8192, patch_size=1)),
    CLIPConfig(text=TextConfig(vocab_size=10**7, width=65536)),
    CLIPConfig(text=TextConfig("bag", vocab_size=10**7, width=65536)),
]


@pytest.mark.parametrize("config", LARGE)
def test_a_model_that_no_machine_holds_is_refused_before_it_is_built(config):
    start, memory = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MinclipError, match=r"[\d,]{11,} parameters, [\d,.]+ GB"):
        check_size(config, copies=10_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 5e5  # kB
    assert time.perf_counter() - start < 30


def test_the_parameters_are_those_of_openais_model(monkeypatch):
    monkeypatch.setattr(towers, "memory_gb", lambda: 0.606)
    check_size(CLIPConfig())
    with pytest.raises(MinclipError, match=r"151,277,313 parameters, 2\.4 GB .* 0\.6 GB"):
        check_size(CLIPConfig(), copies=4)


def test_what_fits_is_taken_and_pretrained_towers_are_counted(monkeypatch):
    for config in PRESETS.values():
        check_size(config.model)
    assert towers.memory_gb() > 1
    small = CLIPConfig(
        vision=VisionConfig("timm:test_vit", image_size=32), text=TextConfig("bag", vocab_size=9, width=8)
    )
    monkeypatch.setattr(towers, "memory_gb", lambda: 1e-3)
    with pytest.raises(MinclipError, match=r" [\d,]{7} parameters"):
        check_size(small)
