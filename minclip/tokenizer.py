"""Text to ids and back: byte-level byte-pair encoding (Sennrich et al. 2016), as in CLIP.

A word is spelled as bytes, each shown as one printable character; the last one carries `</w>`.  Training joins the
most frequent pair of neighbors, again and again; encoding repeats these merges in the same order.  Any text can be
encoded, so there is no unknown token.  Ids: 256 bytes, the same 256 at the end of a word, one per merge, SOT, EOT.
"""

import heapq
import html
import itertools
import json
import math
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import regex
import torch

from .config import MinclipError, need
from .weights.config_json import parse_json
from .weights.openai import openai_merges

SOT, EOT, END = "<|startoftext|>", "<|endoftext|>", "</w>"

# Contractions, runs of letters, single digits, runs of anything else, as in openai/CLIP.  Unlike there, special tokens
# have no pattern: a literal "<|endoftext|>" in a caption is text, and can't end it early.
_OPENAI = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE)
_GRAPHEMES = regex.compile(r"'(?:(?=[stmd])\X|(?=re|ve|ll)\X\X)|(?:(?=[\pL\pM])\X)+|(?=\pN)\X|(?:(?![\pL\pM\pN])\X)+")
_WORDS = {"marks": _GRAPHEMES, "lower": _OPENAI, "openai": _OPENAI}  # by `clean`; \X: a letter with its marks

KNOWN_CHUNKS = 2**20  # most chunks to remember: captions from the web never stop bringing new ones


def byte_characters() -> list[str]:
    """256 printable characters, one for each byte (GPT-2's table): visible ASCII and Latin-1 stand for themselves."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = itertools.count(256)  # control characters, spaces and the soft hyphen become letters beyond Latin-1
    return [chr(b if b in visible else next(others)) for b in range(256)]  # "é", the bytes C3 A9, is shown as Ã©


_CHARACTERS = byte_characters()
_BYTES = {character: byte for byte, character in enumerate(_CHARACTERS)}
_ALPHABET = [*sorted(_CHARACTERS), *(c + END for c in sorted(_CHARACTERS))]  # visible ones first, as in OpenAI's file


class Tokenizer:
    """`tokenizer(texts) -> (B, L) int64` with SOT and EOT; `encode` and `decode` work without them.

    `merges` are the pairs of tokens to join, the first learned first.  `clean` is how a text becomes words: "marks" (as
    in `split_words`), "openai", or "lower" (older files: without `clean_openai`).  `context_length` is the default L.
    """

    def __init__(self, merges: Sequence[tuple[str, str]], *, clean: str = "marks", context_length: int = 77) -> None:
        need(clean in _WORDS, f"a tokenizer's clean must be one of {', '.join(_WORDS)}, got {clean!r}")
        self.clean, self.context_length = clean, context_length  # `minclip.load` sets the model's context length
        self.merges = [tuple(pair) for pair in merges]
        self.vocab = [*_ALPHABET, *(a + b for a, b in self.merges), SOT, EOT]
        self.vocab_size = len(self.vocab)
        self.ids = {token: i for i, token in enumerate(self.vocab)}
        self.sot_id, self.eot_id = self.vocab_size - 2, self.vocab_size - 1  # the last two, as in OpenAI's
        self.pad_id, self.truncated = 0, 0  # "!" is also 0, so towers find the end by eot_id; number of texts cut
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}  # the order of learning
        self._known: dict[str, list[int]] = {}  # chunk -> ids

    # ---- text to ids

    def encode(self, text: str) -> list[int]:
        """The ids of a text of any length; MinclipError: it is not a str, or UTF-8 can't encode it."""
        ids: list[int] = []  # without SOT and EOT
        for chunk in split_chunks(text, self.clean):
            ids += self._known.get(chunk) or self._remember(chunk)  # most chunks have been encoded before
        return ids

    def _remember(self, chunk: str) -> list[int]:
        ids = [self.ids[s] for word in _WORDS[self.clean].findall(chunk) for s in merge(spell(word), self._ranks)]
        if len(self._known) >= KNOWN_CHUNKS:
            self._known.clear()  # the frequent ones are back after a few captions
        if len(chunk) <= 32:  # a longer one, such as a URL or a whole sentence of Chinese, rarely occurs again
            self._known[chunk] = ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The words of `split_words` up to EOT, with single spaces between; bytes that are not UTF-8 become U+FFFD."""
        ids = list(itertools.takewhile(lambda i: i != self.eot_id, map(int, ids)))
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise MinclipError(f"ids from {min(ids)} to {max(ids)}: this vocabulary has {self.vocab_size} tokens")
        symbols = "".join(self.vocab[i] for i in ids if i != self.sot_id)  # "two</w>cafÃ©s</w>"
        words = (bytes(_BYTES[c] for c in word).decode("utf-8", errors="replace") for word in symbols.split(END))
        return " ".join(words).strip(" ")

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> torch.Tensor:
        """(B, L) int64: SOT, the text, EOT, then `pad_id`.  A long text is cut and counted, but keeps its EOT."""
        if not isinstance(texts, Iterable) or isinstance(texts, bytes):
            raise MinclipError(f"texts must be a str or a list of them, not {type(texts).__name__}: {texts!r:.60}")
        length = self.context_length if context_length is None else context_length
        need(length >= 3, f"context_length {length} leaves no room for a token between SOT and EOT")
        rows = []
        for text in [texts] if isinstance(texts, str) else texts:
            ids = self.encode(text)
            if len(ids) > length - 2:
                if not self.truncated:
                    warnings.warn(f"a text of {len(ids)} tokens was cut to {length - 2}: see .truncated", stacklevel=2)
                self.truncated += 1  # the warning comes once
                ids = ids[: length - 2]  # leaves room for SOT and EOT
            rows.append([self.sot_id, *ids, self.eot_id] + [self.pad_id] * (length - 2 - len(ids)))
        return torch.tensor(rows, dtype=torch.int64).view(-1, length)  # the view, for a batch of no texts

    # ---- learning the merges

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learns `vocab_size` - 514 merges from `texts`; fewer if no pair occurs twice any more.

        After a merge, only the words that contain the pair are counted again, and the next pair comes from a heap.  Of
        equally frequent pairs, the first in the alphabet wins, so that the result depends on the counts alone.
        """
        need(vocab_size >= 514, f"a vocabulary of {vocab_size} is too small: 512 byte tokens, SOT and EOT make 514")
        counts: Counter[str] = Counter()  # of distinct words: captions use few
        for chunk, count in Counter(chunk for text in texts for chunk in split_chunks(text)).items():
            for word in _GRAPHEMES.findall(chunk):
                counts[word] += count
        words, weights = [spell(word) for word in counts], list(counts.values())
        pair_counts, words_with = defaultdict(int), defaultdict(set)  # pair -> count; pair -> words that have or had it
        changed = set()  # pairs whose current count is not in the heap yet

        def add(w: int, weight: int) -> None:
            for pair in zip(words[w], words[w][1:]):
                pair_counts[pair] += weight
                words_with[pair].add(w)
                changed.add(pair)

        for w, weight in enumerate(weights):
            add(w, weight)
        heap, merges = [], []  # (-count, pair) with the most frequent pair on top; the pairs chosen so far
        while len(merges) < vocab_size - 514:
            for pair in changed:
                if pair_counts[pair] >= 2:  # a pair that occurs only once says little about other texts
                    heapq.heappush(heap, (-pair_counts[pair], pair))
            changed.clear()
            while heap and -heap[0][0] != pair_counts[heap[0][1]]:
                heapq.heappop(heap)  # outdated: the current count of this pair is elsewhere in the heap
            if not heap:
                break  # too few texts for so many merges
            pair = heap[0][1]  # the most frequent one; of several, the first in the alphabet
            merges.append(pair)
            for w in words_with.pop(pair):
                add(w, -weights[w])  # remove all of the word's pairs: a merge also changes those beside it
                merge(words[w], {pair: 0})
                add(w, weights[w])
        return cls(merges)

    # ---- on disk: one JSON file that a person can read

    def to_json(self) -> str:
        lines = ",\n".join(f"  {json.dumps(f'{a} {b}', ensure_ascii=False)}" for a, b in self.merges)
        return f'{{"tokenizer": "byte-level BPE", "format": 1, "clean": "{self.clean}", "merges": [\n{lines}\n]}}\n'

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Reads a file that `save` wrote; for any other, a MinclipError names the file and the merge."""
        try:
            data = parse_json(Path(path).read_bytes(), str(path))
        except OSError as error:
            raise MinclipError(f"{path} can't be read: {error.strerror}") from None
        lines, clean = (data.get("merges"), data.get("clean", "lower")) if isinstance(data, dict) else (None, None)
        if not isinstance(lines, list) or clean not in [*_WORDS]:
            raise MinclipError(f"{path} is not a tokenizer: merges must be a list, clean one of {', '.join(_WORDS)}")
        known, merges = set(_ALPHABET), []
        for number, line in enumerate(lines, 1):  # a merge of unknown tokens could never apply
            pair = tuple(line.split(" ")) if isinstance(line, str) else ()
            if len(pair) != 2 or not known.issuperset(pair):
                raise MinclipError(f"{path}: merge {number}, {line!r:.60}, does not join two tokens from before it")
            merges.append(pair)
            known.add(pair[0] + pair[1])  # later merges may join it again
        return cls(merges, clean=clean)

    @classmethod
    def from_openai(cls, path: str | Path | None = None) -> "Tokenizer":
        """OpenAI's 49,408 tokens and clean-up, from `path` or wherever `openai_merges` finds them.

        The ids equal those of openai/CLIP, open_clip and transformers, except that a literal `<|endoftext|>` is text.
        """
        return cls(openai_merges(path), clean="openai")


def clean_openai(text: str) -> str:
    """Repairs broken Unicode (ftfy) and resolves HTML entities, twice as OpenAI does, but keeps upper case."""
    if not (text.isascii() and text.isprintable() and "&" not in text):  # plain text skips it
        import ftfy  # 50 ms that plain text should not cost

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return text


def split_chunks(text: str, clean: str = "marks") -> list[str]:
    """Lower case, split at white space.  No word contains any, so the ids of a chunk depend only on the chunk."""
    need(isinstance(text, str), f"a text must be a str, not {type(text).__name__}")
    text = (clean_openai(text) if clean == "openai" else text).lower()
    return (unicodedata.normalize("NFC", text) if clean == "marks" else text).split()  # é may be e and an accent


def split_words(text: str) -> list[str]:
    """Lower case and NFC, then words, single digits and runs of punctuation of whole graphemes, no white space."""
    return [word for chunk in split_chunks(text) for word in _GRAPHEMES.findall(chunk)]


def spell(word: str) -> list[str]:
    """A word as one symbol for each byte, the last one marked as the end."""
    try:
        symbols = [_CHARACTERS[byte] for byte in word.encode("utf-8")]
    except UnicodeEncodeError as error:
        raise MinclipError(f"{word!r:.60} holds U+{ord(word[error.start]):04X}, half of a surrogate pair") from None
    return [*symbols[:-1], symbols[-1] + END]  # so that "star" and the beginning of "start" are different


def merge(symbols: list[str], known: dict[tuple[str, str], int]) -> list[str]:
    """Joins neighbors in place, the pair of the lowest rank first and from left to right, while a pair has a rank."""
    ranks = [known.get(pair, math.inf) for pair in zip(symbols, symbols[1:])]
    while (best := min(ranks, default=math.inf)) < math.inf:
        i = 0
        while best in ranks[i:]:  # all its occurrences; at C speed, because a word may be 10,000 letters of garbage
            i = ranks.index(best, i)
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
            del ranks[i]  # the pair is gone, and the joined symbol has new neighbors
            for j in (i - 1, i):
                if 0 <= j < len(ranks):
                    ranks[j] = known.get((symbols[j], symbols[j + 1]), math.inf)
    return symbols
