"""Training: one loop that reads from top to bottom."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from .checkpoint import (
    Run,
    load_checkpoint,
    read_metrics,
    read_run_config,
    rewind_metrics,
    save_checkpoint,
    start_run,
    write_metrics,
    write_run_config,
)
from .config import MinclipError, TrainConfig, to_dict
from .data import evaluation_splits, load_pairs
from .data.batches import Batch, Captions, batches, tokenize
from .data.pairs import Pairs
from .evaluate import evaluate
from .losses import clip_loss
from .model import CLIP
from .tokenizer import Tokenizer


def train(config: TrainConfig, folder: str | Path | None = None, resume: bool = False) -> Run:
    """Trains a CLIP from nothing and returns its Run; `folder` (default `runs/<data set>`) keeps all of it.

    With `resume`, goes on from the last checkpoint in `folder`.  Ctrl-C ends the step, saves, and raises KeyboardInterrupt
    with a message that tells how to go on.
    """
    folder = Path(folder or Path("runs") / config.data.name)
    device, autocast = pick_device(config.train.device, config.train.precision)
    started = time.perf_counter()

    pairs = load_pairs(config.data.name, "train", config.data.image_size, config.data.root, config.data.size or None)
    validation = load_pairs(config.data.name, "val", config.data.image_size, config.data.root)
    for note in (*pairs.notes, *validation.notes):
        tqdm.write(f"note: {note}")
    if config.train.batch_size > len(pairs):
        raise MinclipError(
            f"a batch of {config.train.batch_size} is larger than the data set of {len(pairs)} images: lower train.batch_size"
        )

    if resume:
        config = resumed_config(folder, config)
        write_run_config(folder, config)
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
    else:
        tokenizer = Tokenizer.train(pairs.texts, config.model.text.vocab_size)
        text = replace(config.model.text, vocab_size=tokenizer.vocab_size, eot_id=tokenizer.eot_id)
        config = replace(config, model=replace(config.model, text=text))
        start_run(folder, config, tokenizer)
    captions = tokenize(pairs, tokenizer, config.model.text.context_length)

    torch.manual_seed(config.train.seed)
    model = CLIP(config.model).to(device).train()
    optimizer = torch.optim.AdamW(
        parameter_groups(model, config.train.weight_decay),
        lr=config.train.lr,
        betas=(config.train.beta1, config.train.beta2),
        fused=device.type != "mps",
    )
    step, seconds_before = load_checkpoint(folder, model, optimizer) if resume else (0, 0.0)
    if resume:
        rewind_metrics(folder, step)
    started -= seconds_before

    bar = tqdm(
        total=None if config.train.minutes else config.train.steps,
        initial=step,
        desc=folder.name,
        unit="step",
        mininterval=0.5,
    )
    with bar, deferred_interrupt() as interrupted:
        for batch in endless(pairs, captions, config, device, step):
            seconds = time.perf_counter() - started
            progress = seconds / (60 * config.train.minutes) if config.train.minutes else step / config.train.steps
            if progress >= 1 or interrupted():
                break

            lr = config.train.lr * schedule(progress, config.train.warmup)
            for group in optimizer.param_groups:
                group["lr"] = lr
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                image, text, scale = model(batch.images, batch.ids)
            loss = clip_loss(image, text, scale)  # fp32, outside of autocast
            optimizer.zero_grad()
            loss.backward()
            grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.train.grad_clip)
            optimizer.step()
            model.clamp_logit_scale()
            step += 1

            if step == 1 or step % config.train.log_every == 0:
                seconds = time.perf_counter() - started
                rate = (step * config.train.batch_size) / seconds
                line = {
                    "step": step,
                    "loss": loss.item(),
                    "scale": scale.item(),
                    "lr": lr,
                    "grad_norm": grad_norm.item(),
                    "images_per_s": rate,
                    "seconds": seconds,
                }
                if not math.isfinite(line["loss"] + line["grad_norm"]):
                    raise MinclipError(
                        f"step {step}: loss {line['loss']}, gradient norm {line['grad_norm']}: lower train.lr ({config.train.lr:g}); the last checkpoint in {folder} is whole"
                    )
                write_metrics(folder, line)
                left = f", {config.train.minutes * 60 - seconds:.0f} s left" if config.train.minutes else ""
                bar.set_postfix_str(
                    f"loss {line['loss']:.3f}, scale {line['scale']:.1f}, {rate:.0f} images/s{left}", refresh=False
                )
            bar.update()
            if config.train.eval_every and step % config.train.eval_every == 0:
                write_metrics(folder, {"step": step, "val": evaluate(model, tokenizer, validation, tasks=False)})
            if step % config.train.checkpoint_every == 0:
                save_checkpoint(folder, model, optimizer, step, time.perf_counter() - started)

    save_checkpoint(folder, model, optimizer, step, time.perf_counter() - started)
    if interrupted():
        raise KeyboardInterrupt(f"stopped after step {step}; everything is saved in {folder}")
    model.eval()
    if not config.train.eval_every or step % config.train.eval_every:  # else it was validated in the loop
        write_metrics(folder, {"step": step, "val": evaluate(model, tokenizer, validation, tasks=False)})
    write_metrics(
        folder,
        {"step": step, "final": final_figures(model, tokenizer, config), "seconds": time.perf_counter() - started},
    )
    return Run(folder, config, tokenizer, model, read_metrics(folder))


def final_figures(model: CLIP, tokenizer: Tokenizer, config: TrainConfig) -> dict[str, dict[str, float]]:
    """Split -> figures, in fp32: what a run ends with, and what `minclip eval` computes again."""
    data = config.data
    return {
        split: evaluate(model, tokenizer, load_pairs(data.name, split, data.image_size, data.root))
        for split in evaluation_splits(data)
    }


def pick_device(device: str, precision: str) -> tuple[torch.device, bool]:
    """The device, and whether the towers run in bf16 on it; "auto" takes bf16 where the hardware multiplies it faster."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MinclipError(f"train.device {device!r} can't be used here: {str(error).splitlines()[0]}") from None
    kind = torch.device(device)
    if precision != "auto":
        return kind, precision == "bf16"
    if kind.type == "cuda":
        return kind, torch.cuda.is_bf16_supported()
    # without the bf16 instructions a CPU emulates them, several times slower than fp32
    return kind, kind.type == "cpu" and bool(
        torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16")
    )


def parameter_groups(model: CLIP, weight_decay: float) -> list[dict]:
    """Weight decay for matrices only: norms, biases, embeddings and the temperature have no direction to shrink."""
    decayed, spared = [], []
    for name, parameter in model.named_parameters():
        is_embedding = name.endswith(("token_embedding.weight", "positional_embedding", "class_embedding"))
        (spared if parameter.ndim < 2 or is_embedding else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


def schedule(progress: float, warmup: float) -> float:
    """The learning rate's share of its peak: linear up over `warmup`, then half a cosine down to 0 (paper, section 2.5)."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)  # not 0: the first step should learn something
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def endless(pairs: Pairs, captions: Captions, config: TrainConfig, device: torch.device, step: int) -> Iterator[Batch]:
    """All batches from `step` on, epoch after epoch."""
    per_epoch = len(pairs) // config.train.batch_size
    while True:
        epoch, start = divmod(step, per_epoch)
        for batch in batches(
            pairs,
            captions,
            config.train.batch_size,
            epoch,
            config.train.seed,
            config.data,
            config.model.vision,
            device,
            start,
        ):
            yield batch
            step += 1


def resumed_config(folder: Path, config: TrainConfig) -> TrainConfig:
    """The saved run's config; what decides the length or the logging may be changed, nothing else."""
    saved = read_run_config(folder)
    free = {"root", "steps", "minutes", "log_every", "eval_every", "checkpoint_every", "device", "precision"}
    # the vocabulary's size is known only after the tokenizer was trained
    text = replace(config.model.text, vocab_size=saved.model.text.vocab_size, eot_id=saved.model.text.eot_id)
    config = replace(config, model=replace(config.model, text=text))
    changed = [
        f"{group}.{name}"
        for group, fields in to_dict(saved).items()
        for name, value in fields.items()
        if to_dict(config)[group][name] != value and name not in free
    ]
    if changed:
        raise MinclipError(
            f"{folder} was started with other values of {', '.join(changed)}: resume it with the same ones, or start another run with --name"
        )
    return config


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Within it, the first Ctrl-C (or SIGTERM) only makes `interrupted()` true, so that a step ends whole; the second one interrupts."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        if seen:
            raise KeyboardInterrupt("interrupted twice: the last checkpoint is whole")
        seen.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: signals go elsewhere
        before = {}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
