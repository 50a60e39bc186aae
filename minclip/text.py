"""Text towers: TextTransformer, whose feature is that of the end token (paper, section 2.4), and BagOfWords."""

import torch
from torch import Tensor, nn

from .config import MinclipError, TextConfig
from .transformer import Transformer


class TextTransformer(nn.Module):
    """Token ids (B, L) int64, each row with an EOT, -> features (B, W); L is any length up to the context length."""

    def __init__(self, config: TextConfig, activation: str = "gelu") -> None:
        super().__init__()
        self.config, self.width = config, config.width
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.context_length, config.width))
        options = {"activation": activation, "dropout": config.dropout}
        self.transformer = Transformer(config.width, config.layers, config.heads, **options)
        self.blocks = [*self.transformer.blocks]  # a plain list: the modules are registered above
        self.norm_final = nn.LayerNorm(config.width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        # Attention is causal: only the EOT, the last token before the padding, has read the whole text.
        end = find_end(ids, self.config, training=self.training)  # (B,)
        x = self.transformer.pooled(self.embed(ids), end, causal_mask(ids.shape[1], device=ids.device))
        return self.norm_final(x)

    def embed(self, ids: Tensor) -> Tensor:
        """Tokens plus their positions, (B, L) -> (B, L, W)."""
        return self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]

    def attention_maps(self, ids: Tensor) -> Tensor:
        """The attention weights of each block, (B, L) -> (layers, B, H, L, L); no token attends to a later one."""
        find_end(ids, self.config)
        return self.transformer.attention_maps(self.embed(ids), causal_mask(ids.shape[1], device=ids.device))


class BagOfWords(nn.Module):
    """Token ids (B, L) int64 -> features (B, W): the mean of the token embeddings, which ignores their order.

    The paper's bag-of-words text encoder (figure 2).  SOT and EOT count, padding doesn't.  In training, the config's
    `dropout` leaves out that fraction of the other tokens.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.norm_final = nn.LayerNorm(config.width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        end = find_end(ids, self.config, training=self.training)[:, None]  # (B, 1)
        position = torch.arange(ids.shape[1], device=ids.device)  # (L,)
        counted = position <= end  # (B, L)
        if self.training and self.config.dropout:
            kept = torch.rand(ids.shape, device=ids.device) >= self.config.dropout
            counted &= kept | (position == 0) | (position == end)  # SOT and EOT stay, so the mean is never empty
        x = (self.token_embedding(ids) * counted[..., None]).sum(dim=1) / counted.sum(dim=1, keepdim=True)
        return self.norm_final(x)


def find_end(ids: Tensor, config: TextConfig, *, training: bool = False) -> Tensor:
    """The position of each row's first EOT, (B, L) -> (B,).

    Found by its id, not by argmax as in OpenAI's code, where the EOT happens to have the largest id.  MinclipError:
    `ids` is not (B, L), is longer than the context, or has a row without an EOT (unchecked when training on a GPU).
    """
    if ids.ndim != 2:
        raise MinclipError(f"ids of shape {tuple(ids.shape)}: this tower takes (B, L)")
    if ids.shape[1] > config.context_length:  # not `need`: its message would compile the tower for this length alone
        raise MinclipError(f"texts of {ids.shape[1]} tokens: this tower has {config.context_length} positions")
    is_end = ids == config.eot_id % config.vocab_size  # eot_id -1 is the last id of the vocabulary
    # Reading a value would make the host wait for the GPU, or split a compiled tower: not in training
    unread = torch.compiler.is_compiling() or (ids.is_cuda and (training or torch.is_grad_enabled()))
    if not unread and not is_end.any(dim=1).all():
        row = int(is_end.any(dim=1).int().argmin())
        raise MinclipError(f"row {row} of the ids has no end token (id {config.eot_id % config.vocab_size})")
    return is_end.int().argmax(dim=1)


def causal_mask(length: int, device: torch.device | None = None) -> Tensor:
    """(L, L) bool: token i (row) may attend to token j (column) where j <= i."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def trim(ids: Tensor, eot_id: int, *, multiple: int = 1) -> Tensor:
    """Cuts the padding after the longest text, (B, L) -> (B, L'): no feature depends on it.  L' is a `multiple`."""
    if len(ids) == 0:
        return ids
    longest = int((ids == eot_id).int().argmax(dim=1).max()) + 1
    return ids[:, : -(-longest // multiple) * multiple].contiguous()  # all of one kind, for a compiled tower
