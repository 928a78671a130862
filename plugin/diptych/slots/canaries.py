"""Canaries: texts whose vectors show which model an encoder really is, and how alike two encodings of them are.

They are chosen so that another model, tokenizer, pooling, prompt or truncation changes at least one of them: short and
plain, a question, upper and lower case, inflected words of several languages, many scripts, markup and digits, a
repeated word, and two long ones. The long ones change topic with each doubling of their length, so that encoders which
read 128, 256, 512 or 1,000 tokens make different vectors.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from diptych.errors import CollectionError, RemoteError
from diptych.media.values import media_canaries
from diptych.protocols import Kind
from diptych.slots.encode import Side, Vector, encode, require_finite
from diptych.types import Floats, SparseVector

_TOPICS = (
    "rivers that flood in spring",
    "engines of old ships",
    "bread baked before dawn",
    "judges and their courts",
    "planets seen through a telescope",
    "songs for three voices",
    "vines, hops and apple trees",
    "bridges of stone and steel",
)


def long_text(sentences: int) -> str:
    """A text of so many sentences of about 14 tokens each, with a new topic at each power of two."""
    lines = (f"Item {n} tells of {_TOPICS[n.bit_length() % 8]} in the year {1900 + n}." for n in range(sentences))
    return " ".join(lines)


_RIVERS = " ".join(f"Item {n} of the list tells of rivers, engines and music in year {1900 + n}." for n in range(45))
_CODE = '{"key": [1, 2.5e-3]} <b>bold</b> C++ v1.2.3-rc1'
TEXTS: tuple[str, ...] = (
    "audio converter",
    "How do I mount an encrypted disk at boot?",
    "Polish and polish: the Apple of US engineers, NOT us, IT or it",
    "Running runners ran. Häuser wurden gebaut, les chevaux couraient, los niños corrían, пели песни",
    "Straße, naïve café; жаркое лето, 東京の天気, 서울, मौसम, مرحبا, שלום, Αθήνα",
    _CODE,
    "tick " * 40 + "tock",
    long_text(11),
    long_text(70),
)
EDITION = 2
# A collection keeps the vectors of the texts of its own time, so an edition is never changed, only followed by another.
EDITIONS: Mapping[int, tuple[str, ...]] = MappingProxyType({
    1: (TEXTS[0], TEXTS[1], "Straße, naïve café; жаркое лето, 東京の天気, مرحبا", _CODE, _RIVERS[:700], _RIVERS),
    EDITION: TEXTS,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike an encoder's canaries are to the recorded ones, text by text: 1 is the same, 0 nothing in common."""

    query: tuple[float, ...] = ()
    document: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def lowest(self) -> float:
        """The lowest over both sides; 1 where there is nothing to compare."""
        return min((*self.query, *self.document), default=1.0)

    def of(self, side: Side) -> float:
        """The lowest of one side."""
        values: tuple[float, ...] = getattr(self, side)
        return min(values, default=1.0)

    def below(self, limit: float) -> str:
        """Which texts are less alike than `limit`, in words: `queries alone`, `long texts alone`."""
        sides = [side for side in (self.query, self.document) if min(side, default=1.0) < limit]
        if not sides:
            return ""
        only = "" if len(sides) > 1 or not (self.query and self.document) else " alone"
        side_names = (
            "queries and documents" if len(sides) > 1 else f"{'queries' if sides[0] is self.query else 'documents'}"
        )
        changed = {n for side in sides for n, value in enumerate(side) if value < limit}
        shortest = min((len(self.texts[n]) for n in changed if n < len(self.texts)), default=0)
        long = f", and only in texts of {shortest:,} characters and more" if shortest > LONG else ""
        return f"{side_names}{only}{long}"


LONG = 300  # characters; the short texts have fewer
REFUSED = "refused"
TOO_LONG = (400, 413, 422)  # what servers answer to texts that are longer than their model reads


def texts_of(edition: int) -> tuple[str, ...]:
    """The canary texts of an edition.

    Raises:
        CollectionError: it is of a later diptych.
    """
    if edition not in EDITIONS:
        raise CollectionError(
            "the collection's canaries are texts that this diptych does not know",
            got=f"edition {edition}",
            expected=" or ".join(map(str, EDITIONS)),
            do="use the release of diptych that wrote them, or a newer one",
        )
    return EDITIONS[edition]


def plain_documents(modality: str) -> Sequence[Any]:
    """A document of a modality that every encoder of it can encode, alone in a list."""
    return TEXTS[:1] if modality == "text" else media_canaries(modality)[:1]


def sketches(
    encoder: Any,
    kind: Kind,
    side: Side,
    *,
    where: str,
    edition: int = EDITION,
    recorded: Sequence[str] = (),
    modality: str = "text",
    texts_too: bool = True,
) -> list[str]:
    """The canaries of one side, packed as text, in one call of the encoder.

    A server that reads only short texts may refuse the long ones. Those are recorded as refused. Texts that are refused
    in `recorded`, the collection's canaries, are not sent again.

    Args:
        modality: of an encoder of media, whose documents are media of that modality.
        texts_too: whether its queries may also be texts.

    Raises:
        ContractError: the encoder breaks its contract, or a number is not finite.
        RemoteError: the server fails, or refuses a short text.
    """
    texts = texts_of(edition)
    if modality != "text":
        media = media_canaries(modality)
        inputs = [*texts, *media] if side == "query" and texts_too else media
        vectors = encode(encoder, kind, side, inputs, where=where)
        require_finite(vectors, inputs, where=where)
        return [pack(vector) for vector in vectors]
    refused = {text for text, sketch in zip(texts, recorded, strict=False) if sketch == REFUSED}
    accepted = [text for text in texts if text not in refused]
    try:
        packed = _encode_packed(encoder, kind, side, accepted, where)
    except RemoteError as error:
        if recorded or error.context.get("status") not in TOO_LONG:
            raise
        # One by one, without the long texts that the server refuses.
        packed = _encode_packed(encoder, kind, side, [text for text in texts if len(text) <= LONG], where)
        for text in (text for text in texts if len(text) > LONG):
            try:
                packed |= _encode_packed(encoder, kind, side, [text], where)
            except RemoteError as refusal:
                if refusal.context.get("status") not in TOO_LONG:
                    raise
    return [packed.get(text, REFUSED) for text in texts]


def steadiness(encoder: Any, kind: Kind, together: Sequence[str], *, where: str, modality: str = "text") -> float:
    """The lowest likeness between short documents encoded alone and the same ones encoded together (`together`).

    1 for most encoders. Dynamic int8 takes its scale from all of a batch, so a text's vector depends on the others.
    """
    inputs = TEXTS[:3] if modality == "text" else media_canaries(modality)
    alone = [pack(encode(encoder, kind, "document", [given], where=where)[0]) for given in inputs]
    return min(likenesses(alone, together[: len(inputs)]))


def _encode_packed(encoder: Any, kind: Kind, side: Side, texts: Sequence[str], where: str) -> dict[str, str]:
    vectors = encode(encoder, kind, side, texts, where=where)
    require_finite(vectors, texts, where=where)
    return {text: pack(vector) for text, vector in zip(texts, vectors, strict=True)}


def pack(vector: Vector) -> str:
    """A vector as text. Dense and sparse ones are complete; of a multi-vector count, mean, first and last token."""
    if isinstance(vector, SparseVector):
        return f"sparse:{_encode(vector.indices)}:{_encode(vector.values)}"
    if vector.ndim == 1:
        return f"dense:{_encode(vector)}"
    facts = np.concatenate([vector.mean(axis=0), vector[0], vector[-1]]).astype(np.float32)
    return f"tokens{len(vector)}:{_encode(facts)}"


def likenesses(current: Sequence[str], recorded: Sequence[str]) -> tuple[float, ...]:
    """Likeness of each pair of packed vectors; 0 where forms differ, and for all when the counts differ."""
    if len(current) != len(recorded):
        return (0.0,) * max(len(current), len(recorded))
    return tuple(1.0 if a == b else _likeness(_unpack(a), _unpack(b)) for a, b in zip(current, recorded, strict=True))


def _unpack(text: str) -> tuple[str, dict[int, float] | Floats]:
    form, *parts = text.split(":")
    raw = [base64.b64decode(part) for part in parts]
    if form != "sparse":
        return form, np.frombuffer(raw[0] if raw else b"", np.float32)
    indices, values = np.frombuffer(raw[0], np.uint32), np.frombuffer(raw[1], np.float32)
    return form, dict(zip(indices.tolist(), values.tolist(), strict=True))


def _encode(array: Any) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _likeness(one: tuple[str, dict[int, float] | Floats], other: tuple[str, dict[int, float] | Floats]) -> float:
    """2ab / (aa + bb): the cosine where both have one length, and less where the lengths differ."""
    (form, a), (form_of_other, b) = one, other
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted({*a, *b})
        a, b = (np.array([side.get(key, 0.0) for key in keys], np.float32) for side in (a, b))
    if isinstance(a, dict) or isinstance(b, dict) or form != form_of_other or a.shape != b.shape:
        return 0.0
    total, product = float(a @ a + b @ b), 2 * float(a @ b)
    if not total:
        return 1.0
    return product / total if np.isfinite(product / total) else 0.0
