"""Checkpoints of a run: all that resuming needs in one file, copied from a GPU and written while training goes on."""

import io
import shutil
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from ..config import MinclipError, need
from ..weights import folder as folders
from .distributed import rank, world_size
from .optim import EMA
from .run import PROGRESS, check_line


class Checkpoints:
    """Writes the checkpoints of the run in `folder`; what goes wrong is raised by the next call."""

    def __init__(self, folder: Path, model: nn.Module, optimizer: Optimizer, *, ema: EMA | None) -> None:
        self.folder, self.model, self.optimizer, self.ema = folder, model, optimizer, ema
        self.thread, self.writing = ThreadPoolExecutor(1), Future()
        self.writing.set_result(None)
        if rank() == 0:
            _check_room(folder, model, optimizer, averages=bool(ema))

    def save(self, progress: dict[str, float]) -> None:
        """`progress` has the keys of PROGRESS.  All processes must call this; process 0 writes."""
        self.wait()
        state = {**progress, **_state(self.model, self.optimizer, self.ema)}
        copied = torch.cuda.current_stream().record_event() if next(self.model.parameters()).is_cuda else None
        if rank() == 0:
            self.writing = self.thread.submit(_write, self.folder, state, copied)
        if not copied:
            self.wait()  # on a CPU nothing was copied: the next step would change what is being written

    def wait(self) -> None:
        """Until the last one is on the disk."""
        self.writing.result()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        """Ends when nothing is being written, even if training failed: the next run in this folder may start then."""
        wait([self.writing])


def _check_room(folder: Path, model: nn.Module, optimizer: Optimizer, *, averages: bool) -> None:
    """Raises MinclipError unless the disk has room for two checkpoints: the old one stays until the new is complete."""
    weights = sum(x.nbytes for x in model.state_dict().values())
    moments = ((1 if group.get("muon") else 2) * x.nbytes for group in optimizer.param_groups for x in group["params"])
    needed = 2 * ((1 + averages) * weights + sum(moments)) + weights
    present = sum(path.stat().st_size for name in ("state.pt", "model.safetensors") for path in folder.glob(name))
    free = shutil.disk_usage(folder).free + present
    room = f"checkpoints need up to {needed / 1e6:,.1f} MB in {folder}, but only {free / 1e6:,.1f} MB are free"
    need(needed <= free, f"{room}: free some space, or train on another disk")


def _state(model: nn.Module, optimizer: Optimizer, ema: EMA | None) -> dict[str, Any]:
    """Weights, optimizer and averages; from a GPU as copies, which are complete when the GPU has come so far."""
    from torch.distributed.checkpoint import state_dict  # imported here: half a second that only training needs

    # under FSDP a GPU could not hold the whole state
    options = state_dict.StateDictOptions(full_state_dict=True, cpu_offload=world_size() > 1)
    averages, of_optimizer = {}, {}
    if ema:
        with ema.applied():  # copies, because the model gets its own weights back after this block
            averages = {name: x.clone() for name, x in state_dict.get_model_state_dict(model, options=options).items()}
    weights = state_dict.get_model_state_dict(model, options=options)
    if optimizer.state:  # without state, torch would take a step to create one, which Adam would count
        of_optimizer = state_dict.get_optimizer_state_dict(model, optimizer, options=options)
    return tree_map_only(Tensor, _to_host, {"model": weights, "optimizer": of_optimizer, "average": averages})


def _to_host(x: Tensor) -> Tensor:
    """A copy in page-locked memory, for which the host doesn't wait; a CPU's tensor itself."""
    return torch.empty_like(x, device="cpu", pin_memory=True).copy_(x, non_blocking=True) if x.is_cuda else x


def _write(folder: Path, state: dict[str, Any], copied: torch.cuda.Event | None) -> None:
    """Writes `state.pt`, and then `model.safetensors` for everybody else, which may thus be of an earlier step."""
    if copied:
        copied.synchronize()
    buffer = io.BytesIO()  # torch.save reports a full disk as a RuntimeError; writing bytes raises an OSError
    torch.save(state, buffer)
    folders.atomic_write(folder / "state.pt", buffer.getbuffer())
    del buffer  # as large as four models
    folders.write_weights(folder / "model.safetensors", state["average"] or state["model"])


def load_checkpoint(folder: Path, model: nn.Module, optimizer: Optimizer, *, ema: EMA | None) -> dict[str, float]:
    """Restores a checkpoint and returns its progress, zeros if there is none; a MinclipError if it is damaged."""
    path = folder / "state.pt"
    if not path.exists():
        return dict.fromkeys(PROGRESS, 0)
    from torch.distributed.checkpoint import state_dict

    options = state_dict.StateDictOptions(full_state_dict=True, cpu_offload=True)
    chosen = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    try:
        state = {"loss_scale": 0.0, "since": 0} | torch.load(path, map_location="cpu", weights_only=True)  # of old runs
        progress = check_line({name: state[name] for name in PROGRESS}, "it")
        weights, of_optimizer, averages = (dict(state[name]) for name in ("model", "optimizer", "average"))
        stepped = progress["step"] > progress["skipped"]  # otherwise the optimizer has no state to restore
        need(weights and (not stepped or of_optimizer["state"]), "the weights or the optimizer's state are missing")
        if ema:
            with ema.applied():
                state_dict.set_model_state_dict(model, averages or weights, options=options)
        state_dict.set_model_state_dict(model, weights, options=options)
        if stepped:
            state_dict.set_optimizer_state_dict(model, optimizer, of_optimizer, options=options)
        for group, options_of_group in zip(optimizer.param_groups, chosen):  # the config decides these
            group.update(options_of_group)
        fits = all(not x.ndim or x.shape == w.shape for w, values in optimizer.state.items() for x in values.values())
        need(fits, "the optimizer's state has other shapes than the model")
        return progress
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # torch raises many types of errors, depending on the damage
        why = str(error) if isinstance(error, MinclipError) else repr(error)
        what = f"{path} is cut off or damaged ({why:.150}) and can't be resumed"
        raise MinclipError(f"{what}; model.safetensors beside it holds the weights") from None
