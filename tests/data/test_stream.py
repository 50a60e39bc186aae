"""What the loop reads: batches at the side it asks for, made ahead without being other ones, data opened once."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from shard_files import folder
from training_runs import tiny

from minclip.batches import Pairs
from minclip.config import DataConfig, MinclipError
from minclip.data import load_pairs, open_data
from minclip.data.stream import Stream, all_different, move_to_gpu_once, prefetch
from minclip.tokenizer import Tokenizer

CPU = torch.device("cpu")


def config_of(kind, tmp_path, **data):
    """A tiny run on 128 scenes in memory, or on six shards of five pairs."""
    config = tiny({"batch_size": 4})
    if kind == "shards":
        folder(tmp_path)
        return replace(config, data=DataConfig("shards", str(tmp_path), image_size=16, workers=0, **data))
    return replace(config, data=replace(config.data, **data))


def taken(config, sides, step=0):
    stream = Stream(config)
    stream.start(Tokenizer([]), CPU, step)
    return [stream.next(side) for side in sides]


kinds = pytest.mark.parametrize("kind", ["memory", "shards"])


@kinds
def test_a_batch_has_the_side_that_is_asked_for_and_the_same_pairs(kind, tmp_path):
    config = config_of(kind, tmp_path, min_crop=0.5)
    small, large = taken(config, [8, 8, None]), taken(config, [None, 16, 16])
    assert [b.images.shape[-1] for b in small + large] == [8, 8, 16, 16, 16, 16]
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(small, large))
    assert torch.equal(small[2].images, large[2].images)


@kinds
def test_a_resumed_stream_gives_the_batches_that_are_left(kind, tmp_path):
    config = config_of(kind, tmp_path, min_crop=0.5, flip=True, color=0.3)
    whole, rest = taken(config, [8] * 9), taken(config, [8] * 4, step=5)
    assert all(torch.equal(a.images, b.images) and torch.equal(a.ids, b.ids) for a, b in zip(whole[5:], rest))


@kinds
def test_the_captions_for_the_tokenizer_are_read_when_they_are_asked_for(kind, tmp_path, monkeypatch):
    import minclip.data.shards as module

    asked, texts = [], module.texts
    monkeypatch.setattr(module, "texts", lambda *a, **k: asked.append(1) or texts(*a, **k))
    stream = Stream(config_of(kind, tmp_path))
    assert asked == [] and len(stream.texts()) == (25 if kind == "shards" else 5 * 128)
    assert len(asked) == (kind == "shards")


def test_the_splits_of_the_final_figures_are_loaded_from_the_open_root(tmp_path, monkeypatch):
    stream = Stream(config_of("shards", tmp_path))
    monkeypatch.setattr("minclip.data.open_data", lambda *_: pytest.fail("opened again"))
    assert stream.evaluation() == {"val": stream.validation} and len(stream.validation) == 5
    assert {split: len(pairs) for split, pairs in Stream(tiny()).evaluation().items()} == {
        "test": 1000,
        "heldout": 1000,
    }


def test_a_data_set_is_opened_once_for_all_its_splits():
    data = open_data(DataConfig("shapes", image_size=16))
    assert data.evaluation_splits == ("test", "heldout")
    assert (data.load("val", size=3).images == load_pairs("shapes", "val", image_size=16, size=3).images).all()


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_below_1_is_refused(size):
    with pytest.raises(MinclipError, match=f"size .*{size}"):
        load_pairs("shapes", "val", size=size)


@pytest.mark.parametrize(
    ("loop", "fact"),
    [({"micro_batch": 3}, r"train\.micro_batch 3 .*32"), ({"batch_size": 129}, r"train\.batch_size 129 .*128")],
)
def test_a_batch_that_does_not_fit_is_refused_before_training(loop, fact):
    with pytest.raises(MinclipError, match=fact):
        Stream(tiny(loop))


# ---- overfitting


def test_pairs_to_overfit_have_captions_that_all_differ():
    pairs = Pairs(np.zeros((3, 3, 4, 4), np.uint8), [["a", "b"], ["a"], ["a", "c"]], ["x", "y", "z"])
    few = all_different(pairs, 2)
    assert few.captions == [["a"], ["c"]] and few.names == ["x", "z"]
    with pytest.raises(MinclipError, match=r"train\.overfit 3.* 2 "):
        all_different(pairs, 3)


# ---- prefetching


def test_prefetched_items_are_the_same_and_made_before_they_are_asked_for():
    made = []
    items = prefetch((made.append(i) or i for i in range(10)), count=2)
    assert next(items) == 0
    deadline = time.monotonic() + 10
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(made) == 3
    assert list(items) == list(range(1, 10))


def test_an_error_while_prefetching_is_raised_where_the_item_is_asked_for():
    def broken():
        yield 1
        raise MinclipError("the disk is gone")

    items = prefetch(broken())
    assert next(items) == 1
    with pytest.raises(MinclipError, match="the disk is gone"):
        next(items)


def test_no_thread_is_left_after_the_end():
    before = threading.active_count()
    items = prefetch(iter(range(1000)))
    next(items)
    items.close()
    assert threading.active_count() == before


def test_images_that_lie_on_the_device_make_the_same_batches(tmp_path):
    config = config_of("memory", tmp_path)
    stream, moved = Stream(config), Stream(config)
    assert move_to_gpu_once(stream.pairs.images, CPU) is stream.pairs.images  # on a CPU there is nothing to move
    moved.pairs = replace(moved.pairs, images=torch.from_numpy(np.array(moved.pairs.images)))
    for one in (stream, moved):
        one.start(Tokenizer([]), CPU, 0)
    assert all(torch.equal(stream.next().images, moved.next().images) for _ in range(3))
