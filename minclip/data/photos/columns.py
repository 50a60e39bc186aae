"""The columns of a table or of JSON records: which hold the images and the captions, and what a caption cell holds."""

import ast
import contextlib
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from ...config import MinclipError, nearest, need
from ...weights.config_json import parse_json

# known names of columns, the likelier ones first; compared in lower case, with "_" for spaces and "-"
NAMES = "image image_path image_file image_name file_name filename filepath file_path file img photo picture path"
KNOWN = {
    "image": f"{NAMES} image_bytes jpg jpeg png webp".split(),
    "caption": "caption captions text title comment sentence sentences description raw".split(),
}
URL = ("http://", "https://")
SHARDS = 'download the images with img2dataset as shards, and set data.name to "shards"'
# a string as Python prints it, with no escape that Python doesn't know; a list of such, also without commas (NumPy)
STRING = r"""'(?:[^'\\]|\\[\\'"nrtabfvxuU0-7])*'|"(?:[^"\\]|\\[\\'"nrtabfvxuU0-7])*\""""
PRINTED = re.compile(rf"\[\s*(?:(?:{STRING}|None|nan)[\s,]*)*\]")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "restval"), "train"),  # "restval": COCO's val images that Karpathy trains on
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# the header, and rows(columns), which yields for each row its place, the cells of these columns, and an image reader
Table = tuple[list[str], Callable[[list[int]], Iterator[tuple[str, list[Any], Callable[[], bytes] | None]]]]


class MissingColumn(MinclipError):
    """The table has no image or no caption column: it may be a table of something else."""


def plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def find_columns(path: str, header: list[str], asked: tuple[str, str]) -> list[int]:
    """The image column and then the caption columns, counted from 0; MissingColumn if there is none.

    `asked` has for both of them names, patterns ("caption_*") or numbers counted from 1, with commas between several;
    "" tries known names, for captions also with a number ("caption_0", "caption_1").
    """
    found = [_matching(header, what, wanted) for what, wanted in zip(KNOWN, asked)]
    has = f"it has {', '.join(header)}" if header else "it is empty"
    for wanted in (wanted for wanted, columns in zip(asked, found) if wanted and not columns):
        raise MissingColumn(f"{path} has no column {wanted!r}{nearest(wanted, header)}: {has}")
    if not found[0] and {"url", "image_url", "link"} & {*map(plain, header)}:
        raise MissingColumn(f"{path} has URLs but no image column ({has}): {SHARDS}")
    if missing := [what for what, columns in zip(KNOWN, found) if not columns]:
        guess = next((f" (is it {name!r}?)" for name in header if nearest(plain(name), KNOWN[missing[0]], 0.6)), "")
        fields = " and ".join(f"data.{what}_column" for what in missing)
        raise MissingColumn(
            f"{path} has no known {' and no '.join(missing)} column{guess}: {has}; set {fields} to yours"
        )
    need(len(found[0]) == 1, f"{path}: data.image_column {asked[0]!r} must mean one column: {has}")
    return found[0] + found[1]


def _matching(header: list[str], what: str, asked: str) -> list[int]:
    names = [plain(name) for name in header]

    def columns(wanted: str) -> list[int]:
        exact = [i for i, name in enumerate(names) if name == plain(wanted)][:1]  # a name may hold a "[" or a "*"
        return exact or [i for i, name in enumerate(names) if fnmatchcase(name, plain(wanted)) or wanted == str(i + 1)]

    if asked:
        parts = [columns(part.strip()) for part in ([asked] if plain(asked) in names else asked.split(","))]
        return sorted({i for part in parts for i in part}) if all(parts) else []
    for word in KNOWN[what]:
        numbered = [i for i, name in enumerate(names) if what == "caption" and re.fullmatch(rf"{word}_?\d+", name)]
        if found := columns(word) or numbered:
            return found
    return []


def captions_in(cell: Any) -> list[Any]:
    """The captions in a cell: one text or a list, also as JSON or Python prints it, of texts or of records with one.

    A text that merely begins like a list is a caption.  Anything else is returned as it is, to be refused.
    """
    items = _listed(cell) if isinstance(cell, str) else cell
    return [_text_of(item) for item in (items if isinstance(items, list) else [items]) if item is not None]


def _listed(cell: str) -> Any:
    if re.match(r'\[\s*"', cell):
        with contextlib.suppress(MinclipError):
            return parse_json(cell, "")
    if PRINTED.fullmatch(cell):
        with contextlib.suppress(ValueError, SyntaxError):  # "\x" without digits
            return [ast.literal_eval(string) for string in re.findall(STRING, cell)]
    return cell


def _text_of(item: Any) -> Any:
    """The text of a record such as Karpathy's {"raw": …, "tokens": […]}; anything else as it is."""
    if not isinstance(item, dict):
        return item
    tokens = item.get("tokens")
    words = tokens if isinstance(tokens, list) and all(isinstance(token, str) for token in tokens) else []
    return next((item[key] for key in KNOWN["caption"] if key in item), " ".join(words) if words else item)
