"""Notebook 11, "You against CLIP": what a sentence and what one, two, four examples are worth to a small CLIP.

The model learns from 4,000 captioned pictures of glyphs whose breeds occur in no question.  A question set has twelve
unseen breeds, with eight pictures of each to classify and eight to take examples from; there are 20 test sets, and 10
validation sets, on which the mixing weight is chosen.  A seed changes initialization, captions and order of the
batches, not the pictures.  Seed 0 also writes glyphs-opponent.json: the model's vectors of the game.
"""

import base64
import json
from datetime import date
from functools import lru_cache, reduce
from operator import getitem

import common
import numpy as np
import torch

from minclip.course import glyphs
from minclip.course.widgets import game
from minclip.evaluate.probe import fit, predict

notebook = common.from_notebook("11_labels_and_sentences")
TOLERANCE = 0.01  # another CPU rounds differently
STEPS, PICTURES, SETS, VALIDATION = 600, 4000, 20, 10
SHOTS, WEIGHTS, NAMED = (1, 2, 4, 8), tuple(i / 10 for i in range(11)), range(1, 8)


@lru_cache
def training_set(count: int = PICTURES) -> tuple[np.ndarray, np.ndarray]:
    pool = glyphs.breeds(0, 1300, unseen=False)
    own = glyphs.own_traits(pool[np.random.default_rng(0).integers(len(pool), size=count)], seed=100)
    return glyphs.pictures(own, seed=100), own


def unseen(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Twelve unseen breeds (12, 7), and the traits of sixteen animals of each (12, 16, 7)."""
    breeds = glyphs.breeds(number, 12, unseen=True)
    return breeds, glyphs.own_traits(np.repeat(breeds, 16, axis=0), seed=1000 + number).reshape(12, 16, 7)


@lru_cache
def pictures_of(number: int) -> torch.Tensor:
    return torch.from_numpy(glyphs.pictures(unseen(number)[1].reshape(-1, 7), seed=1000 + number))


def trained(seed: int, *, steps: int = STEPS, count: int = PICTURES) -> torch.nn.Module:
    torch.manual_seed(seed)
    return notebook.train_glyphs(notebook.GlyphCLIP(), *training_set(count), steps=steps, seed=seed)


def texts_of(model: torch.nn.Module, breeds: np.ndarray, *, number: int, traits: int) -> torch.Tensor:
    named = glyphs.named_traits(number, 12, traits=traits)
    return model.encode_text(notebook.glyph_bag([glyphs.sentence(*pair) for pair in zip(breeds, named)]))


def accuracy(answers: torch.Tensor, labels: torch.Tensor) -> float:
    return (answers == labels).float().mean().item()


@torch.no_grad()
def questions(model: torch.nn.Module, number: int) -> dict:
    """All measurements on one question set; accuracies are fractions of 1."""
    breeds, vectors = unseen(number)[0], model.encode_image(pictures_of(number)).view(12, 16, -1)
    examples, queries, labels = vectors[:, :8], vectors[:, 8:].flatten(0, 1), torch.arange(12).repeat_interleave(8)
    texts = {n: texts_of(model, breeds, number=number, traits=n) for n in NAMED}
    out = {"sentence": [accuracy((queries @ texts[n].T).argmax(dim=1), labels) for n in NAMED]}
    out["example"] = [accuracy((queries @ notebook.by_example(examples[:, :k])).argmax(dim=1), labels) for k in SHOTS]
    out["probe"] = []
    for k in SHOTS:
        w = fit(examples[:, :k].flatten(0, 1).double(), torch.arange(12).repeat_interleave(k), 1.0)
        out["probe"].append(accuracy(predict(queries.double(), w).argmax(dim=1), labels))
    mix = {k: [notebook.by_both(texts[3], examples[:, :k], w) for w in WEIGHTS] for k in SHOTS}
    out["mix"] = {str(k): [accuracy((queries @ c).argmax(dim=1), labels) for c in mix[k]] for k in SHOTS}
    one = {n: [notebook.by_both(texts[n], examples[:, :1], w) for w in WEIGHTS] for n in NAMED}
    out["one"] = {str(n): [accuracy((queries @ c).argmax(dim=1), labels) for c in one[n]] for n in NAMED}
    scores = queries @ texts[3].T
    before, first = scores.argmax(dim=1) == labels, (queries @ notebook.by_example(examples[:, :1])).argmax(dim=1)
    # sure: the half of the pictures with the largest gap between the two best sentences
    gap = scores.topk(2).values.diff(dim=1).neg()[:, 0]
    out["rows"] = {"before": before, "sure": gap >= gap.median(), "example": first == labels}
    out["rows"]["both"] = torch.stack([(queries @ c).argmax(dim=1) == labels for c in mix[1]])  # (11, N)
    return out


def measured(model: torch.nn.Module) -> dict:
    """Means over the question sets; the mixing weight is chosen on the validation sets, for each number of examples."""
    test = [questions(model, number) for number in range(SETS)]
    val = [questions(model, 500 + number) for number in range(VALIDATION)]

    def mean(sets: list[dict], *place: str) -> np.ndarray:
        return np.mean([reduce(getitem, place, of_set) for of_set in sets], axis=0)

    best = {k: int(mean(val, "mix", str(k)).argmax()) for k in SHOTS}
    out = {"sentence": {str(n): mean(test, "sentence")[i] for i, n in enumerate(NAMED)}}
    for name in ("example", "probe"):
        out[name] = {str(k): mean(test, name)[i] for i, k in enumerate(SHOTS)}
    out["both"] = {str(k): mean(test, "mix", str(k))[best[k]] for k in SHOTS}
    of_one = {n: int(mean(val, "one", str(n)).argmax()) for n in NAMED}
    out["sentence and one example"] = {str(n): mean(test, "one", str(n))[of_one[n]] for n in NAMED}
    out["weight chosen for one"] = {str(n): WEIGHTS[of_one[n]] for n in NAMED}
    out["weight chosen"] = {str(k): WEIGHTS[best[k]] for k in SHOTS}
    out["by weight"] = {str(k): mean(test, "mix", str(k)).tolist() for k in SHOTS}
    rows = {name: torch.cat([s["rows"][name] for s in test]).numpy() for name in ("before", "sure", "example")}
    rows["both"] = torch.cat([s["rows"]["both"][best[1]] for s in test]).numpy()
    for name in ("example", "both"):
        after = rows[name]
        out[f"first {name}"] = {
            "kept": after[rows["before"]].mean(),
            "won": after[~rows["before"]].mean(),
            "sure before": rows["before"][rows["sure"]].mean(),
            "sure after": after[rows["sure"]].mean(),
            "unsure before": rows["before"][~rows["sure"]].mean(),
            "unsure after": after[~rows["sure"]].mean(),
        }
    return out


def opponent(seed: int) -> dict:
    """The trained model on unseen breeds, and, as a control, the same tower as it was initialized."""
    model = trained(seed)
    if seed == 0:
        write_vectors(model)
    torch.manual_seed(seed)
    raw = notebook.GlyphCLIP().train()  # BatchNorm has no running statistics yet: it takes those of the batch
    untrained = {str(k): [] for k in SHOTS}
    for number in range(SETS):
        with torch.no_grad():
            vectors = raw.encode_image(pictures_of(number)).view(12, 16, -1)
        queries, labels = vectors[:, 8:].flatten(0, 1), torch.arange(12).repeat_interleave(8)
        for k in SHOTS:
            answers = (queries @ notebook.by_example(vectors[:, :k])).argmax(dim=1)
            untrained[str(k)].append(accuracy(answers, labels))
    return measured(model) | {"untrained": {k: float(np.mean(v)) for k, v in untrained.items()}}


def readers(seed: int) -> dict:
    """Simulated readers, not people, of the same questions: one makes no mistakes, one misreads one trait in ten.

    "no mistakes, guesses" is the expected accuracy of the first if it guesses where several breeds tie.
    """
    out = {"no mistakes, guesses": {"sentence": {}}}
    for n in NAMED:
        hits = []
        for number in range(SETS):
            breeds, own = unseen(number)
            named, seen = glyphs.named_traits(number, 12, traits=n), own[:, 8:].reshape(96, 7)
            wrong = game.contradictions(seen, breeds=breeds, named=named, examples=own[:, :2], slip=0, seed=0)[0]
            best = wrong == wrong.min(axis=1, keepdims=True)
            hits.append((best[range(96), np.repeat(range(12), 8)] / best.sum(axis=1)).mean())
        out["no mistakes, guesses"]["sentence"][str(n)] = float(np.mean(hits))
    for name, slip in (("no mistakes", 0.0), ("one mistake in ten", 0.1)):
        counts = {n: [] for n in NAMED}
        rounds, known, kept, won = [], [], [], []
        for number in range(SETS):
            breeds, own = unseen(number)
            labels, seen = np.repeat(np.arange(12), 8), own[:, 8:].reshape(96, 7)
            for n in NAMED:
                named = glyphs.named_traits(number, 12, traits=n)
                facts = {"breeds": breeds, "named": named, "examples": own[:, :2]}
                answers = game.simulated_reader(seen, **facts, slip=slip, seed=1000 * seed + number)
                counts[n].append((answers[0] == labels).mean())
                if n == 3:
                    right = answers == labels  # (3 rounds, 96)
                    rounds.append(right.mean(axis=1))
                    known.append((answers >= 0).mean(axis=1))
                    sure = answers[0] >= 0
                    kept.append([right[0][sure].sum(), right[1][sure].sum(), sure.sum()])
                    won.append([right[1][~sure].sum(), (~sure).sum()])
        (before, after, sure), (gained, unsure) = np.sum(kept, axis=0), np.sum(won, axis=0)
        out[name] = {
            "sentence": {str(n): float(np.mean(v)) for n, v in counts.items()},
            "round": {str(i): float(np.mean(rounds, axis=0)[i]) for i in range(3)},
            "answered": {str(i): float(np.mean(known, axis=0)[i]) for i in range(3)},
            "answered pictures": {"before": before / sure, "after": after / sure},
            "unanswered pictures": {"before": 0.0, "after": gained / unsure},
        }
    return out


@torch.no_grad()
def write_vectors(model: torch.nn.Module) -> None:
    """The game's texts, examples, questions and 20 more pictures a breed, as unit vectors in steps of 1/127."""
    played = game.new_game()
    own = glyphs.own_traits(np.repeat(played.breeds, 20, axis=0), seed=game.SEED + 2)
    more = glyphs.pictures(own, seed=game.SEED + 2)
    short, full = (
        notebook.glyph_bag([glyphs.sentence(*pair) for pair in zip(played.breeds, named)])
        for named in (played.named, np.ones_like(played.named))
    )
    found = {
        "texts": model.encode_text(short),
        "full_texts": model.encode_text(full),
        "questions": model.encode_image(torch.from_numpy(played.questions)),
    }
    found["examples"] = model.encode_image(torch.from_numpy(played.examples.reshape(-1, 3, 64, 64))).view(12, 2, -1)
    found["images"] = model.encode_image(torch.from_numpy(more)).view(12, 20, -1)
    stored = {"command": "python tools/experiments/glyphs.py --part opponent", "date": date.today().isoformat()}
    for name, value in found.items():
        data = base64.b64encode((127 * value).round().to(torch.int8).numpy().tobytes()).decode()
        stored[name] = {"shape": [*value.shape], "int8": data}
    text = json.dumps(stored, indent=1) + "\n"
    (common.STORE / "glyphs-opponent.json").write_text(text, encoding="utf-8")


def first_steps(seed: int) -> dict:
    """The loss of 64 pictures with full sentences after 15 steps on 256: a quick check of the training code."""
    model, (images, own) = trained(seed, steps=15, count=256), training_set(256)
    texts = model.encode_text(notebook.glyph_bag([glyphs.sentence(traits, [True] * 7) for traits in own[:64]]))
    logits = model.log_scale.exp() * model.encode_image(torch.from_numpy(images[:64])) @ texts.T
    return {"loss": torch.nn.functional.cross_entropy(logits, torch.arange(64)).item()}


PARTS = {"opponent": opponent, "readers": readers, "first_steps": first_steps}


def spot_check() -> dict:
    """The readers, which need no training, and the first steps of the training."""
    found = readers(0)["one mistake in ten"]["round"]
    rounds = {("readers", "one mistake in ten", "round", i, None): found[i] for i in ("0", "1", "2")}
    return rounds | {("first_steps", "loss", None): first_steps(0)["loss"]}


if __name__ == "__main__":
    common.main(__file__, PARTS, seeds=range(5))
