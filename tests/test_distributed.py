"""Several processes against one: the same loss, the same gradients, and what they agree on."""

import pytest
import torch
import torch.nn.functional as F
from processes import in_processes

from minclip import distributed
from minclip.losses import clip_loss, siglip_loss


def batch():
    torch.manual_seed(0)
    image = torch.randn(12, 8)
    return F.normalize(image, dim=-1), F.normalize(image + torch.randn(12, 8), dim=-1)


def part(name, image_ids, smoothing, chunk_size, everywhere):
    """Loss and gradients of this process's rows, averaged over the processes as DDP does it."""
    mine = slice(None)
    if everywhere:
        rows = 12 // distributed.world_size()
        mine = slice(distributed.rank() * rows, (distributed.rank() + 1) * rows)
    image, text = (x[mine].requires_grad_() for x in batch())
    scale, bias = torch.tensor(14.2857, requires_grad=True), torch.tensor(-2.0, requires_grad=True)
    ids = None if image_ids is None else image_ids[mine]
    if name == "clip":
        loss, shared = clip_loss(image, text, scale, ids, chunk_size, everywhere, smoothing), [scale]
    else:
        loss, shared = siglip_loss(image, text, scale, bias, chunk_size, everywhere), [scale, bias]
    grads = torch.autograd.grad(loss, [image, text, *shared])
    size = distributed.world_size()
    # rows belong to one process: their average over W processes, of which the others have none, is a W-th
    rows = [distributed.gather(grad) / size for grad in grads[:2]]
    return [loss.detach(), *rows, *(distributed.add_up(grad.clone()) / size for grad in grads[2:])]


CASES = {
    "clip": ("clip", None, 0.0),
    "clip with image_ids": ("clip", torch.tensor([0, 1, 2, 0, 3, 4, 2, 5, 6, 0, 7, 1]), 0.0),
    "clip with label smoothing": ("clip", None, 0.2),
    "siglip": ("siglip", None, 0.0),
}


def all_parts():
    return {
        (case, chunk_size): part(*CASES[case], chunk_size, everywhere=True) for case in CASES for chunk_size in (0, 2)
    }


@pytest.mark.parametrize("world", [2, 4])
def test_the_loss_of_many_is_the_loss_of_one(world):
    whole = {case: part(*CASES[case], 0, everywhere=False) for case in CASES}
    for answers in in_processes(world, all_parts):
        assert len(answers) == 2 * len(CASES)
        for (case, _), answer in answers.items():
            for a, b in zip(answer, whole[case]):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def helpers():
    """Everything that distributed.py offers, on this process's numbers."""
    me = distributed.rank()
    x = torch.tensor([[me, 10.0 * me]])
    return {
        "gather": distributed.gather(x).tolist(),
        "add_up": distributed.add_up(x.clone()).tolist(),
        "largest": distributed.largest(x.clone()).tolist(),
        "own_rows": distributed.own_rows(
            torch.arange(4.0).repeat_interleave(2).view(4, 2)[: distributed.world_size()]
        ).tolist(),
        "pass_on": distributed.pass_on(x).tolist(),
        "everyones": distributed.everyones(f"process {me}"),
    }


def test_the_helpers_among_two():
    first, second = in_processes(2, helpers)
    for name, value in {
        "gather": [[0, 0], [1, 10]],
        "add_up": [[1, 10]],
        "largest": [[1, 10]],
        "everyones": ["process 0", "process 1"],
    }.items():
        assert first[name] == second[name] == value
    assert (first["own_rows"], second["own_rows"]) == ([[0, 0]], [[2, 2]])
    assert (first["pass_on"], second["pass_on"]) == ([[1, 10]], [[0, 0]])


def test_the_helpers_alone_change_nothing():
    x = torch.ones(2, 3)
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    for function in (
        distributed.gather,
        distributed.add_up,
        distributed.largest,
        distributed.own_rows,
        distributed.pass_on,
    ):
        assert torch.equal(function(x.clone()), x)
    assert distributed.everyones("a") == ["a"]
    assert distributed.start("auto") == "auto"  # no torchrun
