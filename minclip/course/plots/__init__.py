"""The course's pictures: each function draws one figure from arrays and returns it."""

from .base import faint, image_grid, lines, new_figure, png, save, show, show_image, wrap
from .matching import curves, loss_curve, probabilities, similarity_matrix
from .tokens import boxes, byte_table, bytes_of, merge_steps, merge_tree, token_boxes, vocabulary_curve
from .towers import accuracy_curves, heat_maps, looked_at, moved_cosines, patch_grid, token_attention, token_counts

__all__ = [
    "accuracy_curves",
    "boxes",
    "byte_table",
    "bytes_of",
    "curves",
    "faint",
    "heat_maps",
    "image_grid",
    "lines",
    "looked_at",
    "loss_curve",
    "merge_steps",
    "merge_tree",
    "moved_cosines",
    "new_figure",
    "patch_grid",
    "png",
    "probabilities",
    "save",
    "show",
    "show_image",
    "similarity_matrix",
    "token_attention",
    "token_boxes",
    "token_counts",
    "vocabulary_curve",
    "wrap",
]
