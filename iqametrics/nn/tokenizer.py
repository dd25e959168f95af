"""CLIP's byte-pair tokenizer: text to the 49,408 token ids of OpenAI's CLIP.

Text is repaired (ftfy), HTML entities are resolved, white space is collapsed, and everything is lower-cased. Then it is
cut into words. A word starts as the symbols of its UTF-8 bytes; neighbouring symbols are joined, always the pair that
stands first in the list of merges, until no listed pair is left.

Sources: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL 2016, section 3.2;
Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section 2.4. The
list of merges is OpenAI's (see NOTICE).
"""

import gzip
import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import chain, pairwise
from math import inf

import ftfy
import regex
import torch
from torch import Tensor

from iqametrics.errors import InputError

START, END = "<start_of_text>", "<end_of_text>"
CONTEXT_LENGTH = 77

# CLIP's vocabulary is made of the first part of the list only.
_MERGES = 48_894
_WORD_END = "</w>"
_WORDS = regex.compile(
    "|".join(
        (
            START,
            END,
            "'s|'t|'re|'ve|'m|'ll|'d",  # English contractions
            r"\p{L}+",  # a run of letters
            r"\p{N}",  # a digit: numbers are read digit by digit
            r"[^\s\p{L}\p{N}]+",  # a run of anything else that is visible
        )
    ),
    regex.IGNORECASE,
)


@dataclass(frozen=True)
class _Vocabulary:
    """Tables of the tokenizer: id of a symbol, rank of a pair, symbol of a byte."""

    ids: dict[str, int]
    ranks: dict[tuple[str, str], int]
    byte_symbols: tuple[str, ...]


def tokenize(texts: str | Sequence[str], context_length: int = CONTEXT_LENGTH) -> Tensor:
    """Turn texts into token ids.

    A text becomes its start token, its tokens, its end token, and zeros up to `context_length`. A text that is too
    long is cut; its last token is still the end token.

    Args:
        texts: One text or several.
        context_length: Number of ids for each text, at least 2.

    Returns:
        Ids in [0, 49407], int64, (number of texts, context_length).

    Raises:
        InputError: If a text is not a string or `context_length` is below 2.

    Example:
        >>> tokenize("a photo", context_length=6)
        tensor([[49406,   320,  1125, 49407,     0,     0]])
    """
    if context_length < 2:
        raise InputError(f"a context length of {context_length} holds no start and end token: use 2 or more")
    texts = list(texts) if isinstance(texts, Sequence) and not isinstance(texts, str) else [texts]
    ids = _vocabulary().ids
    result = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(result, texts, strict=True):
        tokens = [ids[START], *_encode(text)[: context_length - 2], ids[END]]
        row[: len(tokens)] = torch.tensor(tokens)
    return result


def _encode(text: str) -> list[int]:
    """Return the token ids of one text, without start and end."""
    if not isinstance(text, str):
        raise InputError(f"a text to tokenize must be a string, not {type(text).__name__}: {text!r}")
    vocabulary = _vocabulary()
    words = _WORDS.findall(_clean(text))
    return [vocabulary.ids[symbol] for word in words for symbol in _symbols(word, vocabulary)]


def _clean(text: str) -> str:
    # Twice, since text from the web is often escaped twice ("&amp;quot;").
    unescaped = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(unescaped.split()).lower()


def _symbols(word: str, vocabulary: _Vocabulary) -> list[str]:
    """Cut one word into symbols of the vocabulary."""
    if word in (START, END):
        return [word]
    symbols = [vocabulary.byte_symbols[byte] for byte in word.encode("utf-8")]
    symbols[-1] += _WORD_END
    while len(symbols) > 1:
        pair = min(pairwise(symbols), key=lambda candidate: vocabulary.ranks.get(candidate, inf))
        if pair not in vocabulary.ranks:
            break
        symbols = _join_pair(symbols, pair)
    return symbols


def _join_pair(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """Join each occurrence of a pair, from left to right."""
    joined: list[str] = []
    for symbol in symbols:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return joined


@lru_cache(maxsize=1)
def _vocabulary() -> _Vocabulary:
    """Read the list of merges, once and only when it is needed."""
    packed = files("iqametrics.nn").joinpath("data", "bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : _MERGES + 1]  # line 0 is a version mark
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    single = _byte_symbols()
    # Ids go by the alphabet in order of code points, first inside a word, then at its end; then the merges.
    alphabet = sorted(single)
    symbols = chain(
        alphabet, (symbol + _WORD_END for symbol in alphabet), (left + right for left, right in merges), (START, END)
    )
    return _Vocabulary(
        ids={symbol: index for index, symbol in enumerate(symbols)},
        ranks={pair: rank for rank, pair in enumerate(merges)},
        byte_symbols=single,
    )


def _byte_symbols() -> tuple[str, ...]:
    """Return a visible character for each byte: Latin-1's where that is visible, else one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in visible else next(spare)) for byte in range(256))
