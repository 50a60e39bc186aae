"""Text towers: TextTransformer, whose feature is that of the end token (paper, section 2.4), and BagOfWords."""

import torch
from torch import Tensor, nn

from .config import MinclipError, TextConfig
from .transformer import Packing, Transformer


class TextTransformer(nn.Module):
    """Token ids (B, L) int64, each row with an EOT, to features (B, W) of the EOT token; L may be any length up to the context."""

    def __init__(self, config: TextConfig, activation: str = "gelu") -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.context_length, config.width))
        self.transformer = Transformer(config.width, config.layers, config.heads, activation, dropout=config.dropout)
        self.norm_final = nn.LayerNorm(config.width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        end, x = find_end(ids, self.config), self.embed(ids)
        causal = causal_mask(ids.shape[1], device=ids.device)
        if ids.device.type != "cpu" or torch.compiler.is_compiling() or len(ids) == 0:
            return self.norm_final(self.transformer.pooled(x, end, causal))
        # On a CPU padding is never computed, and a beginning that all texts share ("a photo of a") once, except in
        # training.  A GPU would rather have a batch whose shape it knows.
        shared = 0 if self.training or torch.is_grad_enabled() else shared_beginning(ids, end)
        past = self.transformer.keys_values(x[:1, :shared], causal[:shared, :shared]) if shared else None
        last = end - shared
        x = x[:, shared : shared + int(last.max()) + 1]
        causal = causal[shared : shared + x.shape[1], : shared + x.shape[1]]
        return self.norm_final(self.transformer.pooled(x, last, causal, past, Packing(last + 1)))

    def embed(self, ids: Tensor) -> Tensor:
        """Tokens and their positions, (B, L) -> (B, L, W)."""
        return self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]

    def attention_maps(self, ids: Tensor) -> Tensor:
        """Who looks at whom in each block, (B, L) -> (layers, B, H, L, L); no token looks at a later one."""
        find_end(ids, self.config)
        return self.transformer.attention_maps(self.embed(ids), causal_mask(ids.shape[1], device=ids.device))


class BagOfWords(nn.Module):
    """Token ids (B, L) int64 to features (B, W): the mean of the tokens' vectors, in which order plays no part.

    The paper's CBOW text encoder (figure 2, tables 9 and 10: "bag of words"); SOT and EOT count, padding doesn't.  In
    training the config's `dropout` is the share of the other tokens that are left out of the mean.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.norm_final = nn.LayerNorm(config.width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        end = find_end(ids, self.config)
        place = torch.arange(ids.shape[1], device=ids.device)
        counted = place <= end[:, None]
        if self.training and self.config.dropout:
            kept = torch.rand(ids.shape, device=ids.device) >= self.config.dropout
            counted = counted & (kept | (place == 0) | (place == end[:, None]))
        x = (self.token_embedding(ids) * counted[..., None]).sum(dim=1) / counted.sum(dim=1, keepdim=True)
        return self.norm_final(x)


def find_end(ids: Tensor, config: TextConfig) -> Tensor:
    """The position of each row's first EOT, (B, L) -> (B,); by its id: a larger id must not pass for it."""
    if ids.ndim != 2:
        raise MinclipError(f"ids of shape {tuple(ids.shape)}: this tower takes (B, L)")
    if ids.shape[1] > config.context_length:
        raise MinclipError(f"texts of {ids.shape[1]} tokens: this tower has {config.context_length} positions")
    is_end = ids == config.eot_id % config.vocab_size
    # not in training on a GPU: to look would make it wait, and the tokenizer's ids all have one
    if not (ids.is_cuda and torch.is_grad_enabled()) and not is_end.any(dim=1).all():
        row = int(is_end.any(dim=1).int().argmin())
        raise MinclipError(f"row {row} of the ids has no end token (id {config.eot_id % config.vocab_size})")
    return is_end.int().argmax(dim=1)


def shared_beginning(ids: Tensor, end: Tensor) -> int:
    """How many first tokens all rows of `ids` (B, L) share, their last one left out; 0 where a pass of its own isn't worth it."""
    shared = min(int((ids == ids[0]).all(dim=0).cumprod(dim=0).sum()), int(end.min()))
    return shared if len(ids) * shared >= 64 else 0


def causal_mask(length: int, device: torch.device | None = None) -> Tensor:
    """(L, L) bool: token i (row) may look at token j (column) where j <= i."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def trim(ids: Tensor, eot_id: int) -> Tensor:
    """Cuts the padding that all rows share, (B, L) -> (B, L'): causal attention never looks at it."""
    if len(ids) == 0:
        return ids
    return ids[:, : int((ids == eot_id).int().argmax(dim=1).max()) + 1]
