"""The command line, `minclip VERB …`: a user's mistake prints one sentence and exits with 2, Ctrl-C one line and 130.

`import minclip` imports this file first.  It needs only the standard library, so Ctrl-C works while torch is imported.
"""

import io
import json
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from importlib import import_module
from inspect import getdoc
from pathlib import Path
from typing import Any

# control characters, which can move the cursor; marks that reverse the text; bytes from file names that aren't UTF-8
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
VERBS = {"train": "train", "eval": "evaluate", "classify": "images", "probe": "evaluate", "search": "images"}
VERBS |= {"fetch": "basics", "info": "basics", "export": "basics", "blend": "train"}  # command -> its module
USAGE = """minclip {version}: CLIP from scratch

  minclip train PRESET [--name NAME] [--resume] [--train.batch-size 128 ...]   PRESET: {presets}
  minclip train PRESET --init MODEL             fine-tune MODEL: ViT-B/32, a file or folder of weights, a run
  minclip train PRESET --overfit 128            overfit 128 pairs, as a sanity check
  torchrun --nproc-per-node 8 -m minclip train PRESET ...                      on 8 GPUs
  minclip blend MODEL MODEL [--alpha 0.5]       a run with weights between those of two models
  minclip eval RUN [--data.root PATH] [--tasks cifar10,PATH]    a run's figures again, or a model's on your own data
  minclip classify RUN IMAGE... --labels "a red star, a blue ring"             the label that fits, or none of these
  minclip probe RUN [--task shape]              zero-shot against classifiers trained on labeled images
  minclip search RUN --images FOLDER --query "two dogs in the snow"            or --image photo.jpg
  minclip export RUN [--to onnx] [--out FOLDER]            for other libraries: onnx, open_clip, transformers
  minclip fetch NAME [--to FOLDER]              photographs from Kaggle: {sources}
  minclip info                                  versions, device, presets and runs

Every command takes --help, and --json to print one JSON object as its last line.
"""


def shown(text: object) -> str:
    """Escapes invisible characters in text from outside (labels, file names), for a terminal or a picture."""
    return UNSAFE.sub(lambda found: repr(found[0])[1:-1], str(text))


def exit_at_once(signal_number: int, frame: object) -> None:
    """Handles Ctrl-C until a command runs: nothing can be lost yet, and an import may swallow a KeyboardInterrupt."""
    os.write(2, b"minclip: interrupted\n")
    if "--json" in sys.argv:
        os.write(1, b'{"error": "interrupted"}\n')
    os._exit(130)


program = (getattr(sys, "argv", None) or [""])[0]  # "-m" while `python -m minclip` still imports the package
is_command = Path(program).stem == "minclip" or (program == "-m" and "minclip" in sys.orig_argv)
if is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, exit_at_once)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 for a user's mistake, 130 for Ctrl-C."""
    from ..config import MinclipError
    from ..training import distributed

    for stream in (sys.stdout, sys.stderr):  # a character that the terminal's encoding lacks becomes "?"
        if hasattr(stream, "reconfigure"):  # not in a notebook
            stream.reconfigure(errors="replace")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    if is_command:  # without the line of our code
        warnings.formatwarning = lambda message, *_, **__: f"note: {shown(message)}\n"
    try:
        result = dispatch([argument for argument in arguments if argument != "--json"])
    except (MinclipError, OSError) as error:  # OSError: for example, a folder that can't be written
        return fail(str(error), 2, as_json)
    except KeyboardInterrupt as stop:
        return fail(str(stop) or "interrupted", 130, as_json)
    except SystemExit as stop:  # tyro has printed its help (exit code 0) or the options' mistakes (2)
        if stop.code and as_json and not distributed.local_rank():
            print(json.dumps({"error": "the options are wrong: see the message above, or --help"}))
        return int(stop.code or 0)
    if as_json and distributed.rank() == 0:
        print(json.dumps(result))
    return 0


def dispatch(arguments: list[str]) -> dict[str, Any]:
    """Parses the options, imports and runs this command only, and returns its result, the object that --json prints."""
    from .. import __version__
    from ..config import nearest, need
    from ..data.kaggle import SOURCES
    from ..presets import PRESETS

    verb = arguments[0] if arguments else "--help"
    usage = USAGE.format(version=__version__, presets=", ".join(PRESETS), sources=", ".join(SOURCES))
    if verb in ("-h", "--help", "--version") or arguments[:2] in (["train", "-h"], ["train", "--help"]):
        print(__version__ if verb == "--version" else usage)
        return {"minclip": __version__}
    need(verb in VERBS, f"no command is named {verb!r}{nearest(verb, VERBS)}: choose from {', '.join(VERBS)}")
    module = import_module(f".{VERBS[verb]}", __name__)
    if verb == "train":
        return module.run(arguments[1:])
    return fill(getattr(module, verb.title()), arguments[1:], f"minclip {verb}").run()


def fill(command: type, options: list[str], program: str, **more: Any) -> Any:
    """Creates the dataclass `command` from the options; tyro prints help and mistakes, and raises SystemExit."""
    import tyro

    from ..config import MinclipError
    from ..training import distributed

    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            about = f"{getdoc(command)}\n\n--json prints one JSON object as the last line."
            more |= {"prog": program, "description": about, "console_outputs": not distributed.local_rank()}
            filled = tyro.cli(command, args=options, **more)
    except SystemExit as stop:
        cause = stop.__context__ and (stop.__context__.__context__ or stop.__context__)
        if isinstance(cause, MinclipError):  # a config's own error, which tyro would print in a box
            raise cause from None
        if stray := re.search(r"Unrecognized options: ([^\s=,-][^\s=,]*)", printed.getvalue()):
            files, what = [option for option in options if os.path.isfile(option)], f"no option {stray[1]}"
            how = "put a text with spaces, or a list such as all labels, into one pair of quotes"
            if stray[1] in files[1:]:
                what = f"one path too many, {stray[1]}"
                how = f"give their folder, {os.path.dirname(files[0]) or '.'}, in place of a pattern such as *.jpg"
            raise MinclipError(f"{program} has {what}: {how}") from None
        print(printed.getvalue(), file=sys.stderr, end="")
        raise
    if signal.getsignal(signal.SIGINT) is exit_at_once:  # from here on, a command may have something to save
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return filled


def fail(message: str, code: int, as_json: bool) -> int:
    """Prints an error, with options in place of config fields, and returns the exit code."""
    from ..training import distributed
    from .shared import as_options

    message = as_options(message)
    if distributed.local_rank():  # if all processes fail alike, torchrun ends this one before it repeats the message
        time.sleep(10)
    who = f"process {os.environ['RANK']}: " if os.environ.get("RANK", "0") != "0" else ""
    print(f"minclip: {who}{shown(message)}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": message}))
    return code
