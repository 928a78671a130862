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
        "their texts are split into overlapping pairs of letters. `multilingual` does so in texts of "
        "several languages; `none` only for Chinese and Japanese, and keeps words as they are.",
    )
    stopwords: list[str] | Literal["nltk"] | None = Field(
        None,
        description="Words to drop instead of the language's own list: `nltk` for NLTK's list, longer in English; `[]`"
        " drops none.",
    )
    ascii_folding: bool = Field(False, description="Treat accented letters as plain ones: `café` as `cafe`.")
    identifiers: bool = Field(
        False, description="For program code: also index the parts of names such as `getUserName` and `get_user_name`."
    )
    min_token_length: int = Field(2, ge=1, description="Minimum characters of a word; shorter ones are dropped.")
    max_token_length: int = Field(64, ge=1, description="Maximum characters of a word; drops hashes and the like.")

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
        1.2, ge=0, description="How much repeated words add: higher counts repetitions more; 0 counts presence only."
    )
    b: float = Field(0.75, ge=0, le=1, description="How much longer documents are discounted, 0 to 1; 0 not at all.")
    average_length: float | None = Field(
        None,
        gt=0,
        description="Average number of words per document, used until a populate measures it; set it if another "
        "program fills the collection.",
    )


class Bm25Options(Bm25Weights, LexiconOptions):
    """Options of the `bm25` adapter."""

    FOR_CODE: ClassVar[Mapping[str, Any]] = {"language": "english", "identifiers": True}

    compatible_with: Literal["fastembed"] | None = Field(
        None,
        description="`fastembed` makes the same vectors as FastEmbed's `Qdrant/bm25`, the default of LangChain's "
        "hybrid search, to share a collection with it. `average_length` is then constant, 256 unless set.",
    )

    @model_validator(mode="after")
    def _fastembed_has_its_own_words(self) -> Bm25Options:
        usual = LexiconOptions(language=self.language).model_dump()
        if self.compatible_with and self.model_dump(include={*usual}) != usual:
            raise ValueError("compatible_with: fastembed has fixed rules for words: of their options set only language")
        return self


class NGramOptions(Bm25Weights):
    """Options of the `ngrams` adapter."""

    minimum: int = Field(4, ge=2, le=10, description="Length of the shortest n-grams, in characters.")
    maximum: int = Field(
        4, ge=2, le=10, description="Length of the longest n-grams; 3 to 4 finds a little more in twice the space."
    )
    ascii_folding: bool = Field(False, description="Treat accented letters as plain ones: `café` as `cafe`.")
    first_words: int | None = Field(
        None,
        ge=1,
        description="Read only the first N words of a document, for names or part numbers at its start; null reads "
        "all. Queries are read whole.",
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
        description="Snowball stemmer and stop words; `none` for neither. Chinese, Japanese and Thai have neither and "
        "need the tokenizer `multilingual`.",
    )
    stopwords: list[str] | None = Field(
        None, description="Words to drop instead of Qdrant's list for the language; `[]` drops none."
    )
    tokenizer: Literal["word", "whitespace", "prefix", "multilingual", "code"] = Field(
        "word",
        description="How Qdrant splits texts: `multilingual` for languages without spaces, `code` for program code.",
    )
    ascii_folding: bool = Field(False, description="Treat accented letters as plain ones: `café` as `cafe`.")
    min_token_length: int | None = Field(None, ge=1, description="Minimum characters; shorter words are dropped.")
    max_token_length: int | None = Field(None, ge=1, description="Maximum characters; longer words are dropped.")
    k1: float = Field(1.2, ge=0, description="How much repeated words add; higher is more. Sent with each query.")
    b: float = Field(0.75, ge=0, le=1, description="How much longer documents are discounted. Sent with each query.")
    memory: Literal["cold", "cached", "pinned"] | None = Field(
        None, description="Where Qdrant keeps the index: on disk, cached, or pinned in memory; null is its default."
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
