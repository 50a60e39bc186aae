"""Checks of the exercises: `checks.name(function)` says that the answer is right, or names the mistake."""

from .judging import NOT_ATTEMPTED
from .loss import log_softmax, loss_gradient, merge
from .photographs import rank_of, smoothed_target, split_of
from .similarity import cosine_matrix, csls, scale_needed
from .start import recall_at_1, symmetric_loss
from .tokens import decode_tokens, join_pair, to_row
from .towers import attention, attention_rollout, causal_mask, find_end, patchify
from .training import cached_gradients, clip_together, warmup_cosine
from .why import images_to_reach, jelinek_mercer, sentence_score
from .zeroshot import ensemble, mean_per_class, reject

__all__ = [
    "NOT_ATTEMPTED",
    "attention",
    "attention_rollout",
    "cached_gradients",
    "causal_mask",
    "clip_together",
    "cosine_matrix",
    "csls",
    "decode_tokens",
    "ensemble",
    "find_end",
    "images_to_reach",
    "jelinek_mercer",
    "join_pair",
    "log_softmax",
    "loss_gradient",
    "mean_per_class",
    "merge",
    "patchify",
    "rank_of",
    "recall_at_1",
    "reject",
    "scale_needed",
    "sentence_score",
    "smoothed_target",
    "split_of",
    "symmetric_loss",
    "to_row",
    "warmup_cosine",
]
