"""Text to ids and back, against a textbook trainer, OpenAI's tokenizer, and every text that hypothesis can think of."""

import csv
import gzip
import io
import json
import pickle
import random
import re
import shutil
import subprocess
import sys
import unicodedata
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import regex
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minclip.config import MinclipError
from minclip.tokenizer import END, EOT, SOT, Tokenizer, byte_characters, spell, split_words
from minclip.weights.openai import MERGES, MERGES_FILE

CORPUS = [
    "a red circle",
    "a red square and a blue circle",
    "the red, red circle's edge",
    "été à la plage",
    "10 cats",
] * 3
TOKENIZER = Tokenizer.train(CORPUS, 540)
BARE = Tokenizer([])  # bytes only

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
# what splits words, spells like a special token, or stands at the edges of Unicode and of UTF-8
tricky_text = st.lists(
    st.sampled_from([*"ab'stvmd 19<|/w>İſßé", "\0", "\x1c", "\x85", "\ufffd", "\u2028", "💛", END, EOT]), max_size=20
).map("".join)


# ---- there and back


@settings(max_examples=200)
@given(any_text | tricky_text)
def test_decode_gives_back_the_words(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == " ".join(split_words(text))


@settings(max_examples=100)
@given(any_text | tricky_text)
def test_splitting_loses_white_space_only(text):
    assert "".join(split_words(text)) == "".join(
        c for c in unicodedata.normalize("NFC", text.lower()) if not c.isspace()
    )


@settings(max_examples=100)
@given(any_text | tricky_text)
def test_a_chunks_ids_do_not_depend_on_its_neighbours(text):
    assert TOKENIZER.encode(text) == [i for chunk in text.split() for i in Tokenizer(TOKENIZER.merges).encode(chunk)]


def test_words_are_lower_case_runs_single_digits_and_contractions():
    assert split_words("It's  2024,\ta CAT!!") == ["it", "'s", "2", "0", "2", "4", ",", "a", "cat", "!!"]


def test_every_byte_has_a_token_within_and_at_the_end_of_a_word():
    characters = byte_characters()
    assert len(set(characters)) == 256 and all({c, c + END} <= BARE.ids.keys() for c in characters)


def test_no_byte_is_shown_as_white_space():
    assert not any(c.isspace() for c in byte_characters())  # a merge is saved as two tokens with a space between


# ---- languages: a letter and its marks stay together

SENTENCES = {
    "Hindi": "एक लड़का लाल गेंद से खेल रहा",  # with a nukta, vowel signs and an anusvara
    "Thai": "แมวนั่งอยู่ที่หน้าต่าง สีแดง",
    "Arabic": "قِطَّةٌ تَجْلِسُ عَلَى النَّافِذَةِ",
    "Persian": "می‌خواهم گربه‌ها",  # with zero-width non-joiners
    "Hebrew": "חָתוּל יוֹשֵׁב עַל הַחַלּוֹן",
    "Chinese": "一只猫坐在窗边",
    "Japanese": "窓に座っている ガラスの猫 ﾌﾟﾘﾝ",
    "Korean": "고양이가 창가에 앉아 있다",
    "Russian": "Чёрный котёнок сидит на подоконнике",
    "Vietnamese": "một con mèo đen ngồi cạnh cửa sổ",
    "Tamil": "கொடி பறக்கிறது",
    "Bengali": "ক্ষুদ্র বিড়াল",
    "Khmer": "ឆ្មាអង្គុយ",
    "Burmese": "ကြောင်လေး",
    "Sinhala": "ක්\u200dරීඩා",  # with a zero-width joiner
    "Greek": "Ο ΣΚΎΛΟΣ ΤΡΈΧΕΙ",
    "Turkish": "İSTANBUL IŞIKLARI",
    "emoji": "👩‍👩‍👧 👍🏽 ❤️ 🇩🇪🏴󠁧󠁢󠁥󠁮󠁧󠁿 👩🏽‍🚀",
    "keycaps": "1️⃣ 2️⃣",
}
SCRIPTS = {
    name: st.sampled_from(sorted({*unicodedata.normalize("NFD", text), *text})) for name, text in SENTENCES.items()
}
foreign_text = st.sampled_from(sorted(SCRIPTS)).flatmap(
    lambda name: st.text(SCRIPTS[name] | st.sampled_from(" '.s1"), max_size=30)
)


def graphemes(text):
    return regex.findall(r"\X", text)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("text", SENTENCES.values(), ids=SENTENCES)
def test_texts_of_letters_and_marks_come_back_as_they_are(text, form):
    text = unicodedata.normalize(form, text)
    for known in (text, "a red circle", text[::2]):  # a tokenizer trained on it, on something else, on pieces of it
        tokenizer = Tokenizer.train([known] * 2, 9999)
        assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text.lower())


def test_a_hindi_sentence_takes_a_token_a_word():
    text = SENTENCES["Hindi"] + " है।"
    tokenizer = Tokenizer.train([text] * 2, 9999)
    assert [tokenizer.decode([i]) for i in tokenizer.encode(text)] == [*text.removesuffix("।").split(), "।"]


@settings(max_examples=200)
@given(foreign_text | any_text | tricky_text)
def test_no_grapheme_is_split(text):
    words, chunks = split_words(text), unicodedata.normalize("NFC", text.lower()).split()
    assert [g for word in words for g in graphemes(word)] == [g for chunk in chunks for g in graphemes(chunk)]


@settings(max_examples=200)
@given(foreign_text)
def test_both_forms_of_a_text_have_the_same_ids(text):
    assert TOKENIZER.encode(unicodedata.normalize("NFD", text)) == TOKENIZER.encode(unicodedata.normalize("NFC", text))


@settings(max_examples=100)
@given(foreign_text | any_text | tricky_text)
def test_what_was_decoded_has_the_same_ids(text):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.encode(TOKENIZER.decode(ids)) == ids


@settings(max_examples=200)
@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_plain_text_has_the_same_ids_with_every_pattern(text):
    assert Tokenizer(TOKENIZER.merges, clean="lower").encode(text) == TOKENIZER.encode(text)


def test_older_files_keep_their_ids(tmp_path):
    """Those of the time before marks: the demo's, and files that don't say how they split."""
    demo = Path(__file__).parents[1] / "data" / "demo" / "tokenizer.json"
    (tmp_path / "tokenizer.json").write_text(json.dumps({"merges": json.loads(demo.read_bytes())["merges"]}))
    for file in (demo, tmp_path / "tokenizer.json"):
        old = Tokenizer.load(file)
        assert old.clean == "lower"
        pieces = ["लड", "़", "क", "ा"]  # each ends with </w>, and a composed letter stays as it is
        assert old.encode("लड़का") == [old.ids[s] for piece in pieces for s in spell(piece)]
        assert old.encode("e\u0301") != old.encode("\xe9")


def test_decode_drops_sot_eot_and_replaces_what_is_no_utf8():
    half = BARE.encode("é")[:1]
    assert BARE.decode([BARE.sot_id, *BARE.encode("a"), *half, BARE.eot_id]) == "a \ufffd"


def test_decode_ends_at_eot():
    assert TOKENIZER.decode(TOKENIZER("a red circle", 16)[0]) == "a red circle"


@pytest.mark.parametrize("ids", [[-1], [540], [1, 10**9]])
def test_ids_beyond_the_vocabulary_are_refused(ids):
    with pytest.raises(MinclipError, match=str(TOKENIZER.vocab_size)):
        TOKENIZER.decode(ids)


def test_decode_takes_a_row_of_ids():
    row = TOKENIZER("a red circle", 16)[0]
    assert TOKENIZER.decode(row[row != TOKENIZER.pad_id]) == "a red circle"


def test_what_is_remembered_has_an_end_and_changes_no_id(monkeypatch):
    monkeypatch.setattr("minclip.tokenizer.KNOWN_CHUNKS", 3)
    tokenizer, text = Tokenizer(TOKENIZER.merges), "a red circle and a blue square on the edge of été"
    assert tokenizer.encode(text) == TOKENIZER.encode(text) and len(tokenizer._known) <= 3


def test_long_chunks_are_not_remembered():
    tokenizer = Tokenizer(TOKENIZER.merges)
    assert tokenizer.encode("a" * 100) == TOKENIZER.encode("a" * 100) and not tokenizer._known


def test_a_tokenizer_travels_to_other_processes():
    again = pickle.loads(pickle.dumps(TOKENIZER))
    assert again.encode("a red circle, été and more") == TOKENIZER.encode("a red circle, été and more")


# ---- a text that is no text


@pytest.mark.parametrize("text", ["\ud800", "a cat \udc80", "é\udfff"])
def test_half_a_surrogate_pair_is_refused(text):
    with pytest.raises(MinclipError, match=r"U\+D"):
        TOKENIZER.encode(text)


@pytest.mark.parametrize("text", [None, 5, b"bytes", ["a list"], float("nan")])
def test_what_is_no_str_is_refused(text):
    with pytest.raises(MinclipError, match=type(text).__name__):
        TOKENIZER.encode(text)


def test_what_is_no_str_is_refused_within_a_batch():
    with pytest.raises(MinclipError, match="float"):
        TOKENIZER(["a cat", float("nan")])  # pandas' empty cell


# ---- batches


def test_a_row_is_sot_the_text_eot_and_padding():
    ids = TOKENIZER.encode("a red circle")
    padding = [TOKENIZER.pad_id] * (16 - len(ids) - 2)
    assert TOKENIZER("a red circle", 16).tolist() == [[TOKENIZER.sot_id, *ids, TOKENIZER.eot_id, *padding]]


def test_a_batch_is_int64_of_the_context_length():
    ids = TOKENIZER(["a", "", "a red circle"], 12)
    assert (ids.shape, ids.dtype) == ((3, 12), torch.int64)


def test_a_tokenizer_knows_its_context_length():
    tokenizer = Tokenizer([])
    assert tokenizer("a").shape == (1, 77) and Tokenizer([], context_length=32)("a").shape == (1, 32)
    tokenizer.context_length = 12
    assert (tokenizer("a").shape, tokenizer("a", 5).shape) == ((1, 12), (1, 5))


def test_no_texts_make_an_empty_batch():
    assert TOKENIZER([], 12).shape == (0, 12)


@settings(max_examples=50)
@given(any_text, st.integers(3, 12))
def test_sot_and_eot_are_kept_at_any_length(text, length):
    tokenizer = Tokenizer([])
    tokenizer.truncated = 1  # past the first warning
    row = tokenizer(text, length)[0].tolist()
    assert row[0] == tokenizer.sot_id and row.count(tokenizer.eot_id) == 1


def test_a_text_that_just_fits_is_not_cut():
    tokenizer = Tokenizer([])
    assert tokenizer("abcd", 6)[0].tolist() == [tokenizer.sot_id, *tokenizer.encode("abcd"), tokenizer.eot_id]
    assert tokenizer.truncated == 0


def test_truncation_keeps_the_beginning_and_eot():
    tokenizer = Tokenizer([])
    with pytest.warns(UserWarning, match=r"9 tokens.* 4"):
        row = tokenizer("abcdefghi", 6)[0].tolist()
    assert row == [tokenizer.sot_id, *tokenizer.encode("abcdefghi")[:4], tokenizer.eot_id]


def test_truncation_is_counted_and_told_once():
    tokenizer = Tokenizer([])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokenizer(["abcdefghi", "a", "abcdefghij"], 6)
        tokenizer("abcdefghi", 6)
    assert (len(caught), tokenizer.truncated) == (1, 3)


def test_a_context_without_room_is_refused():
    with pytest.raises(MinclipError, match="context_length 2"):
        TOKENIZER("a", 2)


@pytest.mark.parametrize("tokenizer", [BARE, TOKENIZER, Tokenizer.train([f"{EOT} {SOT}"] * 9, 600)])
@pytest.mark.parametrize("text", [EOT, SOT, f"a{EOT}b", EOT.upper(), END])
def test_a_literal_special_token_is_text(tokenizer, text):
    assert not {tokenizer.sot_id, tokenizer.eot_id} & set(tokenizer.encode(text))


# ---- learning the merges


def textbook_bpe(texts, merges):
    """Sennrich et al. 2016, figure 1, with the package's words and tie rule: count all pairs anew for each merge."""
    words = Counter(" ".join(spell(word)) for text in texts for word in split_words(text))
    learned = []
    for _ in range(merges):
        pairs = Counter()
        for word, count in words.items():
            symbols = word.split(" ")
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        learned.append(best)
        apart, joined = re.compile(r"(?<![^ ])" + re.escape(" ".join(best)) + r"(?![^ ])"), "".join(best)
        words = {apart.sub(lambda _, joined=joined: joined, word): count for word, count in words.items()}
    return learned


@settings(max_examples=100)
@given(st.lists(st.text("ab ", max_size=25) | st.text("abcé '1", max_size=25), max_size=8), st.integers(514, 560))
def test_training_equals_the_textbook(texts, vocab_size):
    assert Tokenizer.train(texts, vocab_size).merges == textbook_bpe(texts, vocab_size - 514)


def test_training_equals_the_textbook_on_captions():
    assert TOKENIZER.merges == textbook_bpe(CORPUS, 540 - 514)


def test_training_stops_where_no_pair_occurs_twice():
    assert Tokenizer.train(["abc"], 9999).vocab_size == 514


def test_training_reaches_the_size_that_was_asked_for():
    assert TOKENIZER.vocab_size == 540


def test_training_takes_an_iterator():
    assert Tokenizer.train(iter(CORPUS), 540).merges == TOKENIZER.merges


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(MinclipError, match=r"513.*514"):
        Tokenizer.train(CORPUS, 513)


def test_a_frequent_word_becomes_one_token():
    assert TOKENIZER.encode("circle") == [TOKENIZER.ids["circle" + END]]


# ---- on disk


def test_save_and_load_give_the_same_ids(tmp_path):
    TOKENIZER.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert torch.equal(loaded(CORPUS), TOKENIZER(CORPUS)) and loaded.vocab == TOKENIZER.vocab


def test_a_tokenizer_without_merges_survives(tmp_path):
    BARE.save(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path / "tokenizer.json").merges == []


DAMAGED = {
    "empty": b"",
    "cut off": TOKENIZER.to_json().encode()[:200],
    "no UTF-8": b'{"merges": ["\xff a"]}',
    "no merges": b"{}",
    "a list": b"[]",
    "a number": b"3",
    "merges that are numbers": b'{"merges": [1, 2]}',
    "merges that are none": b'{"merges": null}',
    "half a merge": b'{"merges": ["a"]}',
    "three in a merge": b'{"merges": ["a b c"]}',
    "a part that is not there yet": b'{"merges": ["ab c", "a b"]}',
    "an unknown clean-up": b'{"merges": [], "clean": 3}',
    "nested without end": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(MinclipError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_bad_merge_is_told_by_its_number(tmp_path):
    lines = json.loads(TOKENIZER.to_json())
    lines["merges"][4] = "nonsense"
    (tmp_path / "tokenizer.json").write_text(json.dumps(lines))
    with pytest.raises(MinclipError, match="merge 5, 'nonsense'"):
        Tokenizer.load(tmp_path / "tokenizer.json")


# ---- OpenAI's tokenizer, as open_clip ships it


@pytest.fixture(scope="module")
def openai():
    """Our tokenizer with OpenAI's merges, and open_clip's."""
    open_clip = pytest.importorskip("open_clip")
    return Tokenizer.from_openai(), open_clip.tokenizer.SimpleTokenizer()


def test_openai_has_49408_tokens(openai):
    ours, theirs = openai
    assert ours.vocab_size == theirs.vocab_size == 49408


def test_openai_has_the_same_sot_and_eot(openai):
    ours, theirs = openai
    assert (ours.sot_id, ours.eot_id) == (theirs.sot_token_id, theirs.eot_token_id)


def test_openai_has_the_same_tokens(openai):
    ours, theirs = openai
    assert ours.vocab[:-2] == list(theirs.encoder)[:-2]


OPENAI_TEXTS = [
    "",
    " ",
    "a photo of a cat",
    "Hello,",
    "It's the 2 dogs' ball, they'll say: DON'T!!",
    "I'm we've he'd she'll it's they're WE'RE 'tis o'clock 'S",
    "    extra\tspaces \n and \r\n lines \f\v \n\n\n",
    "\u00a0no\u2003break\u3000space\u200bzero\u2028line\x85next\x1cfile\x1funit",
    "supercalifragilisticexpialidocious 1234567890 #hashtag @user http://example.com/?q=1&r=2",
    "3.14159 1,000,000 2²³ ½ Ⅻ ٣٤ 〇",
    "aaaaaaaaaaaaaaaa bbbb abababab",
    "été à la plage, naïve café, straße, smörgåsbord, ÉCOLE, İstanbul, ΟΔΥΣΣΕΥΣ",
    "e\u0301te\u0301 n\u0303 a\u0328\u0301 Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢",
    "кошка сидит на окне",
    "猫は窓に座っています",
    "高橋 ｶﾀｶﾅ Ｆｕｌｌ ｗｉｄｔｈ",
    "고양이",
    "قطة ٣٤ עברית \u202eright to left\u202c",
    "नमस्ते ไทย",
    "a 💛 and a 👩‍👩‍👧 and 🇩🇪 👍🏽 ☃️",
    "½ cup, 10°, ²",
    "ſs 'ſ",
    "ﬁne ﬂat “curly” ‘quotes’ — dash … ellipsis",
    "&lt;b&gt; &amp;amp;lt; &nbsp; &#39; &#x1F600; &notanentity; & &eacute;&Eacute; AT&T",
    "a < b &amp;lt; c &amp;amp;",  # with a < in it, ftfy leaves entities alone
    "schÃ¶n, Ã©tÃ©, donâ€™t, mojibakeâ„¢",
    "nul \0 bell \x07 delete \x7f escape \x1b[31mred\x1b[0m",
    "\ufeffbyte order mark \ufffd replacement \U0010ffff last",
    "\ud800 half, \udc80 half, \ud83d\ude00 both",
    "<|endoftext|> and <|startoftext|> are words",
    "</w> a</w> Ġ Ċ",
    "a" * 10_000,
    "supercalifragilistic" * 500,
    "💛" * 300,
]


@pytest.mark.parametrize("text", OPENAI_TEXTS)
def test_ids_equal_openai(openai, text):
    ours, theirs = openai
    assert ours.encode(text) == theirs.encode(text)


@settings(max_examples=300)
@given(st.text("abcdefgstmlv '.,!?-019\nABC", max_size=80) | any_text | tricky_text)
def test_ids_equal_openai_on_any_text(openai, text):
    ours, theirs = openai
    assert ours.encode(text) == theirs.encode(text)


@settings(max_examples=300)
@given(st.text(st.characters(max_codepoint=127), max_size=80))
@example("&lt;br&gt;")
@example("a &amp")
def test_ids_equal_openai_on_any_ascii(openai, text):
    # plain text skips the clean-up; nothing that the clean-up changes may skip it
    ours, theirs = openai
    assert ours.encode(text) == theirs.encode(text)


@pytest.mark.slow
def test_ids_equal_openai_on_all_captions(openai, flickr8k_zip):
    ours, theirs = openai
    with zipfile.ZipFile(flickr8k_zip) as archive:
        rows = list(csv.reader(io.StringIO(archive.read("captions.txt").decode("utf-8"))))[1:]
    texts = [text for _, text in rows]
    assert len(texts) == 35_000
    assert [ours.encode(text) for text in texts] == [theirs.encode(text) for text in texts]


def test_a_long_random_word_equals_openai(openai):
    ours, theirs = openai
    word = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=3_000))  # quadratic in open_clip
    assert ours.encode(word) == theirs.encode(word)


def test_batches_equal_openai_where_texts_are_cut(openai):
    ours, theirs = openai
    texts = ["a photo of a cat", "one two three four five six seven eight nine ten " * 10]
    ours.truncated = 1  # past the first warning
    assert torch.equal(ours(texts), theirs(texts))


@pytest.mark.parametrize("text", ["<end_of_text>", "a <START_OF_TEXT> b"])
def test_what_open_clip_takes_for_a_special_token_stays_text(openai, text):
    ours, theirs = openai
    assert {ours.sot_id, ours.eot_id} & set(theirs.encode(text)) and not {ours.sot_id, ours.eot_id} & set(
        ours.encode(text)
    )


def test_openais_decode_gives_back_the_words(openai):
    assert openai[0].decode(openai[0].encode("A photo of &lt;two&gt; cafés.")) == "a photo of < two > cafés ."


# ---- OpenAI's file


@pytest.fixture(scope="module")
def openai_file():
    return Path(pytest.importorskip("open_clip").__file__).parent / MERGES_FILE


@pytest.mark.slow
def test_openais_file_is_found_without_importing_open_clip(openai_file):
    code = (
        "import sys, minclip; minclip.Tokenizer.from_openai(); print('open_clip' in sys.modules, 'ftfy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False False"


def test_hugging_faces_merges_give_the_same(openai, openai_file, tmp_path):
    lines = gzip.decompress(openai_file.read_bytes()).decode().split("\n")[: 1 + MERGES]
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert Tokenizer.from_openai(tmp_path / "merges.txt").merges == openai[0].merges


def test_openais_clean_up_is_saved(openai, tmp_path):
    openai[0].save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.encode("caf&eacute;") == openai[0].encode("café") and loaded.clean == "openai"


def test_openais_file_is_taken_from_the_data_folder(openai_file, data_home, no_open_clip):
    data_home.mkdir()
    shutil.copy(openai_file, data_home / MERGES_FILE)
    assert Tokenizer.from_openai().vocab_size == 49408


def test_without_openais_file_the_message_tells_what_to_do(data_home, no_open_clip):
    with pytest.raises(MinclipError, match=r"open_clip_torch.*https://\S+/bpe_simple"):
        Tokenizer.from_openai()


@pytest.fixture
def no_open_clip(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_cut_off_merges_file_is_refused(openai_file, tmp_path, share):
    data = openai_file.read_bytes()
    (tmp_path / MERGES_FILE).write_bytes(data[: int(share * len(data))])
    with pytest.raises(MinclipError, match=r"bpe_simple_vocab_16e6\.txt\.gz"):
        Tokenizer.from_openai(tmp_path / MERGES_FILE)


def test_other_merges_than_openais_are_refused(openai_file, tmp_path):
    lines = gzip.decompress(openai_file.read_bytes()).decode().split("\n")
    lines[7], lines[8] = lines[8], lines[7]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(MinclipError, match=r"merges\.txt.*48,894.*hash"):
        Tokenizer.from_openai(tmp_path / "merges.txt")


@pytest.mark.parametrize("read", [Tokenizer.from_openai, Tokenizer.load])
def test_a_file_that_can_not_be_read_is_refused_by_name(read, tmp_path):
    for path in (tmp_path / "nowhere.gz", tmp_path):  # a folder, too
        with pytest.raises(MinclipError, match=path.name):
            read(path)


def test_an_unknown_clean_up_is_refused():
    with pytest.raises(MinclipError, match="'upper'"):
        Tokenizer([], clean="upper")


@pytest.mark.parametrize("texts", [None, 5, 1.5, b"a cat"])
def test_what_is_no_list_of_texts_is_refused(texts):
    with pytest.raises(MinclipError, match=type(texts).__name__):
        TOKENIZER(texts)
