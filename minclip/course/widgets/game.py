"""You against CLIP: twelve invented breeds, twelve pictures, three rounds; the board is one figure that is redrawn."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...config import MinclipError, need
from ...data.shapes.painting import below, draws
from ...weights.hub import data_folder
from .. import glyphs, plots

SEED, BREEDS, QUESTIONS, TRAITS_NAMED = 69, 12, 12, 3
ROUNDS = ("the sentences", "the sentences and one example", "the sentences and two examples")
UNKNOWN = "I don't know"


@dataclass(frozen=True)
class Game:
    """Twelve breeds with a sentence each, two examples of each, and the pictures to name.

    `breeds` (12, 7) traits, `named` (12, 7) bool: which of them the sentence names; the animals' own traits are
    `of_examples` (12, 2, 7) and `of_questions` (12, 7); `right` (12,) are the answers.
    """

    breeds: np.ndarray
    named: np.ndarray
    of_examples: np.ndarray
    of_questions: np.ndarray
    right: np.ndarray

    @cached_property
    def names(self) -> list[str]:
        return glyphs.names(BREEDS)

    @cached_property
    def sentences(self) -> list[str]:
        return [glyphs.sentence(*it[:2], name=it[2]) for it in zip(self.breeds, self.named, self.names)]

    @cached_property
    def examples(self) -> np.ndarray:
        """(12, 2, 3, 64, 64) uint8."""
        return glyphs.pictures(self.of_examples.reshape(-1, 7), seed=SEED).reshape(BREEDS, 2, 3, 64, 64)

    @cached_property
    def questions(self) -> np.ndarray:
        """(12, 3, 64, 64) uint8."""
        return glyphs.pictures(self.of_questions, seed=SEED + 1)


def new_game() -> Game:
    """The game that everyone plays: always the same breeds and pictures; a breed may be asked twice, or not at all."""
    breeds = glyphs.breeds(SEED, BREEDS, unseen=True)
    right = draws(SEED, "game/right", np.arange(QUESTIONS), slots=1)[:, 0] % BREEDS
    of_examples = glyphs.own_traits(np.repeat(breeds, 2, axis=0), seed=SEED).reshape(BREEDS, 2, 7)
    of_questions = glyphs.own_traits(breeds[right], seed=SEED + 1)
    return Game(breeds, glyphs.named_traits(SEED, BREEDS, traits=TRAITS_NAMED), of_examples, of_questions, right)


def contradictions(
    seen: np.ndarray, *, breeds: np.ndarray, named: np.ndarray, examples: np.ndarray, slip: float, seed: int
) -> np.ndarray:
    """(3, n, 12): in how many traits a picture with traits `seen` (n, 7) contradicts what a reader knows of each breed.

    In round 0 the reader knows the traits that the sentence names, in rounds 1 and 2 also the others of one and two
    `examples` (12, 2, 7).  Each time it looks at a picture it misreads a share `slip` of the traits.
    """

    def look(traits: np.ndarray, stream: str) -> np.ndarray:
        u = draws(seed, f"reader/{stream}", np.arange(traits.size), slots=2).reshape(*traits.shape, 2)
        other = (traits + 1 + below(u[..., 1], np.array(glyphs.SIZES) - 1)) % np.array(glyphs.SIZES)
        return np.where(u[..., 0] < slip * 2**32, other, traits)

    shown, out = look(examples, "examples"), []
    for shots in range(3):
        now = look(seen, f"round {shots}")[:, None]  # (n, 1, 7)
        as_example = (now[:, :, None] == shown[None, :, :shots]).any(axis=2) if shots else True
        out.append((~np.where(named, now == breeds, as_example)).sum(axis=2))
    return np.stack(out)


def simulated_reader(
    seen: np.ndarray, *, breeds: np.ndarray, named: np.ndarray, examples: np.ndarray, slip: float, seed: int
) -> np.ndarray:
    """Answers (3, n) by rule: the breed with the fewest `contradictions`, or -1, "I don't know", if several tie."""
    wrong = contradictions(seen, breeds=breeds, named=named, examples=examples, slip=slip, seed=seed)
    only = (wrong == wrong.min(axis=2, keepdims=True)).sum(axis=2) == 1
    return np.where(only, wrong.argmin(axis=2), -1)


def recorded_game(game: Game) -> np.ndarray:
    """Answers (3, 12) of a simulated reader, not a person, that misreads one trait in ten."""
    known = {"breeds": game.breeds, "named": game.named, "examples": game.of_examples}
    return simulated_reader(game.of_questions, **known, slip=0.1, seed=0)


def opponent_vectors() -> dict[str, Tensor]:
    """The stored model's unit vectors of the game, and of 20 more pictures a breed, (12, 20, 32) "images".

    "texts" (12, 32) are the game's sentences, "full_texts" (12, 32) sentences that name all traits; "examples"
    (12, 2, 32) and "questions" (12, 32) are pictures.  Raises MinclipError if the file is missing.
    """
    path = data_folder() / "experiments" / "glyphs-opponent.json"
    if not path.exists():
        command = "python tools/experiments/glyphs.py --part opponent"
        raise MinclipError(f"{path} not found: it comes with the repository; `{command}` writes it")
    found = {}
    for name, value in json.loads(path.read_text(encoding="utf-8")).items():
        if isinstance(value, dict):
            flat = np.frombuffer(base64.b64decode(value["int8"]), dtype=np.int8).astype(np.float32)
            found[name] = torch.nn.functional.normalize(torch.from_numpy(flat).view(value["shape"]), dim=-1)
    return found


def game_figure(game: Game, opponent: np.ndarray, answers: Sequence[int]) -> Figure:
    """The board after `answers`, in order (a breed's number, or -1): with the next picture, or the end of the game.

    `opponent` (3, 12) are the model's answers.  Raises MinclipError if there are more than 36 answers.
    """
    n = len(game.right)
    need(len(answers) <= 3 * n, f"a game has {3 * n} answers, got {len(answers)}")
    right = np.array(answers, dtype=int) == np.tile(game.right, 3)[: len(answers)]
    done = len(answers) // n
    scores = [(int(right[i * n : (i + 1) * n].sum()), int((opponent[i] == game.right).sum())) for i in range(done)]
    if done == 3:
        mine = np.array(answers).reshape(3, n)
        return plots.game_end(game.questions, game.names, game.right, answers=mine, opponent=opponent)
    question = len(answers) % n
    return plots.game_board(
        game.questions[question],
        game.sentences,
        game.examples[:, :done],
        scores=scores,
        title=f"Round {done}, picture {question}: you have {ROUNDS[done]} ({n - question} pictures left in this round)",
    )


def glyph_game(game: Game, opponent: np.ndarray) -> ipywidgets.VBox:
    """Play: a button for each breed, one for "I don't know", one to take an answer back, one to start again."""
    answers: list[int] = []
    picture, state = ipywidgets.Image(format="png"), ipywidgets.Label()
    breed = ipywidgets.ToggleButtons(
        options=[*((name, i) for i, name in enumerate(game.names)), (UNKNOWN, -1)],
        value=None,
        tooltips=[*game.sentences, "allowed, and counted: the paper allowed it, too"],
    )
    breed.style.button_width = "8em"
    back, again = (ipywidgets.Button(description=text) for text in ("back one picture", "start again"))

    def show() -> None:
        rounds, number = divmod(len(answers), len(game.right))
        state.value = f"round {rounds}, picture {number}" if rounds < 3 else "the game is over"
        breed.disabled, back.disabled = rounds == 3, not answers
        picture.value = plots.png(game_figure(game, opponent, answers))

    def chosen(change: dict) -> None:
        if change["new"] is not None:
            answers.append(change["new"])
            breed.value = None  # the same breed may be the next answer, too
            show()

    breed.observe(chosen, names="value")
    back.on_click(lambda _: (answers and answers.pop(), show()))
    again.on_click(lambda _: (answers.clear(), show()))
    show()
    return ipywidgets.VBox([breed, ipywidgets.HBox([back, again, state]), picture])
