"""The options of Qdrant's own text index, cheap to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

IndexLanguage: TypeAlias = Literal[
    "arabic", "armenian", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish", "none",
    "chinese", "japanese", "thai",
]  # fmt: skip
SPACELESS = ("chinese", "japanese", "thai")


class TextIndexOptions(BaseModel):
    """Options of the `qdrant-text-index` adapter."""

    model_config = ConfigDict(extra="forbid", frozen=True)
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
