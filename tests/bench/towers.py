"""minclip's towers against open_clip's, same weights, same inputs.

    python tests/bench/towers.py [--rounds 7] [--json PATH]

Times ViT-B/32 in fp32 and bf16 (with weights in bf16, as in open_clip's `precision="bf16"`, and under autocast), and a
zero-shot classifier for 1,000 class names × 7 prompts, on CUDA if available. `--classes 100` shortens the classifier
to a tenth. Results are checked for equality before anything is timed. `--rounds 1 --classes 2 --batch-size 2` only
checks that the script works.
"""

import argparse
import copy
import logging
import tempfile
from pathlib import Path

import open_clip
import torch
from common import interleaved, report, write

from minclip import CLIP, Tokenizer, load, zero_shot_classifier

TEMPLATES = (
    "a photo of a {}.",
    "a blurry photo of the {}.",
    "a drawing of a {}.",
    "a black and white photo of the {}.",
    "a bad photo of the {}.",
    "a {} in a video game.",
    "art of the {}.",
)


def both_models(device: str) -> tuple[torch.nn.Module, CLIP]:
    """open_clip's ViT-B/32 with random weights, and minclip's with the same weights."""
    logging.disable()  # open_clip warns that there are no pretrained weights, which is intended
    torch.manual_seed(0)
    theirs = open_clip.create_model("ViT-B-32-quickgelu").eval()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder) / "weights.pt")
        ours = load(Path(folder) / "weights.pt", activation="quick_gelu")[0]
    return theirs.to(device), ours.to(device)


def in_bf16(model: torch.nn.Module) -> torch.nn.Module:
    """open_clip's `precision="bf16"`: its own conversion of the weights."""
    model = copy.deepcopy(model)
    open_clip.convert_weights_to_lp(model, dtype=torch.bfloat16)
    return model


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(a.float(), b.float(), dim=-1)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--text-rounds", type=int, default=1, help="rounds of the classifier, minutes each on a CPU")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    theirs, ours = both_models(device)
    theirs16, ours16 = in_bf16(theirs), copy.deepcopy(ours).bfloat16()
    images = torch.randn(args.batch_size, 3, 224, 224, device=device)
    torch.testing.assert_close(ours.encode_image(images), theirs.encode_image(images), rtol=1e-4, atol=1e-4)

    def autocast(function, *inputs):
        with torch.autocast(device, torch.bfloat16):
            return function(*inputs)

    results = {}
    runs = {"minclip": lambda: ours.encode_image(images), "open_clip": lambda: theirs.encode_image(images)}
    results["images, fp32"] = report("ViT-B/32, images, fp32", interleaved(runs, args.rounds), len(images), "images")
    half = images.bfloat16()
    exact = ours.encode_image(images)  # bf16 has 8 bits: the directions must still agree with fp32
    for features in (ours16.encode_image(half), theirs16.encode_image(half), autocast(ours.encode_image, images)):
        assert cosines(features, exact).min() > 0.99
    runs = {
        "minclip": lambda: ours16.encode_image(half),
        "minclip, autocast": lambda: autocast(ours.encode_image, images),
        "open_clip": lambda: theirs16.encode_image(half),
        "open_clip, autocast": lambda: autocast(theirs.encode_image, images),
    }
    results["images, bf16"] = report("ViT-B/32, images, bf16", interleaved(runs, args.rounds), len(images), "images")

    # two names occur twice in open_clip's list; minclip requires unique names
    names = [*open_clip.IMAGENET_CLASSNAMES, *(f"small {name}" for name in open_clip.IMAGENET_CLASSNAMES)]
    names = list(dict.fromkeys(names))[: args.classes]
    tokenizer, peers = Tokenizer.from_openai(), open_clip.get_tokenizer("ViT-B-32")
    fillers = [lambda name, t=t: t.replace("{}", name) for t in TEMPLATES]

    def classifier(model, names=names):
        return zero_shot_classifier(model, tokenizer, names, templates=TEMPLATES)

    def peers_classifier(model, names=names):
        return open_clip.build_zero_shot_classifier(
            model, peers, names, fillers, num_classes_per_batch=10, device=device
        )

    few = names[:20]
    torch.testing.assert_close(classifier(ours, few), peers_classifier(theirs, few), rtol=1e-4, atol=1e-5)
    exact = classifier(ours, few)
    for columns in (classifier(ours16, few), peers_classifier(theirs16, few)):
        assert cosines(columns.T, exact.T).min() > 0.99
    for precision, pair in (("fp32", (ours, theirs)), ("bf16", (ours16, theirs16))):
        runs = {"minclip": lambda: classifier(pair[0]), "open_clip": lambda: peers_classifier(pair[1])}  # noqa: B023
        seconds = interleaved(runs, args.text_rounds, warm_up=False)
        title = f"{len(names):,} class names × {len(TEMPLATES)} prompts, {precision}"
        results[title] = report(title, seconds, len(names) * len(TEMPLATES), "prompts")
    write(args.json, results)


if __name__ == "__main__":
    main()
