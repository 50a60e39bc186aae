"""The course's widgets: controls above a figure that follows them."""

from .batches import memory_figure, memory_name, memory_pieces, memory_playground
from .drawings import drawing_search, drawing_search_figure, nearest_pages
from .game import game_figure, glyph_game, new_game, opponent_vectors, recorded_game, simulated_reader
from .labels import few_labels, few_labels_figure
from .limits import counts_figure, counts_playground
from .overlap import threshold_figure, threshold_slider
from .playgrounds import (
    attention_figure,
    attention_viewer,
    caption_playground,
    edited_caption,
    label_playground,
    label_probabilities,
    loss_figure,
    loss_playground,
    prompt_figure,
    prompt_playground,
    redrawn,
    scrubber_figure,
    search_box,
    search_figure,
    separate_labels,
    temperature_figure,
    temperature_playground,
    token_figure,
    token_playground,
    training_scrubber,
)
from .portraits import portrait_figure, portrait_playground
from .real import sign_figure, sign_playground, sign_probabilities
from .robustness import mixture_figure, mixture_slider
from .scale import days_figure, days_slider
from .web import cap_figure, cap_playground
from .why import answers_figure, answers_playground, log_scores

__all__ = [
    "answers_figure",
    "answers_playground",
    "attention_figure",
    "attention_viewer",
    "cap_figure",
    "cap_playground",
    "caption_playground",
    "counts_figure",
    "counts_playground",
    "days_figure",
    "days_slider",
    "drawing_search",
    "drawing_search_figure",
    "edited_caption",
    "few_labels",
    "few_labels_figure",
    "game_figure",
    "glyph_game",
    "label_playground",
    "label_probabilities",
    "log_scores",
    "loss_figure",
    "loss_playground",
    "memory_figure",
    "memory_name",
    "memory_pieces",
    "memory_playground",
    "mixture_figure",
    "mixture_slider",
    "nearest_pages",
    "new_game",
    "opponent_vectors",
    "portrait_figure",
    "portrait_playground",
    "prompt_figure",
    "prompt_playground",
    "recorded_game",
    "redrawn",
    "scrubber_figure",
    "search_box",
    "search_figure",
    "separate_labels",
    "sign_figure",
    "sign_playground",
    "sign_probabilities",
    "simulated_reader",
    "temperature_figure",
    "temperature_playground",
    "threshold_figure",
    "threshold_slider",
    "token_figure",
    "token_playground",
    "training_scrubber",
]
