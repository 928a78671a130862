"""How much of a text a tokenizer cannot read: unknown words, and words that it cuts into letters or bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from diptych_adapters.engines.batches import unread_share


def word_piece(folder: Path) -> list[Path]:
    """Knows some pieces of words, Latin and some Cyrillic letters, and two Chinese characters."""
    pieces = ["[UNK]", "cat", "##s", "a", *"кот", *(f"##{letter}" for letter in "кот"), "猫", "鼠"]
    pieces += ["under", "##stand", "ver", "##ste", "##hen"]
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    return [folder.parent, folder]


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("a cat", 0.0),
        ("understand", 0.0),  # under ##stand
        ("verstehen", 1.0),  # ver ##ste ##hen: three letters a token
        ("understand verstehen", 9 / 19),
        ("cats", 1.0),
        ("a-cat", 0.0),  # two words
        ("кот", 1.0),  # к ##о ##т
        ("cat дом", 0.5),  # дом is unknown
        ("猫鼠", 0.0),  # Chinese characters are words
        ("猫犬", 0.5),
        ("1, 2!", 0.0),
        ("", 0.0),
    ],
)
def test_letters_that_are_unknown_or_read_in_small_pieces_count(text: str, share: float, tmp_path: Path) -> None:
    assert unread_share(word_piece(tmp_path), [text, ""]) == pytest.approx(share)


def test_letters_that_are_cut_into_bytes_count_once(tmp_path: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE({piece: n for n, piece in enumerate([*alphabet, "ca", "cat"])}, [("c", "a"), ("ca", "t")])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert unread_share([tmp_path], ["cat", "猫"]) == pytest.approx(1 / 4)


def test_without_a_tokenizer_nothing_is_known(tmp_path: Path) -> None:
    assert unread_share([tmp_path], ["кот"]) == 0.0
