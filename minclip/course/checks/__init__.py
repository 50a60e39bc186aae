"""Checks of the exercises: `checks.name(function)` says that the answer is right, or names the mistake."""

from .batches import attention_share, matrix_part
from .bias import too_many
from .drawings import nt_xent, precision_at_k
from .glyphs import mixed, where_gained
from .judging import NOT_ATTEMPTED
from .labels import coarse_to_fine, shots_worth
from .limits import blind_accuracy, swap_colors
from .loss import log_softmax, loss_gradient, merge
from .overlap import flattery
from .photographs import rank_of, smoothed_target, split_of
from .portraits import chance_of_same, word_wins
from .real import nearest_pictures, zero_shot
from .robustness import effective_robustness, mix_weights
from .scale import convolution_flops, power_law
from .similarity import cosine_matrix, csls, scale_needed
from .start import recall_at_1, symmetric_loss
from .tokens import decode_tokens, join_pair, to_row
from .towers import attention, attention_rollout, causal_mask, find_end, patchify
from .training import cached_gradients, clip_together, warmup_cosine
from .web import capped_search, pmi
from .why import images_to_reach, jelinek_mercer, sentence_score
from .zeroshot import ensemble, mean_per_class, reject

__all__ = [
    "NOT_ATTEMPTED",
    "attention",
    "attention_rollout",
    "attention_share",
    "blind_accuracy",
    "cached_gradients",
    "capped_search",
    "causal_mask",
    "chance_of_same",
    "clip_together",
    "coarse_to_fine",
    "convolution_flops",
    "cosine_matrix",
    "csls",
    "decode_tokens",
    "effective_robustness",
    "ensemble",
    "find_end",
    "flattery",
    "images_to_reach",
    "jelinek_mercer",
    "join_pair",
    "log_softmax",
    "loss_gradient",
    "matrix_part",
    "mean_per_class",
    "merge",
    "mix_weights",
    "mixed",
    "nearest_pictures",
    "nt_xent",
    "patchify",
    "pmi",
    "power_law",
    "precision_at_k",
    "rank_of",
    "recall_at_1",
    "reject",
    "scale_needed",
    "sentence_score",
    "shots_worth",
    "smoothed_target",
    "split_of",
    "swap_colors",
    "symmetric_loss",
    "to_row",
    "too_many",
    "warmup_cosine",
    "where_gained",
    "word_wins",
    "zero_shot",
]
