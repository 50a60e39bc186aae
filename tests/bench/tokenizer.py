"""minclip's tokenizer against others, on one thread.

    python tests/bench/tokenizer.py [--captions FLICKR8K.zip] [--rounds 7] [--json PATH]

Times `encode` with OpenAI's vocabulary against open_clip's Python tokenizer (and OpenAI's, if `clip` is installed), in
a first pass and in a second one, which finds all words in the cache; and the training of 4,096 merges against Hugging
Face's Rust trainer. Without `--captions`, the captions of the shapes world are used.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["TOKENIZERS_PARALLELISM"] = "1"  # before any of the libraries is imported
os.environ["RAYON_NUM_THREADS"] = "1"

import argparse
import csv
import io
import zipfile
from pathlib import Path

import open_clip
import tokenizers
import torch
from common import interleaved, report, write

from minclip import Tokenizer, load_pairs

MERGES = 4096
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def captions(path: Path | None) -> list[str]:
    if path is None:
        return list(load_pairs("shapes", split="train", size=7000).texts)
    with zipfile.ZipFile(path) as archive:
        rows = csv.reader(io.StringIO(archive.read("captions.txt").decode("utf-8")))
        next(rows)
        return [text for _, text in rows]


def openai_tokenizer() -> object | None:
    try:
        from clip.simple_tokenizer import SimpleTokenizer
    except ImportError:
        return None
    return SimpleTokenizer()


def train_rust(texts: list[str]) -> tokenizers.Tokenizer:
    """Hugging Face's trainer with the same normalization and word splitting."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    pre = tokenizers.pre_tokenizers
    split = pre.Split(tokenizers.Regex(SPLIT), "removed", invert=True)
    tokenizer.pre_tokenizer = pre.Sequence([split, pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=MERGES + 514,
        end_of_word_suffix="</w>",
        show_progress=False,
        initial_alphabet=pre.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, help="a zip with captions.txt, as Kaggle delivers flickr8k")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    texts = captions(args.captions)
    print(f"{len(texts):,} captions, one thread, medians of {args.rounds} interleaved rounds")

    makers = {"minclip": Tokenizer.from_openai, "open_clip": open_clip.tokenizer.SimpleTokenizer}
    if openai_tokenizer():
        makers["openai"] = openai_tokenizer
    known = {name: make() for name, make in makers.items()}  # they see all words before the first timed round
    ids = {name: [tokenizer.encode(text) for text in texts] for name, tokenizer in known.items()}
    assert all(rows == ids["minclip"] for rows in ids.values()), (
        "the tokenizers give different ids, so their times can't be compared"
    )

    fresh = {name: iter([make() for _ in range(args.rounds)]) for name, make in makers.items()}
    first = interleaved(
        {name: lambda name=name: encode(next(fresh[name]), texts) for name in makers}, args.rounds, False
    )
    second = interleaved({name: lambda name=name: encode(known[name], texts) for name in makers}, args.rounds)
    train = {"minclip": lambda: Tokenizer.train(texts, MERGES + 514), "Hugging Face (Rust)": lambda: train_rust(texts)}
    results = {
        "encode, first pass": report("encode, first pass", first, len(texts), "texts"),
        "encode, second pass": report("encode, second pass", second, len(texts), "texts"),
        "train": report(f"train {MERGES:,} merges", interleaved(train, args.rounds), MERGES, "merges"),
    }
    write(args.json, results)


def encode(tokenizer: object, texts: list[str]) -> None:
    for text in texts:
        tokenizer.encode(text)


if __name__ == "__main__":
    main()
