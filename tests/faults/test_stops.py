"""Runs that are stopped for real: kill -9, Ctrl-C, a full disk."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from disks import small_disk
from PIL import Image

import minclip
from minclip.cli import main
from minclip.evaluate.search import Index
from minclip.training.run import Run, read_metrics

TINY = (
    "--data.image-size 16 --data.size 96 --model.vision.patch-size 8 --model.vision.width 32 --model.vision.heads 1 "
    "--model.vision.layers 1 --model.text.width 32 --model.text.heads 1 --model.text.layers 1 --model.text.vocab-size 600 "
    "--train.batch-size 32 --train.device cpu --train.precision fp32 --train.eval-every 0 --train.log-every 1"
).split()
COMMAND = str(Path(__file__).parent.parent / "small_world.py")
DEMO = Path(__file__).parent.parent.parent / "data" / "demo"
posix = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


def start(folder, *options):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, COMMAND, "train", "shapes", "--name", "a", *TINY, *options]
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(folder, step, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        path = folder / "runs" / "a" / "metrics.jsonl"
        if path.exists() and len(path.read_text().splitlines()) > step:
            return
        time.sleep(0.02)
    raise TimeoutError(f"step {step} was not reached in {seconds} s")


@pytest.mark.slow
def test_of_two_processes_that_train_in_one_folder_the_second_says_who_was_first(here, capsys, small_world):
    first = start(here, "--train.steps", "100000")
    wait_for_step(here, 1)
    if os.name == "posix":
        first.send_signal(signal.SIGSTOP)  # it keeps the lock, but no core
    ours = ["train", "shapes", "--name", "a", *TINY]  # the second process is this one
    for options in ([], ["--resume"]):
        assert main([*ours, "--train.steps", "100000", *options]) == 2
        assert f"process {first.pid} on " in capsys.readouterr().err
    first.kill()
    first.communicate()
    assert main([*ours, "--train.steps", "3", "--resume"]) == 0  # the lock is gone with its process
    steps = [line["step"] for line in read_metrics(here / "runs" / "a") if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))  # each of them once


@pytest.mark.slow
@posix
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    process = start(tmp_path, "--train.steps", "100000")
    wait_for_step(tmp_path, 5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "minclip train shapes --name a" in err and "--resume" in err and "Traceback" not in err
    step = torch.load(tmp_path / "runs" / "a" / "state.pt", weights_only=True)["step"]
    logged = [line["step"] for line in read_metrics(tmp_path / "runs" / "a") if "loss" in line]
    assert step == logged[-1] >= 5  # it ended the step that it was in, and saved that one


@pytest.fixture(scope="module")
def ran_through(tmp_path_factory):
    """The weights of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert start(folder, *LONG).wait(240) == 0
    return Run.load(folder / "runs" / "a").model.state_dict()


LONG = (
    "--train.steps",
    "60",
    "--train.checkpoint-every",
    "3",
    "--train.ema",
    "0.9",
    "--model.vision.patch-dropout",
    "0.5",
)


def ends_alike(folder, ran_through):
    process = start(folder, *LONG, "--resume")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    ours = Run.load(folder / "runs" / "a").model.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in ran_through.items())
    assert not [p.name for p in (folder / "runs" / "a").iterdir() if p.name.startswith(".")], "litter was left"


@posix
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_at_random_steps_ends_like_one_that_ran_through(tmp_path, ran_through, seed):
    chance, step = random.Random(seed), 0
    for number in range(3):  # kill -9 three times, further on each time
        process = start(tmp_path, *LONG, *(["--resume"] if number else []))
        step += chance.randint(2, 16)
        wait_for_step(tmp_path, step)
        time.sleep(0.1 * chance.random())
        process.kill()
        process.communicate()
        Run.load(tmp_path / "runs" / "a")  # the last good checkpoint always opens
    ends_alike(tmp_path, ran_through)


@pytest.mark.slow
@posix
def test_a_run_killed_while_it_writes_a_checkpoint_ends_like_one_that_ran_through(tmp_path, ran_through):
    process = start(tmp_path, *LONG)
    wait_for_step(tmp_path, 4)
    folder, end = tmp_path / "runs" / "a", time.time() + 60

    def half_written():
        return any(name.startswith(".state.pt") for name in os.listdir(folder))

    while time.time() < end:
        if half_written():
            process.send_signal(signal.SIGSTOP)  # so that it can't end the file before the kill comes
            os.waitpid(process.pid, os.WUNTRACED)
            if half_written():
                break
            process.send_signal(signal.SIGCONT)
    process.kill()
    process.communicate()
    assert half_written()
    torch.load(folder / "state.pt", weights_only=True)
    ends_alike(tmp_path, ran_through)


@pytest.fixture
def disk(tmp_path):
    """A real file system of 900 kB."""
    with small_disk(tmp_path / "disk", "900k") as folder:
        yield folder


@pytest.mark.slow
def test_a_disk_that_fills_up_is_told_and_the_last_checkpoint_stays_whole(tmp_path):
    with small_disk(tmp_path / "disk", "3m") as disk:
        process = start(disk, "--train.steps", "100000", "--train.checkpoint-every", "3")
        wait_for_step(disk, 4)  # a checkpoint takes about 600 kB and 200 kB
        with suppress(OSError), (disk / "others").open("wb", buffering=0) as file:  # others fill the disk
            while file.write(bytes(4096)):
                pass
        _, err = process.communicate(timeout=120)
        assert process.returncode == 2, err
        assert "no space left" in err.lower() and "Traceback" not in err
        folder = disk / "runs" / "a"
        assert not [p.name for p in folder.iterdir() if p.name.startswith(".")], "a half-written file was left"
        assert torch.load(folder / "state.pt", weights_only=True)["step"] % 3 == 0


def test_a_disk_that_is_too_small_is_told_before_the_first_step(disk):
    process = start(disk, "--train.steps", "9", "--train.checkpoint-every", "3")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and "MB" in err and str(Path("runs", "a")) in err and "Traceback" not in err
    assert not (disk / "runs" / "a").exists()


@pytest.mark.slow
@posix
def test_a_search_killed_while_it_embeds_goes_on_from_there(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    image = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(image).save(photos / "0000.png")
    for i in range(1, 1000):
        os.link(photos / "0000.png", photos / f"{i:04}.png")
    command = [
        sys.executable,
        "-m",
        "minclip",
        "search",
        str(DEMO),
        "--images",
        "photos",
        "--query",
        "a star",
        "--json",
    ]

    def rows():
        files = list(photos.glob(".minclip/*.sqlite"))
        try:
            return sqlite3.connect(files[0]).execute("SELECT count(*) FROM images").fetchone()[0] if files else 0
        except sqlite3.OperationalError:  # there is no table yet, or it is being written
            return 0

    for wanted in (1, 300):  # kill -9 twice, further on the second time
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        end = time.time() + 120
        while rows() < wanted and time.time() < end:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        kept = rows()
        assert wanted <= kept < 1000 and kept % 128 == 0, "not a number of whole blocks"
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and f"0/{1000 - kept}" in done.stderr  # the bar counts only what was left
    assert json.loads(done.stdout.splitlines()[-1])["images"] == 1000


def test_a_read_only_disk_is_searched_from_an_index_in_the_cache(disk, tmp_path, monkeypatch):
    monkeypatch.setenv("MINCLIP_DATA", str(tmp_path / "data"))
    for i in range(3):
        Image.new("RGB", (64, 64), (80 * i, 0, 0)).save(disk / f"{i}.png")
    loaded = minclip.load(DEMO)
    assert Index.of(disk, loaded).notes == []
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    index = Index.of(disk, loaded)
    assert len(index.paths) == 3 and len(index.notes) == 1 and "can't be written" in index.notes[0]
    assert len(list((tmp_path / "data" / "cache").glob("*.sqlite"))) == 1


# where there is no room for the table it lies in the cache; where there is none for its vectors, that is told
@pytest.mark.parametrize("pages, code", [(3, 0), (11, 2)])
def test_a_disk_that_is_too_full_for_the_index_is_told(disk, tmp_path, monkeypatch, capsys, pages, code):
    monkeypatch.setenv("MINCLIP_DATA", str(tmp_path / "data"))
    Image.new("RGB", (9, 9)).save(disk / "0.png")
    for i in range(1, 60):
        os.link(disk / "0.png", disk / f"{i}.png")
    (disk / "rest").write_bytes(bytes(900 * 1024 - 4096 * (1 + pages)))
    assert main(["search", str(DEMO), "--images", str(disk), "--query", "star", "--out", str(tmp_path)]) == code
    told = "".join(capsys.readouterr())
    assert "can't be written" in told and "disk is full" in told and "Traceback" not in told
