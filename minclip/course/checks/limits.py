"""Checks of notebook 13: the accuracy of a model that can't tell some classes apart, and captions of hard negatives."""

from collections.abc import Callable

from .judging import judge_cases, rounded


def blind_accuracy(function: Callable) -> None:
    """`function(groups)` should be the accuracy, a fraction, of a model that guesses within groups of classes.

    The model tells the groups apart, but not the classes in a group; every class has equally many images.
    """

    def case(*groups: list[str]) -> tuple:
        sizes = [len(group) for group in groups]
        classes, right = sum(sizes), round(len(sizes) / sum(sizes), 4)
        mistakes = {
            "that is chance, 1 over the number of classes: the model does tell the groups apart": 1 / classes,
            "that is the mean of 1/size over the groups: a large group has more images, give it more weight": (
                sum(1 / size for size in sizes) / len(sizes)
            ),
            "that counts only classes that are alone in their group: a guess among k is right once in k": (
                sizes.count(1) / classes
            ),
            "that is the number of groups: divide it by the number of classes": float(len(sizes)),
            "that is in percent: return a fraction of 1": 100 * len(sizes) / classes,
            "that is the fraction of wrong answers: return that of the right ones": 1 - len(sizes) / classes,
        }
        wrong = {name: round(value, 4) for name, value in mistakes.items() if round(value, 4) != right}
        return (list(groups),), right, wrong

    judge_cases(
        rounded(function),
        [
            case(["a"], ["b"], ["c"], ["d", "e", "f"]),
            case(["one"], ["two", "three", "four"]),
            case(["left of", "right of"], ["above", "below"], ["nearer than"]),
            case(["a", "b", "c", "d"]),
            case(["a"], ["b"]),
        ],
    )


COLORS = ("red", "blue", "green", "yellow")


def swap_colors(function: Callable) -> None:
    """`function(caption, colors)` should be the caption with its two colors exchanged; `colors` are all color words."""
    cases = []
    for a, x, link, b, y in (
        ("red", "star", "and", "blue", "circle"),
        ("green", "ring", "left of", "yellow", "ring"),
        ("blue", "heart", "above", "red", "cross"),
    ):
        given = f"a {a} {x} {link} a {b} {y}"
        right = f"a {b} {x} {link} a {a} {y}"
        mistakes = {
            "that swaps the objects; the colors should change places, the shapes stay": f"a {b} {y} {link} a {a} {x}",
            f"both colors became {a}: the second replacement undid the first, go word by word": (
                f"a {a} {x} {link} a {a} {y}"
            ),
            f"both colors became {b}: replace both at once, not one after the other": f"a {b} {x} {link} a {b} {y}",
            "that is the caption as it was": given,
            "that is a list of words: join them with spaces": right.split(),
        }
        cases.append(((given, COLORS), right, {name: wrong for name, wrong in mistakes.items() if wrong != right}))
    judge_cases(function, cases)
