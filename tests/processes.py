"""Real processes that find each other over loopback, as those of torchrun do."""

import os
import pickle
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp
from small_world import few_scenes

from minclip.training import distributed, watch


def in_processes(count: int, function: Callable, *args: Any) -> list[Any]:
    """What `function(*args)` returns in each of `count` processes that are one group, by rank; an error in one is an error here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=_run, args=(rank, count, port, answers, function, args), daemon=True)
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    got = dict(answers.get(timeout=300) for _ in processes)
    for process in processes:
        process.join(60)
    for error in (value for ok, value in got.values() if not ok):
        raise AssertionError(f"in one of {count} processes:\n{error}")
    return [pickle.loads(got[rank][1]) for rank in range(count)]


def _run(rank: int, count: int, port: int, answers: Any, function: Callable, args: tuple) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    watch.peak_flops = lambda device, *, autocast: 1e12  # as conftest.py does it in the first process
    try:
        distributed.start("cpu", timeout=120)
        with few_scenes():
            answer = function(*args)
        answers.put((rank, (True, pickle.dumps(answer))))  # as bytes: a tensor would be left behind in this process
    except BaseException:
        answers.put((rank, (False, traceback.format_exc())))
    finally:
        distributed.stop()
