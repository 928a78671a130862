"""`QdrantTextIndex`: a lexical slot that Qdrant fills and scores by itself.

Qdrant indexes the text in the payload and ranks by BM25 with its own, always current document frequencies and average
length. Needs Qdrant 1.20 or Qdrant Edge 0.9; qdrant-client's local mode does it only for plain words, without stemmer,
stop words, folding or length limits. A word that the query repeats counts once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from diptych.protocols import Fingerprint
from diptych_adapters.lexicon.analysis import uncut_share
from diptych_adapters.model_options import SPACELESS, TextIndexOptions

if TYPE_CHECKING:
    from qdrant_client import models


_LANGUAGES_WITHOUT_STOPWORDS = ("none", "armenian", "tamil", *SPACELESS)
_AT_QUERY_TIME = {"k1", "b", "memory"}


class QdrantTextIndex:
    """Parameters and queries of Qdrant's text index; see `TextIndexOptions` for the options.

    The index belongs to a payload field, so a query goes out with `using` set to that field's name.
    """

    def __init__(self, **options: Any) -> None:
        self.options = TextIndexOptions(**options)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of what the index is built from; k1, b and memory can change without a new index."""
        facts = self.options.model_dump(exclude=_AT_QUERY_TIME)
        text = json.dumps(["qdrant-text-index", facts], sort_keys=True)
        return Fingerprint(hashlib.blake2b(text.encode(), digest_size=16).hexdigest())

    def index_params(self) -> models.TextIndexParams:
        """The payload index, with scoring by BM25."""
        from qdrant_client import models

        options = self.options
        return models.TextIndexParams(
            type=models.TextIndexType.TEXT,
            tokenizer=models.TokenizerType(options.tokenizer),
            lowercase=True,
            ascii_folding=options.ascii_folding or None,
            min_token_len=options.min_token_length,
            max_token_len=options.max_token_length,
            stopwords=_stopwords(options),
            stemmer=_stemmer(options.language),
            memory=models.Memory(options.memory) if options.memory else None,
            scoring=models.TextScoringParams(type=models.TextScoringType.BM25),
        )

    def unread_share(self, inputs: Sequence[str]) -> float:
        """The share of letters in scripts without spaces, 0 to 1, if the tokenizer does not cut these."""
        return 0.0 if self.options.tokenizer == "multilingual" else uncut_share(inputs, cuts_cjk=False)

    def query(self, text: str) -> models.TextQuery:
        """A query for `text`; the caller names the payload field with `using`."""
        from qdrant_client import models

        scoring = models.Bm25Scoring(bm25=models.Bm25Params(k=self.options.k1, b=self.options.b))
        return models.TextQuery(text=models.TextQueryInput(query=text, scoring=scoring))


def _stopwords(options: TextIndexOptions) -> models.StopwordsInterface | None:
    from qdrant_client import models

    if options.stopwords is not None:
        words = sorted({word.lower() for word in options.stopwords})
        return models.StopwordsSet(custom=words) if words else None
    if options.language in _LANGUAGES_WITHOUT_STOPWORDS:
        return None
    return models.Language(options.language)


def _stemmer(language: str) -> models.SnowballParams | None:
    from qdrant_client import models

    if language in ("none", *SPACELESS):
        return None
    return models.SnowballParams(type=models.Snowball.SNOWBALL, language=models.SnowballLanguage(language))
