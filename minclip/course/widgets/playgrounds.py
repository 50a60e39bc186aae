"""The course's widgets: controls above an image that a callback redraws; `plots` draws the figure itself.

They work in JupyterLab, in Colab (ipywidgets 7.7) and under nbval, since they only change the bytes of an Image widget
and use no Output, interact or clear_output.
"""

from collections.abc import Callable, Sequence

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...batches import normalize
from ...config import need
from ...evaluate import embed_texts, zero_shot_classifier
from ...evaluate.search import Index
from ...losses import clip_loss
from ...model import CLIP
from ...tokenizer import Tokenizer
from ...transformer import rollout
from ...vision import VisionTransformer
from .. import plots


def redrawn(draw: Callable[..., Figure], **controls: ipywidgets.ValueWidget) -> ipywidgets.VBox:
    """`controls` above the figure `draw(**values)`, redrawn whenever one of them changes."""
    picture = ipywidgets.Image(format="png")

    def update(_: object = None) -> None:
        picture.value = plots.png(draw(**{name: control.value for name, control in controls.items()}))

    for control in controls.values():
        control.observe(update, names="value")
    update()
    return ipywidgets.VBox([*controls.values(), picture])


def separate_labels(labels: str) -> list[str]:
    """The comma-separated labels without duplicates, compared as the tokenizer does: without case and extra spaces."""
    names = {" ".join(label.lower().split()): label.strip() for label in reversed(labels.split(","))}
    return [name for name in reversed(names.values()) if name] or ["(type some labels)"]


def label_probabilities(
    model: CLIP, tokenizer: Tokenizer, image: np.ndarray, *, labels: str, template: str, scale: float
) -> Figure:
    """Probabilities of `labels` (comma-separated) for one (3, S, S) uint8 image; `scale` multiplies the cosines."""
    names = separate_labels(labels)
    classifier = zero_shot_classifier(model, tokenizer, names, templates=(template if "{}" in template else "{}",))
    pixels = normalize(torch.from_numpy(image)[None].to(model.device), model.config.vision)
    with torch.no_grad():
        cosines = model.encode_image(pixels, normalize=True) @ classifier
    values = (scale * cosines).softmax(dim=1)[0].tolist()
    return plots.probabilities(image, names, values, title=f"closest: {names[int(np.argmax(values))]}")


def label_playground(model: CLIP, tokenizer: Tokenizer, images: np.ndarray, *, labels: str) -> ipywidgets.VBox:
    """Type labels, choose an image, change the scale, and watch the probabilities."""
    wide = ipywidgets.Layout(width="95%")
    return redrawn(
        lambda image, labels, template, scale: label_probabilities(
            model, tokenizer, images[image], labels=labels, template=template, scale=scale
        ),
        image=ipywidgets.IntSlider(0, 0, len(images) - 1, description="image"),
        labels=ipywidgets.Text(labels, description="labels", layout=wide, continuous_update=False),
        template=ipywidgets.Text("a picture of {}", description="prompt", layout=wide, continuous_update=False),
        scale=ipywidgets.FloatSlider(
            value=round(model.logit_scale.exp().item(), 1), min=0, max=100, step=1, description="scale"
        ),
    )


def token_figure(tokenizer: Tokenizer, text: str, merges: int) -> Figure:
    """The tokens of `text` and their ids, for a tokenizer with the first `merges` merges only."""
    smaller = Tokenizer(tokenizer.merges[:merges], clean=tokenizer.clean)
    ids = smaller.encode(text)
    size = f"{merges} merges, a vocabulary of {smaller.vocab_size:,}"
    return plots.token_boxes([smaller.vocab[i] for i in ids], ids, f"{size}: {len(ids)} token{'s' * (len(ids) != 1)}")


def token_playground(tokenizer: Tokenizer, text: str) -> ipywidgets.VBox:
    """Type a text, choose the number of merges, and see the tokens."""
    wide = ipywidgets.Layout(width="95%")
    most = len(tokenizer.merges)
    return redrawn(
        lambda text, merges: token_figure(tokenizer, text, merges),
        text=ipywidgets.Text(text, description="text", layout=wide, continuous_update=False),
        merges=ipywidgets.IntSlider(most, 0, most, description="merges", layout=wide, continuous_update=False),
    )


def edited_caption(
    model: CLIP, tokenizer: Tokenizer, caption: str, *, position: int, word: str, others: Sequence[str]
) -> Figure:
    """How the caption's vector moves, relative to `others`, if `word` replaces the word at `position`, from 1."""
    words = caption.split() or [""]
    place = min(position, len(words)) - 1
    old, words[place] = words[place], word
    edited = " ".join(words)
    vectors = embed_texts(model, tokenizer, [caption, edited, *others])
    before, after = (vectors[:2] @ vectors[[0, *range(2, len(vectors))]].T).tolist()
    title = f"“{old}” → “{word}”: cosine {after[0]:.2f} with the original caption"
    return plots.moved_cosines([f"{caption} (original)", *others], before, after, names=(caption, edited), title=title)


def caption_playground(model: CLIP, tokenizer: Tokenizer, caption: str, *, others: Sequence[str]) -> ipywidgets.VBox:
    """Type a caption, replace one of its words, and watch the vector move."""
    wide = ipywidgets.Layout(width="95%")
    return redrawn(
        lambda caption, position, word: edited_caption(
            model, tokenizer, caption, position=position, word=word, others=others
        ),
        caption=ipywidgets.Text(caption, description="caption", layout=wide, continuous_update=False),
        position=ipywidgets.IntSlider(1, 1, 12, description="which word"),
        word=ipywidgets.Text("green", description="new word", continuous_update=False),
    )


@torch.no_grad()
def attention_figure(tower: VisionTransformer, images: np.ndarray, *, image: int, layer: int, head: int) -> Figure:
    """The class token's attention in images[image], (3, S, S) uint8; `layer` and `head` count from 1.

    Layer 0 is the rollout through all layers, head 0 the mean of the heads.  A tower without a class token shows the
    mean over all queries.
    """
    x = normalize(torch.from_numpy(images[image])[None], tower.config)
    maps = tower.attention_maps(x)  # (layers, 1, H, L, L)
    if layer == 0:
        name, rows = "rollout through all layers", rollout(maps)[0]
    else:
        name = f"layer {layer}, " + (f"head {head}" if head else "mean of its heads")
        rows = maps[layer - 1, 0, head - 1] if head else maps[layer - 1, 0].mean(dim=0)
    row = rows[0, 1:] if tower.config.pool == "cls" else rows.mean(dim=0)
    side = tower.config.image_size // tower.config.patch_size
    return plots.looked_at(images[image][None], row.view(1, side, side), [f"image {image}"], title=name)


def attention_viewer(tower: VisionTransformer, images: np.ndarray) -> ipywidgets.VBox:
    """Choose an image, a layer (or the rollout) and a head, and see which patches get the attention."""
    layers = [(f"layer {i}", i) for i in range(1, tower.config.layers + 1)]
    heads = [(f"head {i}", i) for i in range(1, tower.config.heads + 1)]
    return redrawn(
        lambda image, layer, head: attention_figure(tower, images, image=image, layer=layer, head=head),
        image=ipywidgets.IntSlider(0, 0, len(images) - 1, description="image"),
        layer=ipywidgets.Dropdown(options=[*layers, ("rollout", 0)], value=tower.config.layers, description="layer"),
        head=ipywidgets.Dropdown(options=[("mean", 0), *heads], value=0, description="head"),
    )


def loss_figure(image: Tensor, text: Tensor, *, batch: int, scale: float) -> Figure:
    """The loss of the first `batch` pairs of vectors (N, D) by scale; at `scale`, the right texts' probabilities."""
    image, text = image[:batch], text[:batch]
    scales = [100 ** (i / 20) for i in range(21)]
    losses = [clip_loss(image, text, s).item() for s in scales]
    right = (scale * image @ text.T).softmax(dim=1).diagonal()
    best = min(zip(losses, scales))[1]
    title = f"{batch} pairs, scale {scale:g}: the lowest loss would be near scale {best:.0f}"
    return plots.batch_and_scale(
        right, scale=scale, loss=clip_loss(image, text, scale).item(), scales=scales, losses=losses, title=title
    )


def loss_playground(image: Tensor, text: Tensor) -> ipywidgets.VBox:
    """Choose a batch size and a scale, and see the loss and the probabilities of the right texts."""
    need(len(image) >= 2, f"a loss needs at least 2 pairs, got {len(image)}")
    sizes = [2**i for i in range(1, len(image).bit_length())]
    return redrawn(
        lambda batch, scale: loss_figure(image, text, batch=batch, scale=scale),
        batch=ipywidgets.SelectionSlider(options=sizes, value=sizes[max(0, len(sizes) - 3)], description="batch size"),
        scale=ipywidgets.FloatSlider(value=14.3, min=1, max=100, step=0.1, description="scale"),
    )


def temperature_figure(matrix: Tensor, images: np.ndarray, *, scale: float, shift: float = 0.0) -> Figure:
    """Softmax, gradient and loss at one scale for cosines (n, n) + `shift`; images (n, 3, S, S) uint8 for the rows."""
    loss = clip_loss(matrix + shift, torch.eye(len(matrix)), scale).item()
    moved = f"all cosines {shift:+.2f}, " if shift else ""
    return plots.temperature(
        matrix + shift, scale, images, title=f"{moved}scale {scale:.1f}, temperature {1 / scale:.2g}: loss {loss:.2f}"
    )


def temperature_playground(matrix: Tensor, images: np.ndarray, *, scale: float) -> ipywidgets.VBox:
    """Multiply the scale, shift all cosines, and watch similarities, softmax, gradient and loss."""
    return redrawn(
        lambda scale, shift: temperature_figure(matrix, images, scale=scale, shift=shift),
        scale=ipywidgets.FloatLogSlider(value=scale, base=10, min=-1, max=3, step=0.05, description="scale"),
        shift=ipywidgets.FloatSlider(value=0, min=-0.5, max=0.25, step=0.05, description="shift"),
    )


def scrubber_figure(
    matrices: Sequence[Tensor], steps: Sequence[int], *, moment: int, losses: Sequence[float], batch: int
) -> Figure:
    """The cosines (n, n) of images and texts stored after step `steps[moment]`, beside the losses of the run."""
    matrix, n = matrices[moment], len(matrices[moment])
    right = (matrix.argmax(dim=1) == torch.arange(n)).sum().item()
    wrong = (matrix.sum() - matrix.trace()) / (n * n - n)
    cosines = f"diagonal {matrix.diagonal().mean():.2f}, elsewhere {wrong:.2f}"
    title = f"step {steps[moment]}: {cosines}; {right} of {n} find their text"
    return plots.matrix_and_loss(matrix, losses, step=steps[moment], batch_size=batch, title=title)


def training_scrubber(
    matrices: Sequence[Tensor], steps: Sequence[int], *, losses: Sequence[float], batch: int
) -> ipywidgets.VBox:
    """Move through a training run, and watch the matrix become diagonal while the loss falls."""
    wide = ipywidgets.Layout(width="95%")
    return redrawn(
        lambda moment: scrubber_figure(matrices, steps, moment=moment, losses=losses, batch=batch),
        moment=ipywidgets.IntSlider(0, 0, len(matrices) - 1, description="moment", layout=wide),
    )


def search_figure(index: Index, query: str, *, top: int) -> Figure:
    """The `top` photographs of the index nearest to a text."""
    if not query.strip():
        return plots.contact_sheet([], [], [], title="type a description of the picture")
    paths, cosines = zip(*index.search(query, top))
    title = f"“{query}”: nearest of {len(index.paths):,} images"
    return plots.contact_sheet([index.picture(path, side=240) for path in paths], paths, cosines, title=title)


def search_box(index: Index, query: str, *, top: int = 8) -> ipywidgets.VBox:
    """Type a description, and see the nearest photographs of the index."""
    wide = ipywidgets.Layout(width="95%")
    return redrawn(
        lambda query, top: search_figure(index, query, top=top),
        query=ipywidgets.Text(query, description="search for", layout=wide, continuous_update=False),
        top=ipywidgets.IntSlider(top, 1, 24, description="how many", continuous_update=False),
    )


@torch.no_grad()
def prompt_figure(
    model: CLIP, tokenizer: Tokenizer, image: np.ndarray, *, labels: str, templates: str, together: bool
) -> Figure:
    """Probabilities of `labels` (comma-separated) for one (3, S, S) uint8 image, at the model's own scale.

    `templates` are separated by bars, "a {} | a photo of a {}", and get one row each; `together` adds their ensemble.
    """
    names = separate_labels(labels)
    prompts = [part.strip() for part in templates.split("|") if part.strip()] or ["{}"]
    prompts = [part if "{}" in part else part + " {}" for part in prompts]
    pixels = normalize(torch.from_numpy(image)[None].to(model.device), model.config.vision)
    vector, scale = model.encode_image(pixels, normalize=True), model.logit_scale.exp()
    rows = {prompt: [prompt] for prompt in prompts} | ({"all together": prompts} if together else {})
    values = torch.cat(
        [
            (scale * vector @ zero_shot_classifier(model, tokenizer, names, templates=row)).softmax(dim=1)
            for row in rows.values()
        ]
    ).cpu()
    answers = [names[i] for i in values.argmax(dim=1).tolist()]
    different = len(set(answers))
    title = f"{different} different answers" if different > 1 else f"all say: {answers[0]}"
    return plots.prompt_table(image, names, list(rows), values=values, title=title)


def prompt_playground(
    model: CLIP, tokenizer: Tokenizer, images: np.ndarray, *, labels: str, templates: str
) -> ipywidgets.VBox:
    """Choose an image, type templates and labels, combine the templates, and watch the probabilities change."""
    wide = ipywidgets.Layout(width="95%")
    return redrawn(
        lambda image, labels, templates, together: prompt_figure(
            model, tokenizer, images[image], labels=labels, templates=templates, together=together
        ),
        image=ipywidgets.IntSlider(0, 0, len(images) - 1, description="image"),
        labels=ipywidgets.Text(labels, description="labels", layout=wide, continuous_update=False),
        templates=ipywidgets.Text(templates, description="prompts", layout=wide, continuous_update=False),
        together=ipywidgets.Checkbox(True, description="all together, too", indent=False),
    )
