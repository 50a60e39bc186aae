"""Training: one loop that reads from top to bottom."""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from .batches import shrink
from .config import MinclipError, TrainConfig
from .data import evaluation_splits, load_pairs
from .data.stream import open_stream
from .evaluate import evaluate
from .losses import siglip_bias
from .model import CLIP
from .tokenizer import Tokenizer
from .training import diagnose, distributed
from .training import watch as meters
from .training.ema import Average
from .training.engine import (
    clip_gradients,
    gradients,
    norm,
    parameter_groups,
    pick_device,
    picture_size,
    schedule,
)
from .training.optim import Muon
from .training.parallel import whole_model, wrap
from .training.resume import check_agreement, check_images, is_finished, leaves, resumed_config
from .training.run import (
    Run,
    load_checkpoint,
    read_metrics,
    rewind,
    save_checkpoint,
    start_run,
    write_metrics,
    write_run_config,
)
from .weights.config_json import to_dict
from .weights.towers import borrow, fetch_weights, new_tokenizer, read_tokenizer

MOST_SKIPPED = 5  # steps in a row without a finite gradient, after which a run is given up


def train(config: TrainConfig, folder: str | Path | None = None, resume: bool = False) -> Run:
    """Trains a CLIP from nothing and returns its Run; `folder` (default `runs/<data set>`) keeps all of it.

    With `resume`, goes on from the last checkpoint in `folder`; a finished run is given back as it is.  Ctrl-C ends the
    step, saves, and raises KeyboardInterrupt with a message that tells how to go on.  Under torchrun every process calls
    this, and process 0 writes.
    """
    folder = Path(folder or Path("runs") / config.data.name)
    config = diagnose.overfitting(config) if config.train.overfit else config
    device, autocast = pick_device(distributed.start(config.train.device), config.train.precision)
    loop, first, started = config.train, distributed.rank() == 0, time.perf_counter()

    check_agreement("was started with other values of", {**leaves(to_dict(config)), "--resume": resume})
    if resume:
        config = resumed_config(folder, config)
        if is_finished(folder, config.train):
            if first:
                tqdm.write(f"note: {folder} is finished; a larger train.steps (or train.minutes) would go on with it")
            run = Run.load(folder)
            run.model.to(device)
            return run
    else:
        with distributed.on_each_machine_once():  # what the first process fetches, the others find
            config = replace(config, model=borrow(config.model))
    stream = open_stream(config)
    if resume:
        check_images(folder, stream.names)
        tokenizer = read_tokenizer(folder / "tokenizer.json", config.model.text)
    else:
        tokenizer = new_tokenizer(config.model.text, stream.texts)
        text = replace(config.model.text, vocab_size=tokenizer.vocab_size, eot_id=tokenizer.eot_id)
        config = replace(config, model=replace(config.model, text=text))
    check_agreement("reads other captions: it has another", {"tokenizer": tokenizer.to_json()})

    torch.manual_seed(loop.seed)
    clip = CLIP(config.model)
    if not resume or not (folder / "state.pt").exists():  # else they lie in there
        with distributed.on_each_machine_once():
            fetch_weights(clip)
    clip = clip.to(device).train()
    clip.freeze(*(tower for tower in ("vision", "text") if loop.freeze in (tower, "both")))
    if first:
        write_run_config(folder, config) if resume else start_run(folder, config, tokenizer, stream.names)
        for note in stream.notes:
            tqdm.write(f"note: {note}")
    if config.model.loss == "siglip":
        clip.logit_bias.data.fill_(siglip_bias(loop.batch_size))
    flops: dict[int, float] = {}  # of a pair, by the side of its picture
    peak = meters.peak_flops(device, autocast) * distributed.world_size()
    model = wrap(clip, loop)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = (Muon if loop.optimizer == "muon" else torch.optim.AdamW)(
        parameter_groups(clip, loop.weight_decay, vision_lr=loop.vision_lr, text_lr=loop.text_lr),
        lr=loop.lr,
        betas=(loop.beta1, loop.beta2),
        fused=device.type != "mps",
    )
    peaks = [group["lr"] for group in optimizer.param_groups]  # now: a checkpoint brings the rates of its step
    average = Average(model, loop.ema) if loop.ema else None
    before = load_checkpoint(folder, model, optimizer, average) if resume else {"step": 0, "seconds": 0.0, "skipped": 0}
    step, skipped, started = before["step"], before["skipped"], started - before["seconds"]
    if resume and first:
        rewind(folder, step)
    distributed.barrier()
    board = meters.tensorboard(folder, step) if loop.tensorboard and first else None

    def log(line: dict[str, Any]) -> None:
        if first:
            write_metrics(folder, line)
        if board:
            meters.log_scalars(board, line)

    def validate() -> None:
        with average.in_place() if average else nullcontext():
            whole = whole_model(model)
            if first:
                log({"step": step, "val": evaluate(whole.to(device), tokenizer, stream.validation, tasks=False)})

    def save() -> None:
        progress = {"step": step, "seconds": time.perf_counter() - started, "skipped": skipped}
        save_checkpoint(folder, model, optimizer, average, progress)

    bar = tqdm(
        total=None if loop.minutes else loop.steps,
        initial=step,
        desc=folder.name,
        unit="step",
        mininterval=0.5,
        disable=not first,
    )
    batches = stream.start(tokenizer, device, step)
    in_a_row, told, watch = 0, 0, diagnose.Watch(config)
    since, steps_since = time.perf_counter(), 0  # of the last logged step
    with bar, deferred_interrupt() as interrupted:
        for batch in batches:
            seconds, stop = distributed.synchronize_clock(time.perf_counter() - started, interrupted())
            progress = seconds / (60 * loop.minutes) if loop.minutes else step / loop.steps
            if progress >= 1 or stop:
                break
            share = schedule(progress, loop.warmup)
            lr = loop.lr * share
            for group, highest in zip(optimizer.param_groups, peaks):
                group["lr"] = highest * share
            if loop.unmasked_last and progress >= 1 - loop.unmasked_last and getattr(clip.vision, "patch_dropout", 0):
                clip.vision.patch_dropout = 0.0
                flops.clear()  # counted anew

            side = picture_size(progress, config.data)
            batch = replace(batch, images=shrink(batch.images, side))
            if side not in flops:
                flops[side] = meters.flops_per_pair(clip, batch, autocast)
            # drawn anew from these numbers: a resumed run, on however many processes, needs no other random state
            seed = int(np.random.SeedSequence([loop.seed, step, distributed.rank()]).generate_state(1)[0])
            statistics = meters.snapshot(clip.buffers())  # of BatchNorm
            optimizer.zero_grad()
            loss, scale = gradients(model, batch, loop, autocast, seed)
            grad_norm = clip_gradients(parameters, loop.grad_clip)
            logged = step == 0 or (step + 1) % loop.log_every == 0
            before = meters.snapshot(parameters) if logged else []
            finite = bool((loss + grad_norm).isfinite())
            if finite:
                optimizer.step()
                clip.clamp_logit_scale()
                if average:
                    average.update(step)
            else:  # what is not finite would stay in them for ever
                for buffer, old in zip(clip.buffers(), statistics):
                    buffer.copy_(old)
            in_a_row, skipped = (0, skipped) if finite else (in_a_row + 1, skipped + 1)
            step, steps_since = step + 1, steps_since + 1

            if logged:
                now = time.perf_counter()
                rate = loop.batch_size * steps_since / (now - since)
                since, steps_since = now, 0
                update = [after - old for after, old in zip(parameters, before)]
                line = {
                    "step": step,
                    "loss": loss.item(),
                    "scale": scale.item(),
                    "lr": lr,
                    "grad_norm": grad_norm.item(),
                    "param_norm": norm(parameters).item(),
                    "update_norm": norm(update).item(),
                    "images_per_s": rate,
                    "mfu": flops[side] * rate / peak,
                    "memory_gb": meters.memory_gb(device),
                    "skipped": skipped,
                    **({"bad_samples": batches.skipped} if hasattr(batches, "skipped") else {}),
                    "seconds": time.perf_counter() - started,
                }
                log(line)
                left = f", {loop.minutes * 60 - seconds:.0f} s left" if loop.minutes else ""
                bar.set_postfix_str(
                    f"loss {line['loss']:.3f}, scale {line['scale']:.1f}, {rate:.0f} images/s{left}", refresh=False
                )
                if first and (hint := watch.see(line, progress, clip, batch)):
                    tqdm.write(hint)
                for reason in getattr(batches, "reasons", [])[told:]:  # the first few bad samples, one by one
                    tqdm.write(f"skipped {reason}")
                    told += 1
            if in_a_row == MOST_SKIPPED:
                raise MinclipError(
                    f"step {step}: the gradient was not finite {in_a_row} times in a row (loss {loss.item()}, gradient norm {grad_norm.item()}): resume with a lower train.lr ({loop.lr:g}), or start anew with one where {folder} has no state.pt yet"
                )
            bar.update()
            paused = time.perf_counter()
            if loop.eval_every and step % loop.eval_every == 0:
                validate()
            if step % loop.checkpoint_every == 0:
                save()
            since += time.perf_counter() - paused

    save()
    if stop:
        raise KeyboardInterrupt(f"stopped after step {step}; everything is saved in {folder}")
    if not loop.eval_every or step % loop.eval_every:  # else it was validated in the loop
        validate()
    if average:
        average.swap()
    if loop.unmasked_last:
        clip.vision.patch_dropout = config.model.vision.patch_dropout
    model = whole_model(model).to(device).eval()
    if first:
        figures = {} if loop.overfit else final_figures(model, tokenizer, config, stream.names)
        log({"step": step, "final": figures, "seconds": time.perf_counter() - started})
    if board:
        board.close()
    distributed.barrier()
    return Run(folder, config, tokenizer, model, read_metrics(folder))


def final_figures(
    model: CLIP, tokenizer: Tokenizer, config: TrainConfig, learnt: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Split -> figures, in fp32: what a run ends with, and what `minclip eval` computes again.

    A note tells where photographs are asked about that were `learnt` from: the list of splits changed since.
    """
    data, columns = config.data, (config.data.image_column, config.data.caption_column)
    figures = {}
    for split in evaluation_splits(data):
        pairs = load_pairs(data.name, split, data.image_size, data.root, columns=columns)
        if known := set(learnt).intersection(pairs.names):
            tqdm.write(
                f"note: {len(known)} of the {len(pairs)} photographs of {split} were learnt from (the list of splits has "
                "changed since the training), so that these figures are too good",
                file=sys.stderr,
            )
        figures[split] = evaluate(model, tokenizer, pairs)
    return figures


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
