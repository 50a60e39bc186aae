"""Checks of the exercises: `checks.name(function)` says what is right or names the mistake."""

from .judging import NOT_ATTEMPTED
from .start import recall_at_1, symmetric_loss
from .tokens import decode_tokens, join_pair, to_row
from .towers import attend_with_past, attention, attention_rollout, causal_mask, find_end, patchify

__all__ = [
    "NOT_ATTEMPTED",
    "attend_with_past",
    "attention",
    "attention_rollout",
    "causal_mask",
    "decode_tokens",
    "find_end",
    "join_pair",
    "patchify",
    "recall_at_1",
    "symmetric_loss",
    "to_row",
]
