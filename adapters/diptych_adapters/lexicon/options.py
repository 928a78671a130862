"""The options that the lexical adapters share, cheap to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from diptych_adapters.model_options import Options

Language: TypeAlias = Literal[
    "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german", "greek",
    "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish", "none",
    "chinese", "japanese", "thai", "lao", "khmer", "burmese", "multilingual",
]  # fmt: skip
UNSTEMMED = ("chinese", "japanese", "thai", "lao", "khmer", "burmese", "multilingual")
SPACELESS = ("chinese", "japanese", "thai")


class LexiconOptions(Options):
    """How a text becomes terms."""

    language: Language = Field(
        "english",
        description="Snowball stemmer and stop words. Chinese, Japanese, Thai, Lao, Khmer and Burmese have neither: "
        "their texts, which have no spaces, are cut into overlapping pairs of letters. `multilingual` does so for "
        "texts in several languages; `none` does so for Chinese and Japanese alone, and leaves words as they are.",
    )
    stopwords: list[str] | Literal["nltk"] | None = Field(
        None,
        description="Words to leave out instead of the language's own list: `nltk` for NLTK's list, longer in English; "
        "`[]` keeps every word.",
    )
    ascii_folding: bool = Field(False, description="Read accented letters as their plain form: `café` as `cafe`.")
    identifiers: bool = Field(
        False,
        description="For program code: names such as `getUserName` and `get_user_name` also count by their parts.",
    )
    min_token_length: int = Field(2, ge=1, description="Shorter words are left out.")
    max_token_length: int = Field(64, ge=1, description="Longer words, such as hashes and encoded data, are left out.")

    @model_validator(mode="after")
    def _lengths_in_order(self) -> LexiconOptions:
        if self.min_token_length > self.max_token_length:
            raise ValueError(
                f"min_token_length {self.min_token_length} is above max_token_length {self.max_token_length}"
            )
        return self


class Bm25Weights(Options):
    """How occurrences of a term become its weight."""

    k1: float = Field(
        1.2, ge=0, description="How soon more occurrences of a word stop counting; 0 counts presence only."
    )
    b: float = Field(0.75, ge=0, le=1, description="How much longer documents are discounted; 0 not at all.")
    average_length: float | None = Field(
        None,
        gt=0,
        description="Words that count of a document on average, used until a populate has measured the corpus: where "
        "another program fills the collection.",
    )


class Bm25Options(Bm25Weights, LexiconOptions):
    """Options of the `bm25` adapter."""

    FOR_CODE: ClassVar[Mapping[str, Any]] = {"language": "english", "identifiers": True}

    compatible_with: Literal["fastembed"] | None = Field(
        None,
        description="`fastembed`: the same vectors as FastEmbed's `Qdrant/bm25`, the default of LangChain's hybrid "
        "search, to share a collection with such a program. `average_length` is then a constant, 256 unless set.",
    )

    @model_validator(mode="after")
    def _fastembed_has_its_own_words(self) -> Bm25Options:
        usual = LexiconOptions(language=self.language).model_dump()
        if self.compatible_with and self.model_dump(include={*usual}) != usual:
            raise ValueError("compatible_with: fastembed has its own words: of their options it takes only language")
        return self


class NGramOptions(Bm25Weights):
    """Options of the `ngrams` adapter."""

    minimum: int = Field(4, ge=2, le=10, description="Characters of the shortest n-grams.")
    maximum: int = Field(
        4, ge=2, le=10, description="Characters of the longest; 3 to 4 find a little more in twice the space."
    )
    ascii_folding: bool = Field(False, description="Read accented letters as their plain form: `café` as `cafe`.")
    first_words: int | None = Field(
        None,
        ge=1,
        description="Read only so many words of a document, split at spaces: for names or part numbers, which stand "
        "first as the title. Queries are read whole.",
    )

    @model_validator(mode="after")
    def _lengths_in_order(self) -> NGramOptions:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


IndexLanguage: TypeAlias = Literal[
    "arabic", "armenian", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish", "none",
    "chinese", "japanese", "thai",
]  # fmt: skip


class TextIndexOptions(Options):
    """Options of the `qdrant-text-index` adapter."""

    FOR_CODE: ClassVar[Mapping[str, Any]] = {"language": "none", "tokenizer": "code"}

    language: IndexLanguage = Field(
        "english",
        description="Snowball stemmer and stop words; `none` for neither. Chinese, Japanese and Thai have neither, and "
        "the tokenizer `multilingual`.",
    )
    stopwords: list[str] | None = Field(
        None, description="Words to leave out, instead of Qdrant's list for the language; `[]` keeps every word."
    )
    tokenizer: Literal["word", "whitespace", "prefix", "multilingual", "code"] = Field(
        "word",
        description="How Qdrant cuts a text: `multilingual` for languages without spaces, `code` for program code.",
    )
    ascii_folding: bool = Field(False, description="Read accented letters as their plain form: `café` as `cafe`.")
    min_token_length: int | None = Field(None, ge=1, description="Shorter words are left out.")
    max_token_length: int | None = Field(None, ge=1, description="Longer words are left out.")
    k1: float = Field(1.2, ge=0, description="How soon more occurrences of a word stop counting; sent with each query.")
    b: float = Field(0.75, ge=0, le=1, description="How much longer documents are discounted; sent with each query.")
    memory: Literal["cold", "cached", "pinned"] | None = Field(
        None, description="Where Qdrant keeps the index: on disk, cached, or pinned in memory; its own default else."
    )

    @model_validator(mode="before")
    @classmethod
    def _cut_texts_without_spaces(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and raw.get("language") in SPACELESS:
            return {"tokenizer": "multilingual", **raw}
        return raw

    @model_validator(mode="after")
    def _lengths_in_order(self) -> TextIndexOptions:
        low, high = self.min_token_length, self.max_token_length
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_token_length {low} is above max_token_length {high}")
        return self
