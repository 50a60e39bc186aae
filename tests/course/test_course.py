"""What the notebooks show and ask: checks, widgets, plots."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from course_answers import exercises

from minclip.course import checks, plots, widgets
from minclip.losses import clip_loss
from minclip.model import CLIP
from minclip.tokenizer import END, Tokenizer, byte_characters


def symmetric_loss(image, text, scale):
    logits = scale * image @ text.T
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def one_way(image, text, scale):
    return F.cross_entropy(scale * image @ text.T, torch.arange(len(image)))


SOLUTIONS = [
    (checks.symmetric_loss, symmetric_loss),
    (checks.recall_at_1, lambda s: (s.argmax(dim=1) == torch.arange(len(s))).float().mean()),
]
WRONG = [
    (checks.symmetric_loss, one_way, "the other direction"),
    (checks.symmetric_loss, lambda i, t, s: one_way(t, i, s), "the other direction"),
    (checks.symmetric_loss, lambda i, t, s: symmetric_loss(i, t, 1), "scale is missing"),
    (checks.symmetric_loss, lambda i, t, s: 2 * symmetric_loss(i, t, s), "take their mean"),
    (checks.symmetric_loss, lambda i, t, s: symmetric_loss(i, t, 1 / s), "divided by the scale"),
    (checks.symmetric_loss, lambda i, t, s: i @ t.T, "one number"),
    (checks.symmetric_loss, lambda i, t, s: "a word", "one number"),
    (checks.symmetric_loss, lambda i, t, s: 42.0, "expected"),
    (checks.recall_at_1, lambda s: (s.argmax(dim=0) == torch.arange(3)).float().mean(), "each row"),
    (checks.recall_at_1, lambda s: (s.argmax(dim=1) == torch.arange(3)).sum(), "divide"),
    (checks.recall_at_1, lambda s: s.diagonal().mean(), "diagonal"),
]


TestExercises = exercises(SOLUTIONS, WRONG)


def test_the_solution_of_the_exercise_is_the_loss_of_the_package():
    image, text = (F.normalize(torch.randn(5, 4), dim=-1) for _ in range(2))
    assert torch.isclose(symmetric_loss(image, text, 7.0), clip_loss(image, text, 7.0))


@pytest.fixture
def model_and_tokenizer():
    from minclip.config import CLIPConfig, TextConfig, VisionConfig

    torch.manual_seed(0)
    tokenizer = Tokenizer.train(["a red star", "a blue ring"], 520)
    vision = VisionConfig(image_size=16, patch_size=8, width=32, layers=1, heads=1)
    text = TextConfig(context_length=16, vocab_size=tokenizer.vocab_size, width=32, layers=1, heads=1)
    return CLIP(CLIPConfig(16, vision, text)).eval(), tokenizer


def test_each_control_of_the_playground_redraws_the_picture(model_and_tokenizer):
    images = np.random.default_rng(0).integers(0, 255, (3, 3, 16, 16), dtype=np.uint8)
    box = widgets.label_playground(*model_and_tokenizer, images, labels="a red star, a blue ring")
    *controls, picture = box.children
    assert bytes(picture.value).startswith(b"\x89PNG")
    for control, value in zip(controls, (2, "a ring, a star, a red ring", "{}", 80)):
        before = bytes(picture.value)
        control.value = value
        assert bytes(picture.value) != before, control.description


@pytest.mark.parametrize("labels", ["", " , ,", "only one", "the same, The  same", "{x}, {}, {0"])
def test_the_playground_survives_odd_labels(model_and_tokenizer, labels):
    image = np.zeros((3, 16, 16), dtype=np.uint8)
    figure = widgets.label_probabilities(*model_and_tokenizer, image, labels=labels, template="no braces", scale=14.3)
    assert plots.png(figure).startswith(b"\x89PNG")


def test_scale_0_makes_all_labels_alike(model_and_tokenizer):
    image = np.zeros((3, 16, 16), dtype=np.uint8)
    figure = widgets.label_probabilities(*model_and_tokenizer, image, labels="a, b, c, d", template="{}", scale=0.0)
    bars = [patch.get_width() for patch in figure.axes[1].patches]
    assert bars == pytest.approx([0.25] * 4)


def test_a_grid_shows_every_image_with_its_caption():
    figure = plots.image_grid(np.zeros((3, 3, 8, 8), dtype=np.uint8), ["one", "two", "three"], columns=2)
    shown = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_xlabel() for axis in shown] == ["one", "two", "three"]
    assert all(axis.images for axis in shown)


def test_captions_are_wrapped_between_words():
    assert plots.wrap("a red star and a blue ring", 12) == "a red star\nand a blue\nring"


# ---- notebook 01: the tokenizer


def join_pair(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


def join_overlapping(symbols, pair):
    """Each place is looked at, also those that a join has used up; the right part of a join is left out."""
    out, used = [], False
    for a, b in zip(symbols, [*symbols[1:], ""]):
        if (a, b) == pair:
            out.append(a + b)
        elif not used:
            out.append(a)
        used = (a, b) == pair
    return out


def join_from_the_right(symbols, pair):
    return [s[::-1] for s in join_pair([s[::-1] for s in symbols[::-1]], (pair[1][::-1], pair[0][::-1]))][::-1]


def join_once(symbols, pair):
    i = next((i for i in range(len(symbols)) if tuple(symbols[i : i + 2]) == pair), None)
    return symbols if i is None else [*symbols[:i], "".join(pair), *symbols[i + 2 :]]


def join_in_place(symbols, pair):
    symbols[:] = join_pair(symbols, pair)
    return symbols


def to_row(ids, length, sot, eot):
    row = [sot, *ids[: length - 2], eot]
    return row + [0] * (length - len(row))


def decode_tokens(tokens, errors="replace"):
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    words = "".join(tokens).removesuffix(END).split(END)
    return " ".join(bytes(byte_of[character] for character in word).decode("utf-8", errors) for word in words)


def decode_each(tokens):
    parts = [decode_tokens([token]) + (" " if token.endswith(END) else "") for token in tokens]
    return "".join(parts).strip()


TOKENIZER_SOLUTIONS = [
    (checks.join_pair, join_pair),
    (checks.to_row, to_row),
    (checks.decode_tokens, decode_tokens),
]
TOKENIZER_WRONG = [
    (checks.join_pair, lambda s, p: " ".join(s).replace(" ".join(p), "".join(p)).split(), "compare whole symbols"),
    (checks.join_pair, join_overlapping, "used twice"),
    (checks.join_pair, join_from_the_right, "left to right"),
    (checks.join_pair, join_once, "only the first occurrence"),
    (checks.join_pair, join_in_place, "changed the list"),
    (checks.join_pair, lambda s, p: join_pair(s, p)[:-1], "last symbol is lost"),
    (checks.join_pair, lambda s, p: s, "expected"),
    (checks.to_row, lambda ids, n, sot, eot: ([sot, *ids, eot] + [0] * n)[:n], "EOT was cut off"),
    (checks.to_row, lambda ids, n, sot, eot: to_row(ids, max(n, len(ids) + 2), sot, eot), "too long"),
    (checks.to_row, lambda ids, n, sot, eot: [sot, *ids[: n - 2], eot], "too short"),
    (checks.to_row, lambda ids, n, sot, eot: ([sot, *ids[: n - 2]] + [eot] * n)[:n], "after a single EOT"),
    (checks.to_row, lambda ids, n, sot, eot: to_row(ids[2 - n :], n, sot, eot), "its beginning"),
    (checks.decode_tokens, decode_each, "split over two tokens"),
    (checks.decode_tokens, lambda tokens: "".join(tokens).replace(END, " ").strip(), "back into its byte"),
    (checks.decode_tokens, lambda tokens: decode_tokens(tokens) + " ", "too many"),
    (checks.decode_tokens, lambda tokens: decode_tokens(tokens).replace(" ", ""), "run together"),
]


TestTokenizerExercises = exercises(TOKENIZER_SOLUTIONS, TOKENIZER_WRONG)


def test_the_solutions_of_the_tokenizers_exercises_equal_the_package():
    tokenizer = Tokenizer.train(["a red café, a red star"] * 2, 530)
    ids = tokenizer.encode("a red bar: café")
    assert decode_tokens([tokenizer.vocab[i] for i in ids]) == tokenizer.decode(ids) == "a red bar : café"
    tokenizer.truncated = 1  # past the first warning
    for length in (4, 40):
        row = to_row(ids, length, tokenizer.sot_id, tokenizer.eot_id)
        assert row == tokenizer("a red bar: café", length)[0].tolist()


def test_each_control_of_the_token_playground_redraws_the_picture():
    text, merges, picture = widgets.token_playground(Tokenizer.train(["a red star"] * 2, 600), "a red star").children
    for control, value in ((merges, 2), (text, "a $1 café, a $2 🦓"), (text, ""), (merges, 0)):
        before = bytes(picture.value)
        control.value = value
        assert bytes(picture.value) != before and before.startswith(b"\x89PNG"), control.description


def test_the_tokens_are_shown_with_their_ids_in_rows_that_fit():
    tokenizer = Tokenizer([])
    figure = widgets.token_figure(tokenizer, "a long word and another " * 9, 0)
    shown = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert shown[:4] == ["a" + END, "320", "l", "75"]
    assert figure.get_figwidth() < 9 and figure.get_figheight() > 4


def test_the_merge_tree_ends_in_the_tokens():
    tokenizer = Tokenizer.train(["triangle triangle angle"], 600)
    figure = plots.merge_tree(tokenizer, ["triangle", "tangle"])
    assert figure.axes[0].get_title(loc="left") == "triangle: 1 token"
    assert figure.axes[1].get_title(loc="left") == f"tangle: {len(tokenizer.encode('tangle'))} tokens"
    assert len(figure.axes[0].lines) == len("triangle") - 1  # a join each


def test_the_byte_table_shows_all_256():
    assert [text.get_text() for text in plots.byte_table().axes[0].texts] == byte_characters()


# ---- notebook 03: the text Transformer


def square(length):
    return torch.ones(length, length, dtype=torch.bool)


TEXT_SOLUTIONS = [
    (checks.causal_mask, lambda length: square(length).tril()),
    (checks.find_end, lambda ids, eot: (ids == eot).int().argmax(dim=1)),
]
TEXT_WRONG = [
    (checks.causal_mask, lambda length: square(length).triu(), "swapped"),
    (checks.causal_mask, lambda length: square(length).tril(-1), "itself, too"),
    (checks.causal_mask, lambda length: square(length).triu(1), "forbidden"),
    (checks.causal_mask, lambda length: torch.eye(length, dtype=torch.bool), "only itself"),
    (checks.causal_mask, square, "every token"),
    (checks.causal_mask, lambda length: torch.ones(length, length).tril(), "booleans"),
    (checks.causal_mask, lambda length: square(2).tril(), "expected"),
    (checks.find_end, lambda ids, eot: ids.argmax(dim=1), "largest id"),
    (checks.find_end, lambda ids, eot: (ids != 0).sum(dim=1) - 1, "counted the ids"),
    (checks.find_end, lambda ids, eot: ids.shape[1] - 1 - (ids == eot).int().flip(1).argmax(dim=1), "the last EOT"),
    (checks.find_end, lambda ids, eot: (ids == eot).nonzero()[:, 1], "all of them"),
    (checks.find_end, lambda ids, eot: (ids == eot).int().argmax(), "a dimension"),
    (checks.find_end, lambda ids, eot: (ids == eot).int().argmax(dim=0), "search each row"),
    (checks.find_end, lambda ids, eot: ids == eot, "its position"),
    (checks.find_end, lambda ids, eot: (ids == eot).int().argmax(dim=1) + 1, "count from 0"),
]


TestTextTowerExercises = exercises(TEXT_SOLUTIONS, TEXT_WRONG)


def test_each_control_of_the_caption_playground_redraws_the_picture(model_and_tokenizer):
    caption, position, word, picture = widgets.caption_playground(
        *model_and_tokenizer, "a red star", others=["red"]
    ).children
    for control, value in ((position, 2), (word, "$x^$"), (caption, "a $1^ ring"), (position, 12), (caption, "")):
        before = bytes(picture.value)
        control.value = value
        assert bytes(picture.value) != before and before.startswith(b"\x89PNG"), control.description


def test_a_word_that_stays_leaves_the_vector_where_it_was(model_and_tokenizer):
    figure = widgets.edited_caption(
        *model_and_tokenizer, "a red star", position=2, word="red", others=["a blue ring", "$1 star"]
    )
    before, after = (points.get_offsets()[:, 0].tolist() for points in figure.axes[0].collections[1:])
    assert before == pytest.approx(after, abs=1e-5) and before[0] == pytest.approx(1)


def test_attention_is_drawn_with_numbers_where_they_fit():
    few, many = (plots.token_attention(np.eye(n)[None], ["t"] * n, ["head 1"]) for n in (3, 9))
    assert len(few.axes[0].texts) == 9 and not many.axes[0].texts
    assert few.axes[0].images[0].get_array().mask.sum() == 3  # the future


def test_counts_and_runs_are_all_drawn():
    assert [t.get_text().strip() for t in plots.token_counts({"a": 1234, "b": 5}).axes[0].texts] == ["1,234", "5"]
    figure = plots.accuracy_curves([1, 2], {"bag": [[0.5, 0.5]] * 2, "tower": [[0.5, 1.0]]})
    assert len(figure.axes[0].lines) == 3
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["bag", "tower"]


# ---- notebook 02: the Vision Transformer


def my_patchify(image, p):
    c, h, w = image.shape
    return image.reshape(c, h // p, p, w // p, p).permute(1, 3, 0, 2, 4).reshape(-1, c * p * p)


def patches_in_order(*order):
    """A patchify that permutes (c, h, p, w, q) to `order`, right or wrong."""
    return lambda image, p: image.reshape(3, 2, p, 3, p).permute(order).reshape(6, -1)


def my_attend(q, k, v, size=2.0, dim=1):
    return (q @ k.T / size).softmax(dim=dim) @ v


def my_rollout(maps, own=0.5, reverse=False):
    out, eye = torch.eye(maps.shape[-1]), torch.eye(maps.shape[-1])
    for layer in maps.mean(dim=1):
        step = (1 - own) * layer + own * eye
        out = out @ step if reverse else step @ out
    return out


VISION_SOLUTIONS = [
    (checks.patchify, my_patchify),
    (checks.attention, my_attend),
    (checks.attention_rollout, my_rollout),
]
VISION_WRONG = [
    (checks.patchify, lambda image, p: image.reshape(6, 12), "cuts the memory"),
    (checks.patchify, patches_in_order(3, 1, 0, 2, 4), "row by row"),
    (checks.patchify, patches_in_order(1, 3, 2, 4, 0), "colors come first"),
    (checks.patchify, patches_in_order(1, 3, 0, 4, 2), "within a patch the pixels"),
    (checks.patchify, lambda image, p: my_patchify(image, p).view(6, 3, p, p), "should be flat"),
    (checks.patchify, lambda image, p: my_patchify(image, 1), "should have shape"),
    (checks.patchify, lambda image, p: [image], "should be a tensor"),
    (checks.attention, lambda q, k, v: my_attend(q, k, v, size=1), "√d before"),
    (checks.attention, lambda q, k, v: my_attend(q, k, v, size=4), "not by d"),
    (checks.attention, lambda q, k, v: my_attend(q, k, v, dim=0), "wrong dimension"),
    (checks.attention, lambda q, k, v: q @ k.T / 2 @ v, "softmax is missing"),
    (checks.attention, lambda q, k, v: (q @ k.T).softmax(dim=1) / 2 @ v, "not its result"),
    (checks.attention, lambda q, k, v: (q @ k.T / 2).softmax(dim=1), "these are the weights"),
    (checks.attention, lambda q, k, v: my_attend(q, v, k), "the numbers are not"),
    (checks.attention_rollout, lambda maps: my_rollout(maps, own=0), "residual connection"),
    (checks.attention_rollout, lambda maps: 8 * my_rollout(maps), "half of both"),
    (checks.attention_rollout, lambda maps: my_rollout(maps, reverse=True), "order is wrong"),
    (checks.attention_rollout, lambda maps: (maps.mean(dim=1) / 2 + torch.eye(4) / 2).prod(dim=0), "elementwise"),
    (checks.attention_rollout, lambda maps: (maps.mean(dim=(0, 1)) + torch.eye(4)) / 2, "mean of the layers"),
    (checks.attention_rollout, lambda maps: my_rollout(maps[-1:]), "last layer alone"),
]


TestImageTowerExercises = exercises(VISION_SOLUTIONS, VISION_WRONG)


def test_the_solutions_of_the_image_towers_exercises_equal_the_package():
    from minclip.transformer import rollout
    from minclip.vision import PatchStem, VisionConfig

    torch.manual_seed(0)
    stem, image = PatchStem(VisionConfig(image_size=16, patch_size=4, width=8, heads=1)), torch.randn(3, 16, 16)
    torch.testing.assert_close(stem.projection(my_patchify(image, 4)), stem(image[None])[0])
    q, k, v = torch.randn(3, 5, 4)
    torch.testing.assert_close(my_attend(q, k, v), F.scaled_dot_product_attention(q, k, v))
    maps = torch.rand(3, 2, 4, 4).softmax(dim=-1)
    torch.testing.assert_close(my_rollout(maps), rollout(maps[:, None])[0])


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_each_control_of_the_attention_viewer_redraws_the_picture(pool):
    from minclip.vision import VisionConfig, VisionTransformer

    torch.manual_seed(0)
    tower = VisionTransformer(VisionConfig(image_size=16, patch_size=4, width=32, layers=2, heads=2, pool=pool))
    images = np.random.default_rng(0).integers(0, 255, (3, 3, 16, 16), dtype=np.uint8)
    image, layer, head, picture = widgets.attention_viewer(tower, images).children
    for control, value in ((image, 2), (head, 2), (layer, 1), (head, 0), (layer, 0)):
        before = bytes(picture.value)
        control.value = value
        assert bytes(picture.value) != before and before.startswith(b"\x89PNG"), control.description


@pytest.mark.parametrize(("layer", "head"), [(1, 0), (2, 1), (0, 0)])
def test_the_attention_figure_shows_what_the_class_token_looks_at(layer, head):
    from minclip.batches import normalize
    from minclip.transformer import rollout
    from minclip.vision import VisionConfig, VisionTransformer

    torch.manual_seed(0)
    tower = VisionTransformer(VisionConfig(image_size=16, patch_size=4, width=32, layers=2, heads=2)).eval()
    images = np.random.default_rng(0).integers(0, 255, (2, 3, 16, 16), dtype=np.uint8)
    with torch.no_grad():
        maps = tower.attention_maps(normalize(torch.from_numpy(images[1:]), tower.config))
    expected = {(1, 0): maps[0, 0].mean(dim=0), (2, 1): maps[1, 0, 0], (0, 0): rollout(maps)[0]}[layer, head]
    shown = widgets.attention_figure(tower, images, image=1, layer=layer, head=head).axes[1].images[0].get_array()
    np.testing.assert_allclose(np.asarray(shown).ravel(), 100 * expected[0, 1:].numpy(), rtol=1e-4)


def test_the_patch_grid_numbers_its_patches_and_holds_all_pixels():
    image = np.random.default_rng(0).integers(0, 200, (3, 8, 8), dtype=np.uint8)
    right = plots.patch_grid(image, 4).axes[1]
    assert [text.get_text() for text in right.texts] == ["0", "1", "2", "3"]
    cut = np.asarray(right.images[0].get_array())
    assert (cut < 255).all(axis=2).sum() == 64 and np.array_equal(cut[5:, 5:], image.transpose(1, 2, 0)[4:, 4:])


def test_maps_and_lines_are_all_drawn():
    figure = plots.heat_maps([np.eye(3), np.eye(2), np.eye(4)], ["a", "b", "c"], marks=[(0, 1)] * 3, columns=2)
    drawn = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title(loc="left") for axis in drawn] == ["a", "b", "c"]
    assert drawn[0].lines[0].get_xydata().tolist() == [[1, 0]]  # column 1 of row 0
    assert len(plots.looked_at(np.zeros((2, 3, 8, 8), dtype=np.uint8), np.eye(2)[[0, 1], None], ["a", "b"]).axes) == 4
    axis = plots.lines([1, 2, 4], {"a": [1, 2, 3], "b": [3, 2, 1]}, log=True, xlabel="size").axes[0]
    assert len(axis.lines) == 2 and axis.get_xscale() == "log" and axis.get_xlabel() == "size"
