"""The course's plots: each function draws one figure from arrays and returns it."""

from .base import faint, image_grid, lines, new_figure, png, save, show, show_image, wrap
from .bias import row_spread
from .experiments import growth, noted
from .glyphs import by_length, game_board, game_end, three_rounds
from .labels import classified
from .limits import beside_chance
from .loss import batch_and_scale, memory, numbered, on_circle
from .matching import curves, loss_curve, probabilities, similarity_matrix
from .outside import by_count, face_and_texts, nearest_rows, neighbor_rows
from .overlap import image_pairs, intervals, threshold_pairs
from .photographs import band, five_each, lengths_and_words, retrieved, singular_values, split_strips, with_texts
from .probe import few_shot_curve
from .search import contact_sheet
from .shots import c_curve, crossings, margins, narrow_panels, shot_cards, shot_panels
from .similarity import arrows, cosine_histograms, gradient_norms, occurrences, temperature, two_clouds
from .tasks import task_bars
from .tokens import boxes, byte_table, bytes_of, merge_steps, merge_tree, token_boxes, vocabulary_curve
from .towers import accuracy_curves, heat_maps, looked_at, moved_cosines, patch_grid, token_attention, token_counts
from .training import matrix_and_loss, run_norms, waterfall
from .web import before_and_after, counts_by_rank, data_sizes, grouped_bars, word_pairs
from .why import factors, over_cost, reach, top_answers, what_each_predicts
from .zeroshot import confusion, ensemble_spread, prompt_table, row_dots, trade_off, two_kinds

__all__ = [
    "accuracy_curves",
    "arrows",
    "band",
    "batch_and_scale",
    "before_and_after",
    "beside_chance",
    "boxes",
    "by_count",
    "by_length",
    "byte_table",
    "bytes_of",
    "c_curve",
    "classified",
    "confusion",
    "contact_sheet",
    "cosine_histograms",
    "counts_by_rank",
    "crossings",
    "curves",
    "data_sizes",
    "ensemble_spread",
    "face_and_texts",
    "factors",
    "faint",
    "few_shot_curve",
    "five_each",
    "game_board",
    "game_end",
    "gradient_norms",
    "grouped_bars",
    "growth",
    "heat_maps",
    "image_grid",
    "image_pairs",
    "intervals",
    "lengths_and_words",
    "lines",
    "looked_at",
    "loss_curve",
    "margins",
    "matrix_and_loss",
    "memory",
    "merge_steps",
    "merge_tree",
    "moved_cosines",
    "narrow_panels",
    "nearest_rows",
    "neighbor_rows",
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
    "row_spread",
    "run_norms",
    "save",
    "shot_cards",
    "shot_panels",
    "show",
    "show_image",
    "similarity_matrix",
    "singular_values",
    "split_strips",
    "task_bars",
    "temperature",
    "three_rounds",
    "threshold_pairs",
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
    "word_pairs",
    "wrap",
]
