"""The command line: minclip train | eval | classify | probe | search | fetch | info.  A user's mistake is one sentence and exit code 2."""

import json
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import tyro

from .. import __version__
from ..config import MinclipError, TrainConfig, nearest
from ..data.kaggle import SOURCES
from ..presets import PRESETS, for_towers, preset
from ..training import distributed
from .classify import Classify
from .evaluate import Eval
from .fetch import Fetch
from .info import Info
from .probe import Probe
from .search import Search
from .train import Train

VERBS = {
    "train": Train,
    "eval": Eval,
    "classify": Classify,
    "probe": Probe,
    "search": Search,
    "fetch": Fetch,
    "info": Info,
}
USAGE = f"""minclip {__version__}: CLIP from nothing

  minclip train PRESET [--name NAME] [--resume] [--train.batch-size 128 ...]   PRESET: {", ".join(PRESETS)}
  minclip train PRESET --overfit 128            128 pairs by heart: is anything learned at all?
  torchrun --nproc-per-node 8 -m minclip train PRESET ...                      on 8 GPUs
  minclip eval RUN [--tasks cifar10,shapes]     its figures again; or zero-shot on data sets of the paper's table
  minclip classify RUN IMAGE... --labels "a red star, a blue ring"             or none of these
  minclip probe RUN [--task shape]              how many labelled images is zero-shot worth?
  minclip search RUN --images FOLDER --query "two dogs in the snow"            or --image photo.jpg
  minclip fetch NAME [--to FOLDER]              photographs from Kaggle: {", ".join(SOURCES)}
  minclip info

Each takes --help, and --json to print one JSON object as its last line.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0, 2 for a user's mistake, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    try:
        result = dispatch(arguments)
    except MinclipError as error:
        return fail(str(error), 2, as_json)
    except OSError as error:  # a folder that can't be written, a file that can't be read
        return fail(str(error), 2, as_json)
    except KeyboardInterrupt as stop:
        return fail(str(stop) or "interrupted", 130, as_json)
    except SystemExit as stop:  # tyro has printed its help (0) or what is wrong with the options (2)
        if stop.code and as_json and not distributed.local_rank():
            print(json.dumps({"error": "the command's options are wrong; see above"}))
        return int(stop.code or 0)
    if as_json and distributed.rank() == 0:
        print(json.dumps(result))
    return 0


def dispatch(arguments: list[str]) -> dict[str, Any]:
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help", "--version"):
        print(__version__ if verb == "--version" else USAGE)
        return {"minclip": __version__}
    if verb not in VERBS:
        raise MinclipError(f"no command is named {verb!r}{nearest(verb, VERBS)}: choose from {', '.join(VERBS)}")
    if verb != "train":
        return tyro.cli(VERBS[verb], args=arguments[1:], prog=f"minclip {verb}").run()
    if len(arguments) < 2 or arguments[1].startswith("-"):
        print(USAGE)
        if arguments[1:2] in (["-h"], ["--help"]):
            return {}
        raise MinclipError(f"minclip train needs a preset: {', '.join(PRESETS)}")
    name = arguments[1]
    # --model.vision timm:NAME is short for --model.vision.tower timm:NAME
    options = [re.sub(r"^--model\.(vision|text)(?=$|=)", r"--model.\1.tower", option) for option in arguments[2:]]
    # another tower doesn't use all of the preset's fields
    towers = dict(re.findall(r"--model\.(vision|text)\.tower[= ](\S+)", " ".join(options)))
    default = for_towers(preset(name), **towers)
    if any(option.replace("_", "-").startswith("--model.vision.image-size") for option in options):
        raise MinclipError("the picture's size is said once, with --data.image-size: the image tower follows it")
    if any(option.replace("_", "-").startswith(("--model.text.eot-id",)) for option in options):
        raise MinclipError(
            "model.text.eot_id comes from the tokenizer that the run trains; set --model.text.vocab-size"
        )
    return tyro.cli(
        Train,
        default=Train(**{f.name: getattr(default, f.name) for f in fields(TrainConfig)}),
        args=options,
        prog=f"minclip train {name}",
        console_outputs=not distributed.local_rank(),
    ).run(name)


def fail(message: str, code: int, as_json: bool) -> int:
    """Tells what went wrong and returns the exit code.

    Under torchrun the first process of a machine speaks at once; another one waits, and then speaks if it still can: where
    all fail alike, torchrun has ended it by then, and where it fails alone, nobody else would tell.
    """
    if distributed.local_rank():
        time.sleep(10)
    who = f"process {os.environ['RANK']}: " if os.environ.get("RANK", "0") != "0" else ""
    print(f"minclip: {who}{message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": message}))
    return code
