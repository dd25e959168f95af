import hashlib
import importlib.util
from importlib.resources import files

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iqametrics.errors import InputError
from iqametrics.nn.tokenizer import tokenize

TEXTS = [
    "",
    " ",
    "a photo with sharp quality.",
    "a photo with jpeg2000 compression artifacts, which is of bad quality",
    "true-colored, well-lit, artifact-free",
    "It's they're I've I'm we'll he'd O'Brien 'S 'ſ",
    "AN IMAGE In CaPiTaLs ÄÖÜ İstanbul ẞ",
    "crème brûlée naïve façade Ångström e\u0301",
    "don&#39;t &amp;quot;escape&amp;quot; &lt;b&gt; &amp;amp; &hearts; &nbsp;x &#xD800; &#128512;",
    "tabs\tand\nnew\r\nlines\u2028and\u00a0spaces\u3000wide\u200bzero",
    "😀 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ♥️",
    "日本語のテキスト 中文 한국어 العربية עברית हिन्दी ไทย",
    "Ⅷ ½ x² １２３ 12345 3.14159 ٣٤",
    "â€œmojibakeâ€\x9d Ã©tÃ© schÃ¶n",
    "“curly” ‘quotes’ — dashes… ﬁgure ﬂow",
    "...!!!???---___###@@@$$$%%%^^^&&&***((()))",
    "\x00 \x1b[31mred\x1b[0m \x7f \ufeffbom \ufffd",
    "\ud800 lone surrogate \udc00 \ud83d\ude00 pair",
    "<start_of_text> inside <end_of_text> and <END_OF_TEXT> <ſtart_of_text> <|endoftext|>",
    "http://example.org/a_b?c=d&e=f#g user@example.org C:\\path\\file.txt",
    "Z̷̢͝a̸͕͝l̵̞̓g̶̰̈́o",
    "aaaaaaaaaaaaaaaa bbb abababab lolololol",
    "x" * 400,
    "word " * 100,
    "😀" * 60,
    "a " * 75,
    "a " * 76,
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_equal_to_open_clip(text):
    assert torch.equal(tokenize(text), open_clip.tokenize(text))


def test_several_texts_at_once():
    found = tokenize(TEXTS)
    assert found.shape == (len(TEXTS), 77)
    assert found.dtype == torch.int64
    assert torch.equal(found, open_clip.tokenize(TEXTS))


@pytest.mark.slow
@given(st.text(max_size=60))
@settings(deadline=None, max_examples=300, derandomize=True)
def test_equal_to_open_clip_on_random_text(text):
    assert torch.equal(tokenize(text), open_clip.tokenize(text))


PIECES = ["'", "'ll", "&amp;", "&lt;", ";", "<end_of_text>", "ſ", "İ", "é", "1", "٣", " ", "\n", "😀", "-", "Ab", "the"]


@given(st.lists(st.sampled_from(PIECES), max_size=20))
@settings(deadline=None, max_examples=300, derandomize=True)
def test_equal_to_open_clip_on_awkward_pieces(pieces):
    text = "".join(pieces)
    assert torch.equal(tokenize(text), open_clip.tokenize(text))


@pytest.mark.parametrize("length", [2, 3, 8, 100])
def test_other_context_lengths(length):
    text = "a photograph of a lighthouse at dusk"
    found = tokenize(text, length)
    assert found.shape == (1, length)
    assert torch.equal(found, open_clip.tokenize(text, context_length=length))


def test_a_long_text_keeps_its_end_token():
    assert tokenize("word " * 100)[0, -1] == 49407


def test_no_text_gives_no_row():
    assert tokenize([]).shape == (0, 77)


@pytest.mark.parametrize("texts", [3, [None], [b"bytes"], ["a", 1.5]])
def test_what_is_no_text_is_refused(texts):
    with pytest.raises(InputError, match=r"must be a string, not (int|NoneType|bytes|float)"):
        tokenize(texts)


def test_a_context_without_room_is_refused():
    with pytest.raises(InputError, match="context length of 1 holds no start and end token"):
        tokenize("a", context_length=1)


def test_vocabulary_is_openais_file():
    packed = files("iqametrics.nn").joinpath("data", "bpe_simple_vocab_16e6.txt.gz").read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    assert digest == "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"


def test_vocabulary_is_not_read_on_import():
    spec = importlib.util.find_spec("iqametrics.nn.tokenizer")
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    assert fresh._vocabulary.cache_info().currsize == 0
    fresh.tokenize("a")
    assert fresh._vocabulary.cache_info().currsize == 1
