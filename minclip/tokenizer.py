"""Text to ids and back: byte-level byte-pair encoding (Sennrich et al. 2016), as CLIP uses it.

A word is spelled in bytes, each byte shown as one printable character; the last one carries `</w>`.  Training joins the
most frequent pair of neighbours, again and again; encoding repeats those merges in their order.  Every text has a
spelling, so there is no unknown token.  Ids: 256 bytes, the same 256 at a word's end, one a merge, SOT, EOT.
"""

import heapq
import json
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import regex
import torch

from .config import MinclipError

SOT, EOT, END = "<|startoftext|>", "<|endoftext|>", "</w>"

# Contractions, runs of letters, single digits, runs of anything else (openai/CLIP).  The special tokens are not in it:
# a literal "<|endoftext|>" in a caption is text.
_WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE)  # 'ſ is an 's
# The same on ASCII, and faster; `re` would count U+001C to U+001F as white space, Unicode and `regex` don't.
_ASCII_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[A-Za-z]+|[0-9]|[^ \t-\rA-Za-z0-9]+")


def byte_characters() -> list[str]:
    """256 printable characters, one a byte (GPT-2's table): visible ASCII and Latin-1 stand for themselves."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [b for b in range(256) if b not in visible]
    table = {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(hidden)}
    return [table[b] for b in range(256)]


_CHARACTERS = byte_characters()
_BYTES = {character: byte for byte, character in enumerate(_CHARACTERS)}
_ALPHABET = sorted(_CHARACTERS)  # visible characters first, as in OpenAI's file


class Tokenizer:
    """`tokenizer(texts, context_length) -> (B, L) int64` with SOT and EOT; `encode` and `decode` without them."""

    def __init__(self, merges: Sequence[tuple[str, str]]) -> None:
        self.merges = [tuple(pair) for pair in merges]
        self.vocab = [*_ALPHABET, *(c + END for c in _ALPHABET), *(a + b for a, b in self.merges), SOT, EOT]
        self.ids = {token: i for i, token in enumerate(self.vocab)}
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._cache: dict[str, list[int]] = {}
        self.sot_id, self.eot_id = len(self.vocab) - 2, len(self.vocab) - 1
        self.pad_id = 0
        self.truncated = 0  # texts cut to the context length so far

    @property
    def vocab_size(self) -> int:
        return len(self.vocab)

    # ---- text to ids

    def encode(self, text: str) -> list[int]:
        """The ids of a text of any length, without SOT and EOT."""
        ids: list[int] = []
        for word in split_words(text):
            if word not in self._cache:
                self._cache[word] = [self.ids[symbol] for symbol in self._merge(spell(word))]
            ids += self._cache[word]
        return ids

    def _merge(self, symbols: list[str]) -> list[str]:
        """Joins the neighbours whose merge was learned first, until no neighbours have one."""
        while len(symbols) > 1:
            best = min(zip(symbols, symbols[1:]), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            symbols = _join(symbols, best)
        return symbols

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids: words separated by single spaces; SOT, EOT and bytes that are no UTF-8 are dropped or replaced."""
        symbols = "".join(self.vocab[i] for i in map(int, ids) if i not in (self.sot_id, self.eot_id))
        words = (bytes(_BYTES[c] for c in word).decode("utf-8", errors="replace") for word in symbols.split(END))
        return " ".join(words).strip(" ")

    def __call__(self, texts: str | Sequence[str], context_length: int = 77) -> torch.Tensor:
        """(B, L) int64: SOT, the text, EOT, then `pad_id`; a longer text is cut, counted, and keeps its EOT."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        if context_length < 3:
            raise MinclipError(f"context_length {context_length} leaves no room for a token between SOT and EOT")
        out = torch.full((len(texts), context_length), self.pad_id, dtype=torch.int64)
        for row, text in zip(out, texts):
            ids = self.encode(text)
            if len(ids) > context_length - 2:
                if not self.truncated:
                    warnings.warn(
                        f"a text of {len(ids)} tokens was cut to {context_length - 2}; tokenizer.truncated counts them",
                        stacklevel=2,
                    )
                self.truncated += 1
                ids = ids[: context_length - 2]
            row[: len(ids) + 2] = torch.tensor([self.sot_id, *ids, self.eot_id])
        return out

    # ---- learning the merges

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learns at most `vocab_size` - 514 merges from `texts`; fewer where no pair occurs twice any more.

        Words are counted once; after a merge only the words that hold the pair are counted anew.  The heap may hold
        outdated counts: they are recognised when they come up.  Ties go to the pair that comes first in the alphabet.
        """
        if vocab_size < 514:
            raise MinclipError(f"a vocabulary of {vocab_size} is too small: 512 byte tokens, SOT and EOT make 514")
        counts = Counter(word for text in texts for word in split_words(text))
        words = [spell(word) for word in counts]
        weights = list(counts.values())

        pair_counts: Counter[tuple[str, str]] = Counter()
        words_with: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        for w, symbols in enumerate(words):
            for pair in zip(symbols, symbols[1:]):
                pair_counts[pair] += weights[w]
                words_with[pair].add(w)
        heap = [(-count, pair) for pair, count in pair_counts.items()]
        heapq.heapify(heap)

        merges: list[tuple[str, str]] = []
        while heap and len(merges) < vocab_size - 514:
            count, pair = heapq.heappop(heap)
            if -count != pair_counts[pair]:
                continue  # outdated: the pair's present count stands elsewhere in the heap
            if -count < 2:
                break
            merges.append(pair)
            changed: set[tuple[str, str]] = set()
            for w in words_with.pop(pair):
                before, after = words[w], _join(words[w], pair)
                for old in zip(before, before[1:]):
                    pair_counts[old] -= weights[w]
                    changed.add(old)
                for new in zip(after, after[1:]):
                    pair_counts[new] += weights[w]
                    words_with[new].add(w)
                    changed.add(new)
                words[w] = after
            for p in changed:
                if pair_counts[p] > 0 and p != pair:
                    heapq.heappush(heap, (-pair_counts[p], p))
        return cls(merges)

    # ---- on disk: one JSON file that a person can read

    def to_json(self) -> str:
        lines = ",\n".join(f"  {json.dumps(f'{a} {b}', ensure_ascii=False)}" for a, b in self.merges)
        return f'{{"tokenizer": "byte-level BPE", "format": 1, "merges": [\n{lines}\n]}}\n'

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Reads what `save` wrote; anything else is a MinclipError."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            merges = [tuple(line.split(" ")) for line in data["merges"]]
        except FileNotFoundError:
            raise MinclipError(f"{path} is not there") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MinclipError(f"{path} is not a tokenizer's file ({type(error).__name__}: {error})") from None
        known = set(_ALPHABET) | {c + END for c in _ALPHABET}
        for number, pair in enumerate(merges, 1):
            if len(pair) != 2 or not known.issuperset(pair):
                raise MinclipError(
                    f"{path}: merge {number}, {' '.join(pair)!r}, does not join two tokens that stand before it"
                )
            known.add(pair[0] + pair[1])
        return cls(merges)


def split_words(text: str) -> list[str]:
    """Lower case, then words, single digits and runs of punctuation, without the white space between them."""
    if not isinstance(text, str):
        raise MinclipError(f"a text must be a str, not {type(text).__name__}: {text!r:.60}")
    text = text.lower()
    return (_ASCII_WORDS if text.isascii() else _WORDS).findall(text)


def spell(word: str) -> list[str]:
    """A word as one symbol a byte, the last one marked as the end."""
    try:
        symbols = [_CHARACTERS[byte] for byte in word.encode("utf-8")]
    except UnicodeEncodeError as error:
        raise MinclipError(
            f"a text holds half of a surrogate pair (U+{ord(word[error.start]):04X}), which UTF-8 can't spell: {word!r:.60}"
        ) from None
    return [*symbols[:-1], symbols[-1] + END]


def _join(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    out, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out
