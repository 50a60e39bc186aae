"""Time to generate the shapes world.

python tests/bench/shapes.py [--scenes 20000] [--repeats 3] [--json PATH]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from common import machine

from minclip.data.shapes import load_shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20_000)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    seconds = []
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as empty:  # a data folder without painted scenes
            os.environ["MINCLIP_DATA"] = empty
            start = time.perf_counter()
            pairs = load_shapes("train", image_size=args.image_size, size=args.scenes)
            seconds.append(time.perf_counter() - start)
    assert len(pairs) == args.scenes
    median, where = statistics.median(seconds), machine()

    print("| what | scenes | pixels | median (s) | range (s) | scenes/s | CPU | threads |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| shapes, with captions and tasks | {args.scenes} | {args.image_size} | {median:.2f} "
        f"| {min(seconds):.2f} to {max(seconds):.2f} | {args.scenes / median:.0f} | {where['cpu']} | {where['threads']} |"
    )
    if args.json:
        result = {
            "what": "shapes",
            "scenes": args.scenes,
            "image_size": args.image_size,
            "seconds": [round(s, 4) for s in seconds],
            "median_seconds": round(median, 4),
            "machine": where,
        }
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
