"""Shared by the benchmarks: interleaved timing, peak memory, result tables, and a JSON file with the machine."""

import ctypes
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def machine() -> dict[str, str | int]:
    """Hardware and library versions, on which all timings depend."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():  # Linux leaves platform.processor() empty
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: installed(name) for name in ("torch", "numpy", "open_clip_torch", "tokenizers")},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def interleaved(runs: dict[str, Callable[[], object]], rounds: int, warm_up: bool = True) -> dict[str, list[float]]:
    """Run name -> its seconds in each round.

    Every round times all runs one after the other, so that a busy machine slows them all alike; each round starts with
    a different run.  As in `timeit`, the garbage collector is off: a collection would count against a random run.
    """
    if warm_up:
        for run in runs.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            names = list(runs)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                start = time.perf_counter()
                runs[name]()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                seconds[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return seconds


def keep_memory() -> None:
    """Makes glibc keep freed blocks, for all libraries alike; it would unmap large ones after each step."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def peak_memory(run: Callable[[], object]) -> int:
    """Peak memory of `run` in bytes, above what was in use before.  Measured on CUDA and on Linux; elsewhere 0."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        run()
        return 0

    def kilobytes(field: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field))

    ctypes.CDLL(None).malloc_trim(0)  # memory that earlier runs freed must not count as in use
    reset.write_text("5")  # resets VmHWM
    before = kilobytes("VmRSS")
    run()
    return 1024 * (kilobytes("VmHWM") - before)


def report(title: str, seconds: dict[str, list[float]], items: float, unit: str) -> dict[str, object]:
    """Prints one row per run: median and range of the seconds, `unit` per second, and time relative to the first run.

    The relative time is the median of the ratios within each round.
    """
    first = next(iter(seconds))
    print(f"\n{title}\n| run | median (s) | range (s) | {unit} per second | time / time of {first} |")
    print("|---|---|---|---|---|")
    out: dict[str, object] = {}
    for name, values in seconds.items():
        median = statistics.median(values)
        ratio = statistics.median(v / f for v, f in zip(values, seconds[first]))
        print(
            f"| {name} | {median:.3f} | {min(values):.3f} to {max(values):.3f} | {items / median:,.0f} | {ratio:.2f} |",
            flush=True,
        )
        out[name] = {"seconds": [round(v, 5) for v in values], "median": round(median, 5), "ratio": round(ratio, 3)}
    return out


def write(path: Path | None, results: dict[str, object]) -> None:
    where = machine()
    print("\n" + ", ".join(f"{name} {value}" for name, value in where.items()))
    if path:
        path.write_text(json.dumps({**results, "machine": where}, indent=2) + "\n", encoding="utf-8")
