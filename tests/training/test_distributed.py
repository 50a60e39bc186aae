"""Several processes against one: the same loss, the same gradients, and what they agree on."""

import time

import pytest
import torch
import torch.nn.functional as F
from processes import in_processes

from minclip.config import MinclipError
from minclip.losses import clip_loss, siglip_loss
from minclip.training import distributed


def batch():
    torch.manual_seed(0)
    image = torch.randn(12, 8)
    return F.normalize(image, dim=-1), F.normalize(image + torch.randn(12, 8), dim=-1)


def part(name, image_ids, smoothing, *, chunk_size=None, whole=False):
    """Loss and gradients of this process's rows, or of the whole batch, averaged over the processes as DDP does it."""
    mine, size = slice(None), {"chunk_size": chunk_size, "distributed": not whole}
    if not whole:
        rows = 12 // distributed.world_size()
        mine = slice(distributed.rank() * rows, (distributed.rank() + 1) * rows)
    image, text = (x[mine].requires_grad_() for x in batch())
    scale, bias = torch.tensor(14.2857, requires_grad=True), torch.tensor(-2.0, requires_grad=True)
    ids = None if image_ids is None else image_ids[mine]
    if name == "clip":
        loss, shared = clip_loss(image, text, scale, image_ids=ids, label_smoothing=smoothing, **size), [scale]
    else:
        loss, shared = siglip_loss(image, text, scale, bias, **size), [scale, bias]
    grads = torch.autograd.grad(loss, [image, text, *shared])
    size = distributed.world_size()
    # rows belong to one process: their average over W processes, of which the others have none, is a W-th
    rows = [distributed.all_gather(grad) / size for grad in grads[:2]]
    return [loss.detach(), *rows, *(distributed.all_reduce_sum(grad.clone()) / size for grad in grads[2:])]


CASES = {
    "clip": ("clip", None, 0.0),
    "clip with image_ids": ("clip", torch.tensor([0, 1, 2, 0, 3, 4, 2, 5, 6, 0, 7, 1]), 0.0),
    "clip with label smoothing": ("clip", None, 0.2),
    "clip with both": ("clip", torch.tensor([0, 1, 2, 0, 3, 4, 2, 5, 6, 0, 7, 1]), 0.2),
    "siglip": ("siglip", None, 0.0),
}


def all_parts():
    return {(case, chunk_size): part(*CASES[case], chunk_size=chunk_size) for case in CASES for chunk_size in (None, 2)}


def helpers(folder):
    """Everything that distributed.py offers, on this process's numbers, and the losses."""
    me = distributed.rank()
    x = torch.tensor([[me, 10.0 * me]])
    crooked = torch.arange(4.0).view(2, 2).T + 10 * me
    own = [rows[4 * me : 4 * me + 4] for rows in batch()]
    with distributed.on_each_machine_once():
        there = (folder / "packed").exists()
        time.sleep(0.5 * (me == 0))
        (folder / "packed").touch()
    torch.cuda.is_available = lambda: False
    return {
        "losses": all_parts(),
        "all_gather": distributed.all_gather(x).tolist(),
        "all_gather, crooked": distributed.all_gather(crooked).tolist(),
        "all_reduce_sum": distributed.all_reduce_sum(x.clone()).tolist(),
        "all_reduce_max": distributed.all_reduce_max(x.clone()).tolist(),
        "reduce_scatter_rows": distributed.reduce_scatter_rows(
            torch.arange(3.0).repeat_interleave(2).view(3, 2)
        ).tolist(),
        "ring_shift": distributed.ring_shift(x).tolist(),
        "ring_shift, crooked": distributed.ring_shift(crooked).tolist(),
        "all_gather_object": distributed.all_gather_object(f"process {me}"),
        "synchronize_clock": [
            distributed.synchronize_clock(1e9 + me, me == 1),
            distributed.synchronize_clock(-me, False),
        ],
        "local_rank": distributed.local_rank(),
        "on_each_machine_once": there,
        "start": distributed.start("auto"),
        # a loss that is not distributed communicates with nobody
        "clip": clip_loss(*own, 10.0, chunk_size=2).item() - clip_loss(*own, 10.0).item(),
        "siglip": siglip_loss(*own, 10.0, -2.0, chunk_size=2).item() - siglip_loss(*own, 10.0, -2.0).item(),
    }


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What each of three processes has: real ones, so all that needs them shares one start."""
    return in_processes(3, helpers, tmp_path_factory.mktemp("disk"))


@pytest.mark.slow
def test_the_loss_of_three_processes_is_the_loss_of_one(answers):
    whole = {case: part(*CASES[case], whole=True) for case in CASES}
    for answer in answers:
        assert len(answer["losses"]) == 2 * len(CASES)
        for (case, _), parts in answer["losses"].items():
            for a, b in zip(parts, whole[case]):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_collectives_among_three(answers):
    for name, value in {
        "all_gather": [[0, 0], [1, 10], [2, 20]],
        "all_gather, crooked": [[0, 2], [1, 3], [10, 12], [11, 13], [20, 22], [21, 23]],
        "all_reduce_sum": [[3, 30]],
        "all_reduce_max": [[2, 20]],
        "all_gather_object": ["process 0", "process 1", "process 2"],
        "synchronize_clock": [(1e9 + 2, True), (0, False)],
        "start": "cpu",
    }.items():
        assert all(answer[name] == value for answer in answers), name
    assert [answer["reduce_scatter_rows"] for answer in answers] == [[[0, 0]], [[3, 3]], [[6, 6]]]
    assert [answer["ring_shift"] for answer in answers] == [[[2, 20]], [[0, 0]], [[1, 10]]]
    assert [answer["ring_shift, crooked"][0] for answer in answers] == [[20, 22], [0, 2], [10, 12]]
    assert [answer["local_rank"] for answer in answers] == [0, 1, 2]
    assert [answer["on_each_machine_once"] for answer in answers] == [False, True, True]
    assert all(abs(answer[loss]) < 1e-6 for answer in answers for loss in ("clip", "siglip"))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(MinclipError, match=r"2 processes.*1 GPU"):
        distributed.start("auto")


def test_the_helpers_alone_change_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "1")  # some schedulers set it
    x = torch.ones(2, 3)
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    for function in (
        distributed.all_gather,
        distributed.all_reduce_sum,
        distributed.all_reduce_max,
        distributed.reduce_scatter_rows,
        distributed.ring_shift,
    ):
        assert torch.equal(function(x.clone()), x)
    assert distributed.all_gather_object("a") == ["a"]
    assert distributed.start("auto") == "auto"  # no torchrun
