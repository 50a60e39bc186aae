"""Training: one loop that reads from top to bottom."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batches import Batch
from .config import TrainConfig
from .data.stream import Stream
from .evaluate import evaluate, final_figures
from .model import CLIP
from .training import distributed, engine, graph, watch
from .training import run as runs
from .training.bars import tqdm
from .training.checkpoint import Checkpoints, load_checkpoint
from .training.optim import EMA, make_optimizer
from .training.parallel import whole_model, wrap
from .weights import start
from .weights.config_json import to_dict
from .weights.load import load
from .weights.towers import check_memory, read_tokenizer


def train(config: TrainConfig, folder: str | Path | None = None, *, resume: bool = False) -> runs.Run:
    """Trains a CLIP, from scratch or from `train.init`, and returns its Run; `folder` is by default `runs/<data set>`.

    With `resume`, continues from the last checkpoint in `folder`; a finished run is returned as it is.  On Ctrl-C,
    it ends the step, saves and raises KeyboardInterrupt.  Under torchrun every process calls this; process 0 writes.
    MinclipError: a config that can't work here, a folder in use or with a run in it, too little data, gradients of inf.
    """
    folder = Path(folder or Path("runs") / config.data.name)
    config = watch.overfitting(config) if config.train.overfit else config
    device, autocast = engine.pick_device(distributed.start(config.train.device), config.train.precision)
    loop, first = config.train, distributed.rank() == 0
    runs.check_agreement({**runs.leaves(to_dict(config)), "--resume": resume})
    with runs.lock_run(folder) if first else nullcontext():
        # ---- set-up: data, tokenizer, model, optimizer; a resumed run takes its own from the folder
        if resume:
            config = runs.resumed_config(folder, config)
            if runs.is_finished(folder, loop):
                if first:
                    tqdm.write(f"note: {folder} is finished; raise train.steps or train.minutes to continue it")
                run = runs.Run.load(folder)
                run.model.to(device)
                return run
        fresh = not resume or not (folder / "state.pt").exists()  # otherwise the checkpoint holds the weights
        with distributed.on_each_machine_once():  # the first process downloads, the others reuse its files
            source = load(loop.init) if loop.init and fresh else None
            config = config if resume else start.complete(config, source)
        with torch.device("meta"):  # in which nothing is filled
            check_memory(CLIP(config.model), copies=4)  # weights, gradients, and two moments of the optimizer
        stream = Stream(config)
        if resume:
            runs.check_images(folder, stream.names)
            tokenizer = read_tokenizer(folder / "tokenizer.json", config.model.text)
        else:
            config, tokenizer = start.first_tokenizer(config, source, stream.texts)

        torch.manual_seed(loop.seed)  # the same weights on every process
        clip = CLIP(config.model)
        if first_bias := engine.LOSSES[config.model.loss].bias:
            clip.logit_bias.data.fill_(first_bias(loop.batch_size))
        if fresh:
            with distributed.on_each_machine_once():
                start.fill(clip, source)
        del source  # as large as the model
        clip = clip.to(device).train()
        # with `init`, BatchNorm keeps its statistics: a few batches would move them away from what the weights fit
        clip.freeze(*(x for x in ("vision", "text") if loop.freeze in (x, "both")), norms=bool(loop.init))
        model = wrap(clip, loop)  # `clip` remains the bare model inside any wrapper
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = make_optimizer(clip, loop, autocast=autocast)
        peak_lrs = [group["lr"] for group in optimizer.param_groups]  # those of the towers may differ
        ema = EMA(model, loop.ema) if loop.ema else None
        saved = load_checkpoint(folder, model, optimizer, ema=ema) if resume else dict.fromkeys(runs.PROGRESS, 0)
        step, skips = saved["step"], engine.Skips(clip, fp16=autocast == torch.float16, saved=saved)
        checkpoints = Checkpoints(folder, model, optimizer, ema=ema)
        if first and resume:
            runs.write_run_config(folder, config)
            runs.rewind(folder, step)
        elif first:
            runs.start_run(
                folder, config, tokenizer, names=stream.names, origin=loop.init and start.origin_of(loop.init)
            )
        for note in stream.notes if first else ():
            tqdm.write(f"note: {note}")
        distributed.barrier()  # nobody reads the folder until process 0 has prepared it
        writer = watch.tensorboard(folder, step) if loop.tensorboard and first else None

        def log(line: dict[str, Any]) -> None:
            if first:
                runs.write_metrics(folder, line)
            if writer:
                watch.log_scalars(writer, line)

        def validate() -> None:
            with ema.applied() if ema else nullcontext(), torch.compiler.set_stance("force_eager"):  # other shapes
                whole = whole_model(model)
                if first:
                    log({"step": step, "val": evaluate(whole.to(device), tokenizer, stream.validation, tasks=False)})

        def save() -> None:
            skips.check(f"{folder}: step {step}")
            checkpoints.save({"step": step, "seconds": time.perf_counter() - started, **skips.progress()})

        def update(batch: Batch, seed: int | None) -> tuple[Tensor, Tensor, Tensor]:
            """One step.  It reads nothing back from the GPU, so the host runs ahead and the GPU never waits for it."""
            optimizer.zero_grad()  # otherwise gradients accumulate
            options = {"autocast": autocast, "loss_scale": skips.loss_scale}
            loss, scale = engine.gradients(model, batch, loop, seed=seed, **options)
            grad_norm = engine.clip_gradients(parameters, loop.grad_clip, loss_scale=skips.loss_scale)
            finite = (loss + grad_norm).isfinite()
            optimizer.found_inf = (~finite).float()  # a bad update would ruin the weights: it is skipped
            optimizer.step()
            clip.clamp_logit_scale()  # so that no step begins with a scale above 100
            skips.count(finite)  # first: it takes a NaN out of BatchNorm's averages
            if ema:
                ema.update(skips.step - 1, finite)
            return loss, scale, grad_norm

        # ---- training
        take_step = graph.Recorded(update, clip, optimizer) if graph.pays(clip, loop) else update
        stream.start(tokenizer, device, step)
        watcher, reasons_told, flops = watch.Watcher(config), 0, {}  # flops by image size
        bar = tqdm(total=None if loop.minutes else loop.steps, initial=step, desc=folder.name, disable=not first)
        if loop.init and not resume:  # from here on, resuming doesn't need the model to fine-tune
            checkpoints.save({**saved, **skips.progress()})
        started = time.perf_counter() - saved["seconds"]  # train.minutes counts from the first step on
        logged_at, logged_step = time.perf_counter(), step
        with bar, checkpoints, engine.explained_memory(config), engine.deferred_interrupt() as interrupted:
            while True:
                # one clock and one decision for all processes
                seconds, stop = distributed.synchronize_clock(time.perf_counter() - started, interrupted())
                progress = seconds / (60 * loop.minutes) if loop.minutes else step / loop.steps
                if progress >= 1 or stop:
                    break
                # the schedules: learning rate, size of the images, patch dropout
                fraction = engine.set_lrs(optimizer, peak_lrs, progress, warmup=loop.warmup)
                side = engine.picture_size(progress, config.data)
                if loop.unmasked_last and progress >= 1 - loop.unmasked_last and clip.vision.patch_dropout:
                    clip.vision.patch_dropout = 0.0
                    flops.clear()  # without patch dropout a step costs more: count again
                # one step
                batch = stream.next(side)
                # all randomness comes from these: no random state is saved, and any number of processes may resume
                seed = int(np.random.SeedSequence([loop.seed, step, distributed.rank()]).generate_state(1)[0])
                logged = step == 0 or (step + 1) % loop.log_every == 0
                before = [parameter.detach().clone() for parameter in parameters] if logged else []
                loss, scale, grad_norm = take_step(batch, seed)
                step += 1
                # every log_every steps: log
                if logged:
                    loss, scale, grad_norm = (x.item() for x in (loss, scale, grad_norm))  # now the GPU has come so far
                    now = time.perf_counter()
                    rate = loop.batch_size * (step - logged_step) / (now - logged_at)
                    if side not in flops:
                        flops[side] = watch.flops_per_pair(clip, batch, autocast=autocast)
                    peak = watch.peak_flops(device, autocast=autocast) * distributed.world_size()
                    line = {
                        "step": step,
                        "loss": loss,
                        "scale": scale,
                        "lr": loop.lr * fraction,  # of the groups without a rate of their own
                        "grad_norm": grad_norm,
                        "param_norm": engine.norm(parameters).item(),
                        "update_norm": engine.norm([after - old for after, old in zip(parameters, before)]).item(),
                        "images_per_s": rate,
                        "mfu": flops[side] * rate / peak,
                        "memory_gb": watch.memory_gb(device),
                        "skipped": int(skips.total),
                        **({"bad_samples": stream.tally.skipped} if stream.tally else {}),
                        "seconds": now - started,
                    }
                    log(line)
                    left = f", {loop.minutes * 60 - seconds:.0f} s left" if loop.minutes else ""
                    bar.set_postfix_str(f"loss {loss:.3f}, scale {scale:.1f}, {rate:.0f} images/s{left}", refresh=False)
                    if first and (hint := watcher.check(line, progress=progress, model=clip, batch=batch)):
                        tqdm.write(hint)
                    for reason in stream.tally.reasons[reasons_told:] if stream.tally else []:  # the first few
                        tqdm.write(f"skipped {reason}")
                        reasons_told += 1
                    logged_at, logged_step = time.perf_counter(), step
                    skips.check(f"{folder}: step {step} with loss {loss}, norm {grad_norm} and train.lr {loop.lr:g}")
                bar.update()
                # now and then: validate, save
                paused = time.perf_counter()
                if loop.eval_every and step % loop.eval_every == 0:
                    validate()
                if step % loop.checkpoint_every == 0:
                    save()
                logged_at += time.perf_counter() - paused  # so that images/s counts training time only

        # ---- the end: save, validate, evaluate on splits that were not used for any choice
        save()
        checkpoints.wait()
        if stop:
            raise KeyboardInterrupt(f"stopped after step {step}; everything is saved in {folder}")
        if not loop.eval_every or step % loop.eval_every:  # otherwise the loop has just validated
            validate()
        if ema:
            ema.swap()  # the averaged weights are the final model
        if loop.unmasked_last:
            clip.vision.patch_dropout = config.model.vision.patch_dropout
        model = whole_model(model).to(device).eval()
        if first:
            splits = {} if loop.overfit else stream.evaluation()
            figures = final_figures(model, tokenizer, splits, trained_on=stream.names)
            log({"step": step, "final": figures, "seconds": time.perf_counter() - started})
        if writer:
            writer.close()
        distributed.barrier()
        return runs.Run(folder, config, tokenizer, model, runs.read_metrics(folder) if first else [])
