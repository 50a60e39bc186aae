"""The course's plots: each function draws one figure from arrays and returns it."""

from .base import faint, image_grid, lines, new_figure, png, save, show, show_image, wrap
from .batches import amount, batch_curves, memory_panels, over_pixels, ways
from .bias import row_spread
from .drawings import block_or_part, found_pages, kept_dots, occlusion_maps, two_losses
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
from .real import attention_and_cover, by_kind, data_sets, pixels, sign_rates, signs, template_dots
from .robustness import dots_by_name, image_columns, mixture_cards, mixtures, robustness_plane, two_scales
from .scale import cost_bars, days_bars, error_over_compute, paired_errors, probe_over_flops
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
    "amount",
    "arrows",
    "attention_and_cover",
    "band",
    "batch_and_scale",
    "batch_curves",
    "before_and_after",
    "beside_chance",
    "block_or_part",
    "boxes",
    "by_count",
    "by_kind",
    "by_length",
    "byte_table",
    "bytes_of",
    "c_curve",
    "classified",
    "confusion",
    "contact_sheet",
    "cosine_histograms",
    "cost_bars",
    "counts_by_rank",
    "crossings",
    "curves",
    "data_sets",
    "data_sizes",
    "days_bars",
    "dots_by_name",
    "ensemble_spread",
    "error_over_compute",
    "face_and_texts",
    "factors",
    "faint",
    "few_shot_curve",
    "five_each",
    "found_pages",
    "game_board",
    "game_end",
    "gradient_norms",
    "grouped_bars",
    "growth",
    "heat_maps",
    "image_columns",
    "image_grid",
    "image_pairs",
    "intervals",
    "kept_dots",
    "lengths_and_words",
    "lines",
    "looked_at",
    "loss_curve",
    "margins",
    "matrix_and_loss",
    "memory",
    "memory_panels",
    "merge_steps",
    "merge_tree",
    "mixture_cards",
    "mixtures",
    "moved_cosines",
    "narrow_panels",
    "nearest_rows",
    "neighbor_rows",
    "new_figure",
    "noted",
    "numbered",
    "occlusion_maps",
    "occurrences",
    "on_circle",
    "over_cost",
    "over_pixels",
    "paired_errors",
    "patch_grid",
    "pixels",
    "png",
    "probabilities",
    "probe_over_flops",
    "prompt_table",
    "reach",
    "retrieved",
    "robustness_plane",
    "row_dots",
    "row_spread",
    "run_norms",
    "save",
    "shot_cards",
    "shot_panels",
    "show",
    "show_image",
    "sign_rates",
    "signs",
    "similarity_matrix",
    "singular_values",
    "split_strips",
    "task_bars",
    "temperature",
    "template_dots",
    "three_rounds",
    "threshold_pairs",
    "token_attention",
    "token_boxes",
    "token_counts",
    "top_answers",
    "trade_off",
    "two_clouds",
    "two_kinds",
    "two_losses",
    "two_scales",
    "vocabulary_curve",
    "waterfall",
    "ways",
    "what_each_predicts",
    "with_texts",
    "word_pairs",
    "wrap",
]
