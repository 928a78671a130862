from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych_adapters.lexical import Analyzer, Bm25, QdrantTextIndex
from diptych_adapters.model_options import LexiconOptions


def analyzer(**options: object) -> Analyzer:
    return Analyzer(LexiconOptions.model_validate(options))


def terms(text: str, **options: object) -> list[str]:
    made = analyzer(**options)
    return [stem for word in made.words(text) if (stem := made.stem(word))]


def test_words_are_lower_case_runs_of_letters_digits_and_underscores() -> None:
    assert analyzer().words("Foo-bar, x86_64: C++ (lib2to3)!") == ["foo", "bar", "x86_64", "lib2to3"]


def test_stop_words_are_left_out_and_the_rest_is_stemmed() -> None:
    assert terms("The conversions of the files") == ["convers", "file"]


def test_the_english_list_is_the_short_one_of_lucene() -> None:
    assert len(analyzer().stopwords) == 33
    assert "about" not in analyzer().stopwords


def test_nltks_list_is_longer_in_english_and_the_same_elsewhere() -> None:
    assert analyzer(stopwords="nltk").stopwords > analyzer().stopwords | {"about", "which"}
    assert analyzer(stopwords="nltk", language="german").stopwords == analyzer(language="german").stopwords


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("german", "die Häuser und der Garten", ["haus", "gart"]),
        ("french", "les chevaux dans la forêt", ["cheval", "forêt"]),
        ("russian", "и файлы", ["файл"]),
        ("none", "the files", ["the", "files"]),
        ("finnish", "talossa", ["talo"]),
    ],
)
def test_each_language_has_its_stemmer_and_stop_words(language: str, text: str, expected: list[str]) -> None:
    assert terms(text, language=language) == expected


def test_own_stop_words_replace_the_list() -> None:
    assert terms("the audio file", stopwords=["AUDIO"]) == ["the", "file"]
    assert terms("the audio", stopwords=[]) == ["the", "audio"]


def test_composed_and_decomposed_letters_are_the_same_word() -> None:
    text = "café Ａｕｄｉｏ ﬁle"
    assert analyzer().words(unicodedata.normalize("NFD", text)) == analyzer().words(text) == ["café", "audio", "file"]


def test_folding_reads_accents_as_plain_letters_also_in_stop_words() -> None:
    assert terms("Café naïve", ascii_folding=True, language="none") == ["cafe", "naive"]
    assert terms("fur", language="german", ascii_folding=True) == []


def test_words_keep_the_marks_that_sit_on_their_letters() -> None:
    assert analyzer(language="hindi").words("हिन्दी में खोज") == ["हिन्दी", "में", "खोज"]


def test_chinese_and_japanese_become_overlapping_pairs() -> None:
    assert analyzer().words("全文検索 engine検 と") == ["全文", "文検", "検索", "engine", "検", "と"]


def test_words_outside_the_lengths_are_left_out_in_ascii_and_beyond() -> None:
    assert analyzer().words("a bb " + "c" * 64 + " " + "d" * 65) == ["bb", "c" * 64]
    assert analyzer().words("é bé " + "ç" * 64 + " " + "ð" * 65) == ["bé", "ç" * 64]
    assert analyzer(min_token_length=1).words("a bé") == ["a", "bé"]


@given(st.text(st.sampled_from("aB3_- .'\n"), max_size=40))
def test_a_text_is_read_alike_whatever_else_it_holds(text: str) -> None:
    plain = analyzer(max_token_length=5).words(text)
    for other in ("é", "\u0301", "€", "“", "か", "\ufe0f"):
        found = analyzer(max_token_length=5).words(f"{text} {other}")
        assert [word for word in found if word != other] == plain


@given(st.text(max_size=60), st.booleans())
def test_any_text_gives_words_within_the_lengths_that_read_as_themselves(text: str, fold: bool) -> None:
    made = analyzer(ascii_folding=fold, max_token_length=10)
    for word in made.words(text):
        assert 1 <= len(word) <= 10
        assert made.words(word) in ([word], [])


def test_stop_words_are_read_without_importing_their_package() -> None:
    code = (
        "import sys; from diptych_adapters.lexical import Bm25; Bm25().encode_query(['audio files']);"
        "print([m for m in ('bm25s', 'scipy', 'torch', 'numba', 'jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("language", "text", "word"),
    [
        ("thai", "ฉันรักประเทศไทยมาก", "ประเทศ"),
        ("lao", "ຂ້ອຍຮັກປະເທດລາວ", "ປະເທດ"),
        ("khmer", "ខ្ញុំស្រឡាញ់ប្រទេសកម្ពុជា", "ប្រទេស"),
        ("burmese", "ကျွန်တော်မြန်မာနိုင်ငံကိုချစ်တယ်", "နိုင်ငံ"),
        ("chinese", "我喜欢图书馆", "图书馆"),
        ("multilingual", "the word ประเทศไทย and 中文学习", "ประเทศ"),
    ],
)
def test_a_word_is_found_in_a_text_without_spaces(language: str, text: str, word: str) -> None:
    pairs = terms(text, language=language)
    assert set(terms(word, language=language)) <= set(pairs)
    assert word not in pairs


def test_a_pair_is_two_letters_with_the_marks_on_them() -> None:
    assert terms("น้ำใจ", language="thai") == ["น้ํา", "าใ", "ใจ"]
    assert terms("ကို", language="burmese") == ["ကို"]


def test_the_other_languages_cut_chinese_alone_as_before() -> None:
    assert terms("ประเทศไทย 学习中", language="none") == ["ประเทศไทย", "学习", "习中"]
    assert terms("files of ประเทศไทย", language="multilingual")[:2] == ["files", "of"]


def test_the_share_of_letters_that_are_not_cut_into_words_is_said() -> None:
    texts = ["files", "ไทยไทย"]  # five letters and six
    shares = [Bm25(language=language).unread_share(texts) for language in ("english", "none", "thai")]
    assert shares == [6 / 11, 6 / 11, 0]
    assert QdrantTextIndex().unread_share(["学习 files"]) == 2 / 7
    assert Bm25().unread_share(["学习 files", ""]) == 0
    assert QdrantTextIndex(language="chinese").unread_share(["学习"]) == 0
    assert Bm25().unread_share(["12:30", ""]) == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("getUserName", ["getusername", "get", "user", "name"]),
        ("get_user_name", ["get_user_name", "get", "user", "name"]),
        ("XMLHttpRequest", ["xmlhttprequest", "xml", "http", "request"]),
        ("MAX_SIZE", ["max_size", "max", "size"]),
        ("utf8", ["utf8"]),
        ("Files", ["files"]),
        ("HTTP", ["http"]),
        ("_private", ["_private"]),
    ],
)
def test_names_in_code_also_count_by_their_parts(name: str, words: list[str]) -> None:
    assert analyzer(identifiers=True).words(f"{name};") == words
    assert analyzer().words(f"{name};") == words[:1]
