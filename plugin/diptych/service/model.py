"""`Model`: a slot, encoder or reranker under its public name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diptych.encoders import Encoders
from diptych.protocols import Kind
from diptych.search.rerank import score_pairs

_TEXT = "warm"


@dataclass(frozen=True, slots=True)
class Model:
    """A slot or adapter that clients can name.

    Args:
        id: its name here: the slot's or adapter's own, or `COLLECTION/SLOT` where that would mean several.
        kind: its contract.
        collection: whose slot it is; "" for an adapter.
        name: the slot's or adapter's own name.
        encoders: make it.
    """

    id: str
    kind: Kind
    collection: str
    name: str
    encoders: Encoders

    @property
    def qualified(self) -> Model:
        """The same model under its long name, `COLLECTION/SLOT`."""
        return replace(self, id=f"{self.collection}/{self.name}")

    def try_out(self) -> None:
        """Encode or score one word, as a test.

        Raises:
            DiptychError: it cannot.
        """
        if self.kind == "reranker":
            score_pairs(self.encoders.reranker(self.name), [[(_TEXT, _TEXT)]], where=f"model {self.id!r}")
        else:
            self.encoders[self.name].encode_query([_TEXT])
