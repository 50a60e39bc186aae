"""The trunk: attention looks where it may, blocks add to what runs through, weights start as documented."""

import pytest
import torch
import torch.nn.functional as F

from minclip.transformer import MLP, Attention, Block, QuickGELU, Transformer, attention_weights, rollout

WIDTH, HEADS, LENGTH = 32, 4, 7
CAUSAL = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def qkv():
    return torch.randn(3, 2, HEADS, LENGTH, WIDTH // HEADS)


@pytest.mark.parametrize("mask", [None, CAUSAL], ids=["no mask", "causal"])
def test_attention_is_softmax_of_scaled_products_times_the_values(mask):
    attention, x = Attention(WIDTH, HEADS), torch.randn(2, LENGTH, WIDTH)
    q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in attention.qkv(x).chunk(3, dim=-1))
    scores = q @ k.transpose(-2, -1) / (WIDTH // HEADS) ** 0.5
    weights = (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(dim=-1)
    torch.testing.assert_close(attention(x, mask), attention.out((weights @ v).transpose(1, 2).flatten(2)))
    torch.testing.assert_close(attention.weights(x, mask), weights)


def test_the_first_token_of_a_causal_row_attends_to_itself_only():
    q, k, _ = qkv()
    assert torch.equal(attention_weights(q, k, CAUSAL)[:, :, 0], torch.eye(LENGTH)[0].expand(2, HEADS, LENGTH))


def test_attention_weights_are_finite_for_huge_scores():
    q, k, _ = qkv()
    weights = attention_weights(1e4 * q, 1e4 * k, CAUSAL)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, HEADS, LENGTH))


@pytest.mark.parametrize("position", range(LENGTH - 1))
def test_a_causal_trunk_does_not_see_later_tokens(position):
    trunk = Transformer(WIDTH, 2, HEADS)
    x = torch.randn(2, LENGTH, WIDTH)
    changed = x.clone()
    changed[:, position + 1 :] = 100 * torch.randn_like(changed[:, position + 1 :])
    torch.testing.assert_close(trunk(changed, CAUSAL)[:, : position + 1], trunk(x, CAUSAL)[:, : position + 1])


def test_a_causal_trunk_sees_earlier_tokens():
    trunk = Transformer(WIDTH, 2, HEADS)
    x = torch.randn(1, LENGTH, WIDTH)
    changed = x.clone()
    changed[:, 0] = torch.randn(WIDTH)  # not a constant more: the norms would take it out
    assert (trunk(changed, CAUSAL) - trunk(x, CAUSAL)).abs().amax(dim=-1).min() > 1e-4


def test_without_a_mask_the_order_of_tokens_does_not_matter():
    trunk = Transformer(WIDTH, 2, HEADS)
    x, order = torch.randn(2, LENGTH, WIDTH), torch.randperm(LENGTH)
    torch.testing.assert_close(trunk(x[:, order]), trunk(x)[:, order])


def test_examples_of_a_batch_do_not_see_each_other():
    trunk = Transformer(WIDTH, 2, HEADS)
    x = torch.randn(3, LENGTH, WIDTH)
    torch.testing.assert_close(trunk(x)[1:2], trunk(x[1:2]))


def test_each_head_reads_its_own_slice():
    # one head's queries can't reach another head's share of the output
    attention = Attention(WIDTH, HEADS)
    attention.out.weight.data.copy_(torch.eye(WIDTH))
    x, d = torch.randn(1, LENGTH, WIDTH), WIDTH // HEADS
    before = attention(x)
    attention.qkv.weight.data[:d] *= -1
    same = (attention(x) - before).abs().amax(dim=(0, 1)) == 0
    assert same.tolist() == [False] * d + [True] * (WIDTH - d)


def test_a_block_whose_branches_are_silent_changes_nothing():
    # pre-norm: the residual sum itself passes no norm
    block = Block(WIDTH, HEADS)
    for layer in (block.attention.out, block.mlp.down):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    x = 100 * torch.randn(2, LENGTH, WIDTH)
    assert torch.equal(block(x), x)


def test_a_block_is_two_normed_branches_in_turn():
    block = Block(WIDTH, HEADS)
    x = torch.randn(2, LENGTH, WIDTH)
    middle = x + block.attention(block.norm1(x), CAUSAL)
    torch.testing.assert_close(block(x, CAUSAL), middle + block.mlp(block.norm2(middle)))


def test_quick_gelu_is_its_formula():
    x = torch.linspace(-8, 8, 101, dtype=torch.float64)
    torch.testing.assert_close(QuickGELU()(x), x / (1 + (-1.702 * x).exp()))


def test_quick_gelu_leaves_its_input_alone():
    x = torch.linspace(-4, 4, 101)
    before = x.clone()
    with torch.no_grad():
        without = QuickGELU()(x)
    assert torch.equal(x, before) and torch.equal(without, QuickGELU()(x))


def test_quick_gelus_gradient_is_that_of_its_formula():
    x = torch.linspace(-8, 8, 101, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(QuickGELU(), x)


def test_quick_gelu_is_near_gelu_but_not_equal():
    x = torch.linspace(-4, 4, 101)
    difference = (QuickGELU()(x) - F.gelu(x)).abs().max()
    assert 0.01 < difference < 0.03


def test_an_mlp_has_four_times_the_width_inside():
    assert MLP(WIDTH).up.weight.shape == (4 * WIDTH, WIDTH)


# ---- one token of it


@pytest.mark.parametrize("mask", [None, CAUSAL], ids=["no mask", "causal"])
def test_one_token_alone_equals_that_token_of_all(mask):
    trunk, x, chosen = Transformer(WIDTH, 3, HEADS), torch.randn(4, LENGTH, WIDTH), torch.tensor([0, 3, 6, 2])
    torch.testing.assert_close(trunk.pooled(x, chosen, mask), trunk(x, mask)[torch.arange(4), chosen])


def test_one_token_alone_has_the_same_gradients():
    trunk, chosen = Transformer(WIDTH, 2, HEADS, activation="quick_gelu"), torch.tensor([1, 6])
    x = torch.randn(2, LENGTH, WIDTH, requires_grad=True)
    parameters = [x, *trunk.parameters()]
    whole = torch.autograd.grad(trunk(x, CAUSAL)[torch.arange(2), chosen].pow(2).sum(), parameters)
    alone = torch.autograd.grad(trunk.pooled(x, chosen, CAUSAL).pow(2).sum(), parameters)
    torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-5)


# ---- attention that can be seen


@pytest.mark.parametrize("mask", [None, CAUSAL], ids=["no mask", "causal"])
def test_maps_are_what_each_block_attended_with(mask):
    trunk, x = Transformer(WIDTH, 2, HEADS), torch.randn(3, LENGTH, WIDTH)
    maps = trunk.attention_maps(x, mask)
    assert maps.shape == (2, 3, HEADS, LENGTH, LENGTH)
    for block, weights in zip(trunk.blocks, maps):
        torch.testing.assert_close(weights, block.attention.weights(block.norm1(x), mask))
        x = block(x, mask)


def test_maps_sum_to_one_and_look_at_nothing_later():
    maps = Transformer(WIDTH, 2, HEADS).attention_maps(torch.randn(3, LENGTH, WIDTH), CAUSAL)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 3, HEADS, LENGTH))
    assert (maps.masked_select(~CAUSAL) == 0).all()


def test_nothing_is_kept_when_no_maps_are_asked_for():
    trunk = Transformer(WIDTH, 2, HEADS)
    before = {name: set(vars(module)) for name, module in trunk.named_modules()}
    trunk(torch.randn(1, LENGTH, WIDTH))
    assert {name: set(vars(module)) for name, module in trunk.named_modules()} == before


def test_rollout_by_hand():
    # Abnar and Zuidema 2020: the mean over heads, half of it the token itself, layer upon layer
    first = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])  # two heads; their mean is all 0.5
    second = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])  # all look at token 0
    out = rollout(torch.stack([first, second])[:, None])
    # layer 1: [[.75, .25], [.25, .75]]; layer 2: [[1, 0], [.5, .5]]
    torch.testing.assert_close(out, torch.tensor([[[0.75, 0.25], [0.5, 0.5]]]))


def test_rollout_keeps_the_sum():
    maps = attention_weights(torch.randn(3, 2, HEADS, 5, 8), torch.randn(3, 2, HEADS, 5, 8), None)
    torch.testing.assert_close(rollout(maps).sum(dim=-1), torch.ones(2, 5))


# ---- initialization (mistake 23)

STD = {  # of a trunk with this width W and L layers
    "attention.qkv.weight": lambda w, layers: w**-0.5,
    "attention.out.weight": lambda w, layers: w**-0.5 * (2 * layers) ** -0.5,
    "mlp.up.weight": lambda w, layers: (2 * w) ** -0.5,
    "mlp.down.weight": lambda w, layers: w**-0.5 * (2 * layers) ** -0.5,
}


@pytest.mark.parametrize(("width", "layers"), [(64, 3), (128, 2)])
@pytest.mark.parametrize("name", STD)
def test_weights_start_with_openais_deviation(name, width, layers):
    trunk = Transformer(width, layers, HEADS)
    weights = torch.cat([block.get_parameter(name).flatten() for block in trunk.blocks])
    # the deviation of n normal numbers is itself spread by 1 / sqrt(2 n)
    assert weights.std().item() == pytest.approx(STD[name](width, layers), rel=5 * (2 * weights.numel()) ** -0.5)


def test_weights_start_normal_and_centered():
    weights = Transformer(128, 2, HEADS).blocks[0].attention.qkv.weight.flatten()
    z = weights / weights.std()
    assert z.mean().abs() < 0.02 and (z**4).mean().item() == pytest.approx(
        3, abs=0.15
    )  # uniform numbers would have 1.8


def test_biases_start_at_zero_and_norms_at_one():
    for name, parameter in Transformer(WIDTH, 2, HEADS).named_parameters():
        if parameter.ndim == 1:
            assert (parameter == float("norm" in name and name.endswith("weight"))).all(), name


def test_every_parameter_is_used():
    trunk = Transformer(WIDTH, 2, HEADS)
    trunk(torch.randn(2, LENGTH, WIDTH)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trunk.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_computes_what_the_cpu_does():
    trunk = Transformer(WIDTH, 2, HEADS)
    x = torch.randn(2, LENGTH, WIDTH)
    torch.testing.assert_close(
        trunk.cuda()(x.cuda(), CAUSAL.cuda()).cpu(), trunk.cpu()(x, CAUSAL), rtol=1e-3, atol=1e-4
    )


# ---- autocast


def test_under_autocast_the_residual_stream_is_bf16_and_without_it_fp32():
    trunk, seen = Transformer(32, 2, 4), []
    trunk.blocks[1].register_forward_hook(lambda module, args, out: seen.append((args[0].dtype, out.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        trunk(torch.randn(2, 5, 32))
    trunk(torch.randn(2, 5, 32))
    assert seen == [(torch.bfloat16,) * 2, (torch.float32,) * 2]
