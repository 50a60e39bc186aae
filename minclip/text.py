"""TextTransformer: a causal Transformer whose feature is that of the end token (paper, section 2.4)."""

import torch
from torch import Tensor, nn

from .config import MinclipError, TextConfig
from .transformer import Transformer


class TextTransformer(nn.Module):
    """Token ids (B, L) int64, each row with one EOT, to features (B, W) of the EOT token; L may be any length up to the context."""

    def __init__(self, config: TextConfig, activation: str = "gelu") -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.context_length, config.width))
        self.transformer = Transformer(config.width, config.layers, config.heads, activation)
        self.norm_final = nn.LayerNorm(config.width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        if length > self.config.context_length:
            raise MinclipError(f"texts of {length} tokens: this tower has {self.config.context_length} positions")
        causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        x = self.token_embedding(ids) + self.positional_embedding[:length]
        # EOT by its id: a larger id after it, or another vocabulary, must not move it
        end = (ids == self.config.eot_id % self.config.vocab_size).int().argmax(dim=1)
        return self.norm_final(self.transformer.one(x, causal, end))


def trim(ids: Tensor, eot_id: int) -> Tensor:
    """Cuts the padding that all rows share, (B, L) -> (B, L'): causal attention never looks at it."""
    return ids[:, : int((ids == eot_id).int().argmax(dim=1).max()) + 1]
