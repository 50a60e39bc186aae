"""Zero-shot beside open_clip and clip_benchmark, each pointed at a minclip model: same classifier, same figures.

A minclip model is what both ask for, as it is; of the tokenizer they want `tokenizer(texts)` with the model's context.
"""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_models import far_from_start
from torch.utils.data import DataLoader, TensorDataset

from minclip import CLIP, Tokenizer, zero_shot_classifier
from minclip.batches import normalize
from minclip.config import CLIPConfig, TextConfig, VisionConfig
from minclip.data import Pairs
from minclip.evaluate import embed_images
from minclip.evaluate.metrics import accuracy, mean_per_class

open_clip = pytest.importorskip("open_clip")

NAMES = ["red star", "blue circle", "a long green triangle", "orange", "small ring", "heart", "striped yellow cross"]
TEMPLATES = ["a photo of a {}.", "{}", "there is a {} on a plain background"]
TOKENIZER = Tokenizer.train([f"a photo of a {name} on a plain background" for name in NAMES] * 3, 560)


@pytest.fixture(scope="module", params=["transformer", "bag"])
def model(request):
    torch.manual_seed(0)
    vision = VisionConfig(image_size=32, patch_size=8, width=32, layers=2, heads=2)
    size = {"layers": 2, "heads": 2} if request.param == "transformer" else {}
    text = TextConfig(request.param, context_length=40, vocab_size=TOKENIZER.vocab_size, width=32, **size)
    return far_from_start(CLIP(CLIPConfig(24, vision, text)))


@pytest.fixture(scope="module")
def tokenizer():
    return partial(TOKENIZER, context_length=40)


@pytest.mark.parametrize("at_a_time", [None, 3])
def test_open_clip_builds_the_same_classifier(model, tokenizer, at_a_time):
    theirs = open_clip.build_zero_shot_classifier(model, tokenizer, NAMES, TEMPLATES, num_classes_per_batch=at_a_time)
    ours = zero_shot_classifier(model, TOKENIZER, NAMES, templates=TEMPLATES)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert (ours.T @ ours).fill_diagonal_(-1).max() < 0.99  # classes that differ


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")  # scikit-learn's: that is meant
def test_clip_benchmark_finds_the_same_figures(model, tokenizer, monkeypatch):
    peer = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")  # it needs scikit-learn
    # it takes the float of an array (1,), which numpy 2.4 refuses
    monkeypatch.setattr(peer, "float", lambda x: float(np.squeeze(x)), raising=False)
    generator = torch.Generator().manual_seed(1)
    small = torch.randint(0, 256, (90, 3, 4, 4), dtype=torch.uint8, generator=generator)
    pixels = F.interpolate(small, scale_factor=8)
    classifier = zero_shot_classifier(model, TOKENIZER, NAMES, templates=TEMPLATES)
    pairs = Pairs(pixels.numpy(), [["a caption"]] * 90, [str(i) for i in range(90)])
    scores = embed_images(model, pairs, batch_size=25) @ classifier
    # labels that the model gets right more often than by chance; one class never occurs
    noisy = scores / scores.std() + torch.randn(scores.shape, generator=generator)
    labels = noisy[:, :-1].argmax(dim=1)

    dataset = TensorDataset(normalize(pixels, model.config.vision), labels)
    dataset.classes = NAMES
    theirs = peer.evaluate(
        model, DataLoader(dataset, 40), tokenizer, NAMES, [t.replace("{}", "{c}") for t in TEMPLATES], "cpu", amp=False
    )
    ours = {
        "acc1": accuracy(scores, labels),
        "acc5": accuracy(scores, labels, k=5),
        "mean_per_class_recall": mean_per_class(scores, labels),
    }
    assert 1 / 7 < theirs["acc1"] < theirs["acc5"] < 1
    assert ours == pytest.approx(theirs)
