"""Text to ids and back: byte-level byte-pair encoding (Sennrich et al. 2016), as CLIP uses it.

A word is spelled in bytes, each byte shown as one printable character; the last one carries `</w>`.  Training joins the
most frequent pair of neighbours, again and again; encoding repeats those merges in their order.  Every text has a
spelling, so there is no unknown token.  Ids: 256 bytes, the same 256 at a word's end, one a merge, SOT, EOT.

`Tokenizer.train` learns merges of your own, `Tokenizer.from_openai` takes those that OpenAI's weights were trained with.
"""

import gzip
import hashlib
import heapq
import html
import importlib.util
import itertools
import json
import math
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import regex
import torch

from .config import MinclipError, data_folder
from .weights.hub import hub_file

SOT, EOT, END = "<|startoftext|>", "<|endoftext|>", "</w>"

# Contractions, runs of letters, single digits, runs of anything else (openai/CLIP).  The special tokens are not in it:
# a literal "<|endoftext|>" in a caption is text.
_WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE)  # 'ſ is an 's


def byte_characters() -> list[str]:
    """256 printable characters, one a byte (GPT-2's table): visible ASCII and Latin-1 stand for themselves."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [b for b in range(256) if b not in visible]
    table = {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(hidden)}
    return [table[b] for b in range(256)]


_CHARACTERS = byte_characters()
_BYTES = {character: byte for byte, character in enumerate(_CHARACTERS)}
_ALPHABET = sorted(_CHARACTERS)  # visible characters first, as in OpenAI's file

KNOWN_CHUNKS, LONGEST_KNOWN = 1_000_000, 32  # how many are remembered at most, and of how many characters
OPENAI_FILE = "bpe_simple_vocab_16e6.txt.gz"
OPENAI_MERGES = 49152 - 256 - 2  # the file holds more; OpenAI's vocabulary stops here
_OPENAI_SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"  # of those lines


class Tokenizer:
    """`tokenizer(texts, context_length) -> (B, L) int64` with SOT and EOT; `encode` and `decode` without them.

    `merges` are the pairs of tokens to join, the first learned first.  `clean` says what is done to a text before it is
    split: "lower" (lower case) or "openai" (see `clean_openai`; lower case is a part of it).
    """

    def __init__(self, merges: Sequence[tuple[str, str]], *, clean: str = "lower", context_length: int = 77) -> None:
        if clean not in ("lower", "openai"):
            raise MinclipError(f"a tokenizer's clean-up {clean!r} is neither 'lower' nor 'openai'")
        self.clean = clean
        self.context_length = context_length  # of the rows that a call returns; a loaded tokenizer has its model's
        self.merges = [tuple(pair) for pair in merges]
        self.vocab = [*_ALPHABET, *(c + END for c in _ALPHABET), *(a + b for a, b in self.merges), SOT, EOT]
        self.ids = {token: i for i, token in enumerate(self.vocab)}
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._known = _Known(self._ids)
        self.sot_id, self.eot_id = len(self.vocab) - 2, len(self.vocab) - 1
        self.pad_id = 0
        self.truncated = 0  # texts cut to the context length so far

    @property
    def vocab_size(self) -> int:
        return len(self.vocab)

    # ---- text to ids

    def encode(self, text: str) -> list[int]:
        """The ids of a text of any length, without SOT and EOT; a MinclipError where it isn't a str that UTF-8 can spell."""
        if self.clean == "openai":
            text = clean_openai(text)
        ids: list[int] = []
        for chunk in split_chunks(text):
            ids += self._known[chunk]
        return ids

    def _ids(self, chunk: str) -> list[int]:
        return [self.ids[symbol] for word in _WORDS.findall(chunk) for symbol in self._merge(spell(word))]

    def _merge(self, symbols: list[str]) -> list[str]:
        """Joins the neighbours whose merge was learned first, all of them from left to right, until none has a merge."""
        rank = self._ranks.get
        ranks = [rank(pair, math.inf) for pair in zip(symbols, symbols[1:])]
        while (best := min(ranks, default=math.inf)) < math.inf:
            i = 0
            while best in ranks[i:]:
                i = ranks.index(best, i)
                symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
                # the joined symbol has new neighbours: one pair goes, those on its sides change
                del ranks[i]
                for j in (i - 1, i):
                    if 0 <= j < len(ranks):
                        ranks[j] = rank((symbols[j], symbols[j + 1]), math.inf)
        return symbols

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids up to EOT, words separated by single spaces; bytes that are no UTF-8 become U+FFFD."""
        ids = list(itertools.takewhile(lambda i: i != self.eot_id, map(int, ids)))
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise MinclipError(f"ids from {min(ids)} to {max(ids)}: this vocabulary has {self.vocab_size} tokens")
        symbols = "".join(self.vocab[i] for i in ids if i != self.sot_id)
        words = (bytes(_BYTES[c] for c in word).decode("utf-8", errors="replace") for word in symbols.split(END))
        return " ".join(words).strip(" ")

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> torch.Tensor:
        """(B, L) int64: SOT, the text, EOT, then `pad_id`; a longer text is cut, counted, and keeps its EOT."""
        if not isinstance(texts, Iterable) or isinstance(texts, bytes):
            raise MinclipError(f"texts must be a str or a list of them, not {type(texts).__name__}: {texts!r:.60}")
        context_length = self.context_length if context_length is None else context_length
        if context_length < 3:
            raise MinclipError(f"context_length {context_length} leaves no room for a token between SOT and EOT")
        rows = []
        for text in [texts] if isinstance(texts, str) else texts:
            ids = self.encode(text)
            if len(ids) > context_length - 2:
                if not self.truncated:
                    warnings.warn(
                        f"a text of {len(ids)} tokens was cut to {context_length - 2}; tokenizer.truncated counts them",
                        stacklevel=2,
                    )
                self.truncated += 1
                ids = ids[: context_length - 2]
            rows.append([self.sot_id, *ids, self.eot_id] + [self.pad_id] * (context_length - 2 - len(ids)))
        return torch.tensor(rows, dtype=torch.int64).view(-1, context_length)

    # ---- learning the merges

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learns at most `vocab_size` - 514 merges from `texts`; fewer where no pair occurs twice any more.

        Words are counted once; after a merge only the words that hold the pair are counted anew.  The heap may hold
        outdated counts: they are recognised when they come up.  Ties go to the pair that comes first in the alphabet.
        """
        if vocab_size < 514:
            raise MinclipError(f"a vocabulary of {vocab_size} is too small: 512 byte tokens, SOT and EOT make 514")
        chunks = Counter(chunk for text in texts for chunk in split_chunks(text))
        counts: Counter[str] = Counter()
        for chunk, count in chunks.items():
            for word in _WORDS.findall(chunk):
                counts[word] += count
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
                before, after = words[w], join(words[w], pair)
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
        return f'{{"tokenizer": "byte-level BPE", "format": 1, "clean": "{self.clean}", "merges": [\n{lines}\n]}}\n'

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Reads what `save` wrote; anything else is a MinclipError."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            merges, clean = [tuple(line.split(" ")) for line in data["merges"]], data.get("clean", "lower")
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
        return cls(merges, clean=clean)

    @classmethod
    def from_openai(cls, path: str | Path | None = None) -> "Tokenizer":
        """OpenAI's 49,408 tokens, with the clean-up that its weights were trained with.

        `path` is OpenAI's `bpe_simple_vocab_16e6.txt.gz` or Hugging Face's `merges.txt`; without one the file is taken
        from an installed open_clip_torch, from minclip's data folder, or from the hub.  The ids are those of
        openai/CLIP, open_clip and transformers, with one difference: where they turn a literal `<|endoftext|>` in a
        caption (open_clip: `<end_of_text>`) into the end token, here it stays text.
        """
        path = Path(path) if path else _find_openai()
        try:
            data = path.read_bytes()
            text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
        except FileNotFoundError:
            raise MinclipError(f"{path} is not there") from None
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise MinclipError(f"{path} is cut off or damaged: {error}") from None
        lines = text.split("\n")[1 : 1 + OPENAI_MERGES]  # the first line names the version
        if hashlib.sha256("\n".join(lines).encode()).hexdigest() != _OPENAI_SHA256:
            raise MinclipError(f"{path} does not hold OpenAI's {OPENAI_MERGES:,} merges: its hash is another one")
        return cls([tuple(line.split(" ")) for line in lines], clean="openai")


class _Known(dict[str, list[int]]):
    """The ids of each chunk of text that was met, computed where it is new: most of a caption has been seen before."""

    def __init__(self, ids_of: Callable[[str], list[int]]) -> None:
        self.ids_of = ids_of

    def __missing__(self, chunk: str) -> list[int]:
        ids = self.ids_of(chunk)
        if len(self) >= KNOWN_CHUNKS:  # the web's captions have no end of new ones
            self.clear()
        if len(chunk) <= LONGEST_KNOWN:  # a longer one, a whole sentence of Chinese, is hardly met again
            self[chunk] = ids
        return ids


def _find_openai() -> Path:
    # found, not imported: open_clip takes seconds
    peer = importlib.util.find_spec("open_clip")
    for folder in (Path(peer.origin).parent if peer and peer.origin else Path(), data_folder()):
        if (folder / OPENAI_FILE).exists():
            return folder / OPENAI_FILE
    by_hand = f"pip install open_clip_torch, or put https://github.com/openai/CLIP/raw/main/clip/{OPENAI_FILE} into {data_folder()}"
    return hub_file("openai/clip-vit-base-patch32", "merges.txt", by_hand=by_hand)


def clean_openai(text: str) -> str:
    """What OpenAI does to a caption before it splits it: repairs broken Unicode (ftfy), resolves HTML entities twice.

    Lower case and white space, the rest of its clean-up, are `split_chunks`'s.
    """
    # nothing to repair in plain text, which most captions are
    if isinstance(text, str) and not (text.isascii() and text.isprintable() and "&" not in text):
        import ftfy  # 50 ms that plain text should not cost

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return text


def split_chunks(text: str) -> list[str]:
    """Lower case, cut at white space: no word reaches across it, so that a chunk's ids need to be computed only once."""
    if not isinstance(text, str):
        raise MinclipError(f"a text must be a str, not {type(text).__name__}: {text!r:.60}")
    return text.lower().split()


def split_words(text: str) -> list[str]:
    """Lower case, then words, single digits and runs of punctuation, without the white space between them."""
    return [word for chunk in split_chunks(text) for word in _WORDS.findall(chunk)]


def spell(word: str) -> list[str]:
    """A word as one symbol a byte, the last one marked as the end."""
    try:
        symbols = [_CHARACTERS[byte] for byte in word.encode("utf-8")]
    except UnicodeEncodeError as error:
        raise MinclipError(
            f"a text holds half of a surrogate pair (U+{ord(word[error.start]):04X}), which UTF-8 can't spell: {word!r:.60}"
        ) from None
    return [*symbols[:-1], symbols[-1] + END]


def join(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """One merge: the symbols with `pair` joined wherever it stands, from left to right."""
    out, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out
