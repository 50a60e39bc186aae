"""Old configs and tokenizers of Hugging Face mean here what transformers makes of them."""

import json

import pytest
import torch

transformers = pytest.importorskip("transformers")

from minclip import CLIP, CLIPConfig, TextConfig, Tokenizer, VisionConfig, load  # noqa: E402
from minclip.weights.load import save  # noqa: E402

TEXTS = [
    *(
        "a photo of a dog",
        "",
        " ",
        "A  Photo\tof\na CAT",
        "two dogs, running in the snow! 2024",
        "it's John's; they'd've",
    ),
    *("héllo wörld", "e\u0301te\u0301 na\u00efve", "n\u0303andu\u0301", "\u1e9e gro\u00df", "ÀÉÎÕÜ", "İstanbul ıI"),
    *("🐶🐱", "👩‍👩‍👧‍👦 family", "flag 🇩🇪 and 👍🏽", "☃️ snow ❄", "smile :-) ^_^", "♥ ★ →"),
    *(
        "हिन्दी में एक वाक्य",
        "สวัสดีครับ",
        "مرحبا بالعالم",
        "שָׁלוֹם",
        "你好 世界",
        "こんにちは世界",
        "안녕하세요",
        "Привет, мир",
    ),
    *("Ελληνικά ς Σ", "tiếng Việt", "ქართული", "አማርኛ", "தமிழ்", "বাংলা", "മലയാളം", "ျမန္မာ"),
    *("1234567890", "3.14 × 10^8", "50% off $19.99", "a-b_c/d\\e|f", "#hashtag @user", "http://a.b/c?d=e&f=g"),
    *("don't 'quote' \"double\"", "semi;colon:comma,", "(parens) [brackets] {braces}", "a" * 300, "word " * 40),
    *(
        "naïve café coöperate",
        "x\u0327\u0301 stacked marks",
        "\u0061\u0301\u0323",
        "カタカナ",
        "½ ² ³ №",
        "tab\u00a0nbsp",
    ),
]


@pytest.fixture(autouse=True)
def somewhere(here, data_home):
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def openai(tmp_path_factory):
    """A folder with transformers' own tokenizer.json of OpenAI's vocabulary."""
    folder = tmp_path_factory.mktemp("openai")
    vision = VisionConfig(image_size=16, patch_size=8, width=64, layers=1, heads=1)
    model = CLIP(CLIPConfig(16, vision, TextConfig(width=64, layers=1, heads=1)))
    save(folder / "ours", model, format="transformers", tokenizer=Tokenizer.from_openai())
    transformers.CLIPTokenizer.from_pretrained(folder / "ours").save_pretrained(folder / "theirs")
    assert (folder / "theirs" / "tokenizer.json").exists()
    return folder


def hugging_face(folder, openai, *, vocab=49408, eos=2):
    """A tiny CLIPModel of transformers with OpenAI's tokenizer, saved to `folder` by transformers."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=sizes | {"vocab_size": vocab, "eos_token_id": eos, "max_position_embeddings": 77},
        vision_config=sizes | {"image_size": 16, "patch_size": 8, "intermediate_size": 256},
        projection_dim=16,
    )
    config.text_config.intermediate_size = 256
    theirs = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    theirs.save_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(openai / "theirs")
    tokenizer.save_pretrained(folder)
    return theirs, tokenizer


@pytest.mark.parametrize(("vocab", "eos"), [(49408, 2), (49472, 2), (49472, 49407), (49408, 49407), (49410, 2)])
def test_a_text_is_read_to_the_end_that_transformers_sees(here, openai, vocab, eos):
    theirs, tokenize = hugging_face(here / "hf", openai, vocab=vocab, eos=eos)
    assert json.loads((here / "hf" / "config.json").read_text())["text_config"]["eos_token_id"] == eos
    model, _, tokenizer = load(here / "hf")
    texts = ["a photo of a dog", "two dogs, running in the snow!", "🐶 na\u00efve"]
    batch = tokenize(texts, padding="max_length", max_length=77, return_tensors="pt")
    with torch.no_grad():
        expected = theirs.get_text_features(**batch).pooler_output
        assert expected.std() > 0.05
        for ids in (tokenizer(texts), batch.input_ids):  # padded with 0 and with the end token
            torch.testing.assert_close(model.encode_text(ids), expected, rtol=1e-5, atol=1e-5)


def test_the_tokenizer_of_the_folder_gives_transformers_ids(here, openai):
    _, theirs = hugging_face(here / "hf", openai)
    ours = load(here / "hf")[2]
    assert len(TEXTS) >= 50
    different = [text for text in TEXTS if theirs(text)["input_ids"][1:-1] != ours.encode(text)]
    assert different == []


@pytest.mark.parametrize("text", ["你好，世界", "it\u2019s \u201chere\u201d", "Q&amp;A", "ﬁne", "sch\u00c3\u00b6n"])
def test_what_openais_clean_up_repairs_is_encoded_as_in_training(here, openai, text):
    # transformers' fast tokenizer leaves it out
    open_clip = pytest.importorskip("open_clip")
    _, theirs = hugging_face(here / "hf", openai)
    ours = load(here / "hf")[2].encode(text)
    assert ours == open_clip.SimpleTokenizer().encode(open_clip.tokenizer._clean_lower(text))
    assert ours != theirs(text)["input_ids"][1:-1]


def test_merges_alone_will_do(here, openai):
    _, theirs = hugging_face(here / "hf", openai)
    (here / "hf" / "tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt"):
        (here / "hf" / name).write_bytes((openai / "ours" / name).read_bytes())
    ours = load(here / "hf")[2]
    assert ours.encode("a photo of a dog") == theirs("a photo of a dog")["input_ids"][1:-1]


def test_our_features_go_on_working_after_saving_again(here, openai):
    hugging_face(here / "hf", openai)
    model, _, tokenizer = load(here / "hf")
    save(here / "again", model, format="transformers", tokenizer=tokenizer)
    again, _, other = load(here / "again")
    ids = tokenizer(["a photo of a dog"])
    assert torch.equal(other(["a photo of a dog"]), ids) and torch.equal(again.encode_text(ids), model.encode_text(ids))
