"""What a terminal shows and an interrupt does: any encoding, text of others, no home, Ctrl-C, hints that can be pasted."""

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from command_line import TINY, last_json

from minclip.cli import main

DEMO = Path(__file__).parents[2] / "data" / "demo"
SMALL_WORLD = str(Path(__file__).parents[1] / "small_world.py")  # the command line, with few scenes
EVIL = "\x1b[2J\x1b[Hstar\x07"  # clears the screen and rings
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals or file names")


def command(*arguments, code=("-m", "minclip"), cwd=None, **environment):
    """The command in a process of its own; an environment variable that is None is taken away."""
    env = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    done = subprocess.run([sys.executable, *code, *arguments], cwd=cwd, env=env, capture_output=True, timeout=300)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


@pytest.fixture
def star(here):
    shutil.copy(DEMO / "blue-star.png", "star.png")
    return here


CLASSIFY = ("classify", "demo", "star.png", "--none-below", "off", "--labels")


# ---- encodings


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}], ids=["ascii", "POSIX"]
)
def test_a_training_ends_well_on_a_terminal_that_is_not_utf_8(here, environment):
    code, out, err = command("train", "shapes", *TINY, "--json", code=[SMALL_WORLD], **environment)
    assert code == 0 and "Traceback" not in err
    assert set(last_json(out.decode("ascii"))["figures"]) == {"test", "heldout"} and b"recall@5" in out


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_what_an_encoding_lacks_is_replaced(star, monkeypatch, encoding):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True))
    assert main([*CLASSIFY, "blue → star, 狗", "--json"]) == 0
    out = sys.stdout.buffer.getvalue().decode(encoding)
    assert "blue ? star" in out and set(last_json(out)["results"][0]["cosines"]) == {"blue → star", "狗"}
    assert main(["eval", "→狗"]) == 2 and b"'??'" in sys.stderr.buffer.getvalue()


# ---- text of others


def test_control_characters_of_others_are_escaped(star, capfd):
    assert main([*CLASSIFY, f"{EVIL}, a\rb"]) == 0
    out, _ = capfd.readouterr()
    assert not {"\x1b", "\x07", "\r"} & set(out) and r"\x1b[2J" in out and r"a\rb" in out
    assert main(["eval", EVIL]) == 2
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err and r"\x1b[2J" in err
    assert main([*CLASSIFY, "a, b", "--out", EVIL.strip("\x07")]) == 0
    assert "\x1b" not in capfd.readouterr().out


def test_markup_of_others_is_text(star, capsys):
    for out in ("[/x]", "[bold]", ":smile:"):
        assert main([*CLASSIFY, f"{out}, [/red], :star:", "--out", out]) == 0
        printed = capsys.readouterr().out
        assert f"saved: {Path(out, 'classify.png')}" in printed.replace("\n", "") and "[/red]" in printed
        assert Path(out, "classify.png").exists() and ":star:" in printed


@pytest.mark.parametrize("label", ["{", "}", "{}", "{0}", "a {b}", "%s", "$x$", "{0.__class__}", "🦓"])
def test_any_label_works(star, capsys, label):
    assert main([*CLASSIFY, f"{label}, b", "--json"]) == 0
    assert len(last_json(capsys.readouterr().out)["results"][0]["cosines"]) == 2


@posix
@pytest.mark.parametrize("name", [b"st\xffar.png", b"st\x1b[2Jar.png"], ids=["no UTF-8", "escape"])
def test_any_file_name_works(star, capfd, name):
    Path("photos").mkdir()
    path = Path("photos", os.fsdecode(name))
    try:
        shutil.copy("star.png", path)
    except OSError:
        pytest.skip("this disk has no such names")
    assert main(["classify", "demo", str(path), "--none-below", "off", "--labels", "a, b", "--json"]) == 0
    assert main(["search", "demo", "--images", "photos", "--query", "a star", "--json"]) == 0
    assert main(["search", "demo", "--images", "photos", "--image", str(path), "--json"]) == 0
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err and last_json(out)["hits"]
    assert main(["classify", "demo", str(path) + "x", "--labels", "a, b"]) == 2
    assert "\x1b" not in capfd.readouterr().err


# ---- errors speak the command line's language


def test_fields_of_the_config_are_spelled_as_options():
    from minclip.cli.shared import as_options

    said = "own pictures need data.root, train.batch_size 3 and model.vision.patch_size=8; see model.safetensors, my.data.root, data/train.lr"
    assert as_options(said) == (
        "own pictures need --data.root, --train.batch-size 3 and --model.vision.patch-size=8; "
        "see model.safetensors, my.data.root, data/train.lr"
    )
    assert as_options("give --data.root, or data.image_size.") == "give --data.root, or --data.image-size."


def test_a_pattern_that_the_shell_made_many_paths_of_is_told(here, capsys):
    names = [f"photos/{i}.jpg" for i in range(3)]
    for name in names:
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(b"")
    assert main(["search", "demo", "--images", *names, "--query", "a dog"]) == 2
    printed = capsys.readouterr().err
    assert "photos/1.jpg" in printed and "folder, photos," in printed
    assert main(["search", "demo", "--images", "photos", "--quer", "a dog"]) == 2
    assert "--quer" in capsys.readouterr().err  # an option that is wrong is told as before


def test_a_warning_is_a_note_without_a_line_of_code(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # restored afterwards
    monkeypatch.setattr("minclip.cli.is_command", True)
    assert main(["--version"]) == 0
    assert warnings.formatwarning("50 % [red]\x1b", UserWarning, "a.py", 7, line="load()") == "note: 50 % [red]\\x1b\n"


def test_an_error_names_the_option(here, capsys):
    assert main(["train", "shapes", "--train.batch-size", "1", "--json"]) == 2
    out, err = capsys.readouterr()
    assert "--train.batch-size 1" in err and "--train.batch-size 1" in last_json(out)["error"]


# ---- no home, and nothing of Jupyter's


WITHOUT_HOME = """
import os, pwd, sys
def nobody(*_): raise KeyError("no such user")
pwd.getpwuid = pwd.getpwnam = nobody
sys.argv[0] = "minclip"
from minclip.cli import main
sys.exit(main(sys.argv[1:]))
"""


@posix
@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["info"], [*CLASSIFY, "a, b"], ["eval", "ViT-B/32", "--tasks", "shape"]])
def test_no_home_is_needed(star, arguments):
    code, _, err = command(*arguments, code=("-c", WITHOUT_HOME), HOME=None, PYTHONPATH=str(DEMO.parents[1]))
    assert "Traceback" not in err and code == (2 if arguments[0] == "eval" else 0)


@pytest.mark.slow
def test_the_command_line_needs_nothing_of_jupyters(star, capsys):
    code = "import sys; sys.modules.update(dict.fromkeys(('ipywidgets', 'IPython', 'jupyterlab', 'nbformat')))\n"
    code += "from minclip.cli import main; sys.exit(main(sys.argv[1:]))"
    assert command(*CLASSIFY, "a, b", code=("-c", code))[0] == 0 and Path("classify.png").exists()


# ---- Ctrl-C

SLOW_TORCH = """
import time
print("importing", flush=True)
while True:
    try:
        time.sleep(60)
    except BaseException:  # as callbacks inside of C swallow it
        pass
"""


@posix
@pytest.mark.parametrize("how", ["python -m minclip", "minclip"])
def test_ctrl_c_during_the_imports_is_one_line(tmp_path, how):
    (tmp_path / "torch.py").write_text(SLOW_TORCH)
    (tmp_path / "minclip").write_text("import sys\nfrom minclip.cli import main\nsys.exit(main())\n")
    code = ["-m", "minclip"] if how != "minclip" else [str(tmp_path / "minclip")]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{DEMO.parents[1]}"}
    process = subprocess.Popen(
        [sys.executable, *code, "info", "--json"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130 and err.splitlines() == ["minclip: interrupted"] and "error" in last_json(out)


@posix
@pytest.mark.slow
def test_importing_the_package_leaves_ctrl_c_alone():
    code = "import signal, minclip; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert command(code=("-c", code))[1].split() == [b"True"]


# ---- hints


NAMES = ["a/b/c", "two words", "it's", "$(rm x)"]


@pytest.mark.parametrize("name", NAMES)
def test_hints_name_what_exists_and_can_be_pasted(star, capsys, monkeypatch, trained, name):
    def train(config, folder, *_, **__):
        shutil.copytree(trained.folder, folder)
        return type(trained)(folder, trained.config, trained.tokenizer, trained.model, trained.metrics)

    monkeypatch.setattr("minclip.cli.train.train", train)
    assert main(["train", "shapes", "--name", name]) == 0
    words = shlex.split(capsys.readouterr().out.split("try:")[1])
    run = words[words.index("eval") + 1]
    assert Path(run).is_dir() and words[words.index("classify") + 1] == run
    assert main(["classify", run, "star.png", "--none-below", "off", "--labels", "a, b"]) == 0


@pytest.mark.parametrize("stop", [KeyboardInterrupt("stopped"), OSError(28, "No space left on device")])
def test_the_hint_after_a_stop_is_a_whole_command(here, capsys, monkeypatch, stop):
    told = []

    def train(config, folder, *_, **__):
        told.append((config, folder))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text("{}")
        raise stop

    monkeypatch.setattr("minclip.cli.train.train", train)
    given = ["train", "shapes", "--name", "two words/b", "--train.steps", "7", "--data.image-size=32"]
    code = 130 if isinstance(stop, KeyboardInterrupt) else 2
    for _ in range(2):
        assert main(given) == code
        err = capsys.readouterr().err
        given = shlex.split(err[err.index("minclip train") :].splitlines()[0])[1:]
        assert given.count("--resume") == given.count("--name") == 1
    assert told[0] == told[1] and told[0][1] == Path("runs/two words/b")


def test_where_nothing_was_saved_no_resuming_is_promised(here, capsys, monkeypatch):
    def train(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("minclip.cli.train.train", train)
    assert main(["train", "shapes"]) == 130
    assert "--resume" not in capsys.readouterr().err


# ---- two machines


@pytest.mark.slow
def test_two_machines_need_no_common_disk(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def both(*options):
        processes = []
        for rank in (0, 1):
            (tmp_path / str(rank)).mkdir(exist_ok=True)
            env = {**os.environ, "RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
            processes.append(
                subprocess.Popen(
                    [sys.executable, SMALL_WORLD, "train", "shapes", "--name", "a", *TINY, *options],
                    cwd=tmp_path / str(rank),
                    env=env,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return [(*p.communicate(timeout=200), p.returncode) for p in processes]

    (out, _, code), (other, err, other_code) = both()
    assert (code, other_code) == (0, 0), err
    assert "saved in" in out and "saved in" not in other and not (tmp_path / "1" / "runs").exists()
    for _, err, code in both("--resume", "--train.steps", "5"):
        assert code == 2 and "process 1" in err and "Traceback" not in err
