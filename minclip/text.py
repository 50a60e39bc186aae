"""Text towers: TextTransformer, whose feature is that of the end token (paper, section 2.4), and BagOfWords."""

import torch
from torch import Tensor, nn

from .config import MinclipError, TextConfig
from .transformer import Transformer


class TextTransformer(nn.Module):
    """Token ids (B, L) int64, each row with an EOT, to features (B, W) of the EOT token; L may be any length up to the context."""

    def __init__(self, config: TextConfig, activation: str = "gelu") -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.context_length, config.width))
        self.transformer = Transformer(config.width, config.layers, config.heads, activation)
        self.norm_final = nn.LayerNorm(config.width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        end = find_end(ids, self.config)
        if torch.is_grad_enabled() or ids.is_cuda or len(ids) == 0:
            causal = causal_mask(ids.shape[1], device=ids.device)
            return self.norm_final(self.transformer.pooled(self.embed(ids), end, causal))
        # On a CPU, and without a graph to build, texts of one length go together, so that padding is never computed.
        # A GPU would rather have one large batch (trimmed by its caller) than many small ones.
        order = end.argsort(stable=True)
        lengths, counts = end[order].unique_consecutive(return_counts=True)
        groups = zip(ids[order].split(counts.tolist()), lengths.tolist())
        x = torch.cat([self._of_one_length(rows[:, : last + 1]) for rows, last in groups])
        return self.norm_final(x[order.argsort()])

    def embed(self, ids: Tensor) -> Tensor:
        """Tokens and their positions, (B, L) -> (B, L, W)."""
        return self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]

    def _of_one_length(self, ids: Tensor) -> Tensor:
        """(B, L) ids whose last column is EOT -> (B, W).  A beginning that all share ("a photo of a") is computed once."""
        last = torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)
        causal, x = causal_mask(ids.shape[1], device=ids.device), self.embed(ids)
        shared = min(int((ids == ids[0]).all(dim=0).cumprod(dim=0).sum()), ids.shape[1] - 1)
        if len(ids) * shared < 64:  # not worth a pass of its own
            return self.transformer.pooled(x, last, causal)
        past = self.transformer.keys_values(x[:1, :shared], causal[:shared, :shared])
        return self.transformer.pooled(x[:, shared:], last - shared, causal[shared:], past)

    def attention_maps(self, ids: Tensor) -> Tensor:
        """Who looks at whom in each block, (B, L) -> (layers, B, H, L, L); no token looks at a later one."""
        find_end(ids, self.config)
        return self.transformer.attention_maps(self.embed(ids), causal_mask(ids.shape[1], device=ids.device))


class BagOfWords(nn.Module):
    """Token ids (B, L) int64 to features (B, W): the mean of the tokens' vectors, in which order plays no part.

    The paper's CBOW text encoder (figure 2, tables 9 and 10: "bag of words"); SOT and EOT count, padding doesn't.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.norm_final = nn.LayerNorm(config.width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        end = find_end(ids, self.config)
        counted = (torch.arange(ids.shape[1], device=ids.device) <= end[:, None])[..., None]
        x = (self.token_embedding(ids) * counted).sum(dim=1) / counted.sum(dim=1)
        return self.norm_final(x)


def find_end(ids: Tensor, config: TextConfig) -> Tensor:
    """The position of each row's first EOT, (B, L) -> (B,); by its id: a larger id must not pass for it."""
    if ids.ndim != 2:
        raise MinclipError(f"ids of shape {tuple(ids.shape)}: this tower takes (B, L)")
    if ids.shape[1] > config.context_length:
        raise MinclipError(f"texts of {ids.shape[1]} tokens: this tower has {config.context_length} positions")
    is_end = ids == config.eot_id % config.vocab_size
    if not is_end.any(dim=1).all():
        row = int(is_end.any(dim=1).int().argmin())
        raise MinclipError(f"row {row} of the ids has no end token (id {config.eot_id % config.vocab_size})")
    return is_end.int().argmax(dim=1)


def causal_mask(length: int, device: torch.device | None = None) -> Tensor:
    """(L, L) bool: token i (row) may look at token j (column) where j <= i."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def trim(ids: Tensor, eot_id: int) -> Tensor:
    """Cuts the padding that all rows share, (B, L) -> (B, L'): causal attention never looks at it."""
    if len(ids) == 0:
        return ids
    return ids[:, : int((ids == eot_id).int().argmax(dim=1).max()) + 1]
