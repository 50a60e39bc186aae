"""The course's plots: each function draws one figure from arrays and returns it."""

from .base import faint, image_grid, lines, new_figure, png, save, show, show_image, wrap
from .experiments import growth, noted
from .labels import classified
from .loss import batch_and_scale, memory, numbered, on_circle
from .matching import curves, loss_curve, probabilities, similarity_matrix
from .photographs import band, five_each, lengths_and_words, retrieved, singular_values, split_strips, with_texts
from .probe import few_shot_curve
from .search import contact_sheet
from .similarity import arrows, cosine_histograms, gradient_norms, occurrences, temperature, two_clouds
from .tasks import task_bars
from .tokens import boxes, byte_table, bytes_of, merge_steps, merge_tree, token_boxes, vocabulary_curve
from .towers import accuracy_curves, heat_maps, looked_at, moved_cosines, patch_grid, token_attention, token_counts
from .training import matrix_and_loss, run_norms, waterfall
from .why import factors, over_cost, reach, top_answers, what_each_predicts
from .zeroshot import confusion, ensemble_spread, prompt_table, row_dots, trade_off, two_kinds

__all__ = [
    "accuracy_curves",
    "arrows",
    "band",
    "batch_and_scale",
    "boxes",
    "byte_table",
    "bytes_of",
    "classified",
    "confusion",
    "contact_sheet",
    "cosine_histograms",
    "curves",
    "ensemble_spread",
    "factors",
    "faint",
    "few_shot_curve",
    "five_each",
    "gradient_norms",
    "growth",
    "heat_maps",
    "image_grid",
    "lengths_and_words",
    "lines",
    "looked_at",
    "loss_curve",
    "matrix_and_loss",
    "memory",
    "merge_steps",
    "merge_tree",
    "moved_cosines",
    "new_figure",
    "noted",
    "numbered",
    "occurrences",
    "on_circle",
    "over_cost",
    "patch_grid",
    "png",
    "probabilities",
    "prompt_table",
    "reach",
    "retrieved",
    "row_dots",
    "run_norms",
    "save",
    "show",
    "show_image",
    "similarity_matrix",
    "singular_values",
    "split_strips",
    "task_bars",
    "temperature",
    "token_attention",
    "token_boxes",
    "token_counts",
    "top_answers",
    "trade_off",
    "two_clouds",
    "two_kinds",
    "vocabulary_curve",
    "waterfall",
    "what_each_predicts",
    "with_texts",
    "wrap",
]
