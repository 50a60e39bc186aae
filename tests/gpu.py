"""Checks and measures minclip on one CUDA GPU, in about six minutes.

    python tests/gpu.py [--parts tests,step,loop,presets,paper,retrieval] [--photographs ZIP] [--json gpu.json]

    tests      tests/test_cuda.py: equal results, exact resuming, no waiting for the GPU, fp16, NCCL
    step       one ViT-B/32 training step against open_clip's, both compiled (tests/bench/gpu.py)
    loop       images per second of `minclip train vit-b-32` with 1,024 pairs, plain and compiled
    presets    `minclip train flickr8k` (with --photographs) and `minclip train shapes`: seconds of the whole command
    paper      the paper's batch: 32,768 pairs of ViT-B/32, in micro-batches of 1,024
    retrieval  31,783 images against 158,915 texts

Every part has a time limit of its own, and what it measured is written before the next one starts.  On a CPU, `--smoke`
runs each part at its smallest, to check that this script works.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("tests", "step", "loop", "presets", "paper", "retrieval")
LIMIT = {"tests": 150, "step": 200, "loop": 240, "presets": 240, "paper": 150, "retrieval": 60}  # seconds


def command(*arguments: str, limit: float) -> dict:
    """Runs a command: its seconds, its exit code, the last lines it printed, and the JSON object in the last one."""
    start, environment = time.perf_counter(), {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    try:
        done = subprocess.run([sys.executable, *arguments], timeout=limit, **options)
        code, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as stopped:
        code, output = "time limit", (stopped.stdout or b"").decode(errors="replace")
    lines = [line for line in output.replace("\r", "\n").splitlines() if line.strip()]
    last = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return {"seconds": round(time.perf_counter() - start, 1), "exit": code, "result": last, "tail": lines[-5:]}


def trained(folder: Path) -> dict:
    """What a run logged: seconds of the first logged step, then the median rate, utilization and memory of the rest."""
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    steps = [line for line in lines if "loss" in line]
    if len(steps) < 3:
        return {"logged": len(steps)}
    later = sorted(steps[2:], key=lambda line: line["images_per_s"])[len(steps[2:]) // 2]
    kept = {name: later[name] for name in ("images_per_s", "mfu", "memory_gb")}
    final = next((line["final"] for line in lines if "final" in line), {})
    return {**kept, "last_loss": steps[-1]["loss"], "steps": steps[-1]["step"], "final": final}


def tests(args: argparse.Namespace, limit: float) -> dict:
    quick = ["-k", "retrieval or embedding or streamed"] if args.smoke else []
    return command(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests/test_cuda.py"), *quick, limit=limit
    )


def step(args: argparse.Namespace, limit: float) -> dict:
    return command(str(ROOT / "tests/bench/gpu.py"), *(["--smoke"] if args.smoke else ["--rounds", "5"]), limit=limit)


def loop(args: argparse.Namespace, limit: float) -> dict:
    out = {}
    for name, options in (("plain", []), ("compiled", ["--train.compile"])):
        base = ["-m", "minclip", "train", "vit-b-32", "--name", name, "--json", "--data.name", "shapes"]
        base += ["--data.size", "4096", "--train.batch-size", "1024", "--train.steps", "80", "--data.min-crop", "0.9"]
        if args.smoke:
            options = []  # without a compiler
            base += ["--data.size", "8", "--train.batch-size", "4", "--train.steps", "3", "--train.log-every", "1"]
            base += ["--data.image-size", "64", "--model.vision.layers", "1", "--model.text.layers", "1"]
        out[name] = command(*base, *options, limit=limit / 2) | trained(Path("runs", name))
    return out


def presets(args: argparse.Namespace, limit: float) -> dict:
    small = ["--train.steps", "3", "--train.log-every", "1"] if args.smoke else []
    kinds = {"shapes": ["--data.size", "512"] if args.smoke else []}
    if args.photographs:
        kinds["flickr8k"] = ["--data.root", str(args.photographs)]
    base = ["-m", "minclip", "train"]
    return {
        name: command(*base, name, "--name", name, "--json", *more, *small, limit=limit / 2)
        | trained(Path("runs", name))
        for name, more in kinds.items()
    }


def paper(args: argparse.Namespace, limit: float) -> dict:
    size = ["--train.batch-size", "32768", "--train.micro-batch", "1024", "--data.size", "32768"]
    if args.smoke:
        size = ["--train.batch-size", "8", "--train.micro-batch", "4", "--data.size", "8", "--data.image-size", "32"]
        size += ["--model.vision.layers", "1", "--model.text.layers", "1"]
    base = ["-m", "minclip", "train", "vit-b-32", "--name", "paper", "--json", "--data.name", "shapes"]
    base += ["--data.min-crop", "0.9", "--train.steps", "4", "--train.log-every", "1"]
    return command(*base, *size, limit=limit) | trained(Path("runs", "paper"))


def retrieval(args: argparse.Namespace, limit: float) -> dict:
    from minclip.recall import retrieval as recall

    device = "cuda" if torch.cuda.is_available() else "cpu"
    n = 100 if args.smoke else 31_783
    torch.manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(k, 256, device=device), dim=1) for k in (n, 5 * n))
    owner, seconds = torch.arange(5 * n) // 5, []
    for _ in range(3):
        start = time.perf_counter()
        recall(image, text, owner)
        seconds.append(round(time.perf_counter() - start, 3))
    return {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--photographs", type=Path, help="a zip of Flickr8k, for the preset flickr8k")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available() and not args.smoke:
        sys.exit("no CUDA GPU was found: nothing was measured (--smoke tries every part on the CPU)")
    if args.photographs:
        args.photographs = args.photographs.resolve()
    names = args.parts.split(",")
    if unknown := set(names) - {*PARTS}:
        parser.error(f"no part is named {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    report = {"device": gpu, "torch": torch.__version__, "date": str(date.today()), "smoke": args.smoke}
    args.json = args.json.resolve()
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)  # where no earlier run's numbers lie
        for name in names:
            report[name] = globals()[name](args, LIMIT[name])
            args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            print(f"{name}: {json.dumps(report[name])[:600]}", flush=True)
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
