"""What goes live by itself, what wants consent, and what the gate remembers of a swap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import pytest
from qdrant_client.client_base import QdrantBase

from diptych import Collection
from diptych.errors import GateFailed
from diptych.evaluate import Qrels
from diptych.hookspecs import hookimpl
from diptych.specs import AdapterSpec
from diptych.swap import ApplyOptions, GateReport, Judged, rollback, status
from diptych.testing import FakeDenseEncoder
from diptych.types import Document, Floats, Query

DENSE: dict[str, Any] = {"adapter": "fake-dense", "dimension": 64}
OTHER = {**DENSE, "seed": 5}  # as good, but it answers otherwise
DEAF: dict[str, Any] = {"adapter": "deaf"}
Applies: TypeAlias = Callable[..., Any]


class Deaf(FakeDenseEncoder):
    """Finds nothing, since queries are read backwards; remembers them."""

    asked: ClassVar[list[str]] = []

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors of other words."""
        Deaf.asked.extend(inputs)
        return super().encode_query([text[::-1] for text in inputs])


class BringsDeaf:
    """A plugin."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """`deaf`."""
        return [AdapterSpec(name="deaf", kind="dense", factory=f"{__name__}:Deaf", summary="reads backwards")]


def corpus(size: int = 60) -> list[Document]:
    return [Document(str(n), f"word{n % 17} word{n % 23} number{n}. More of word{n % 7}.") for n in range(size)]


def judged(size: int = 60) -> Judged:
    """Each document is what its own words look for."""
    queries = [Query(document.text, f"q{document.id}") for document in corpus(size)]
    return Judged(queries, Qrels({query.id: {query.id[1:]: 1} for query in queries}))


@pytest.fixture
def filled(client: QdrantBase, config: Callable[..., Any], opened: Callable[..., Collection]) -> Collection:
    """A collection of 60 documents in one dense slot."""
    found = opened(client, config({"dense": DENSE}), BringsDeaf())
    found.populate(corpus())
    return found


@pytest.fixture
def applies(filled: Collection, config: Callable[..., Any]) -> Applies:
    """`applies(slot, allowed=.1, **options)`: the report, or the GateFailed that kept the old encoder.

    A slot that stays is encoded again.
    """

    def applied(slot: Any, allowed: float = 0.1, **options: Any) -> Any:
        wanted = config({"dense": slot}, swap={"gate": {"sample": 60, "unmeasured": allowed}})
        again = frozenset({"dense"} if slot == DENSE else ())
        try:
            return filled.apply(wanted, ApplyOptions(again=again, **options))
        except GateFailed as error:
            return error

    return applied


def outcome(result: Any) -> str:
    """The gate's outcome, and whether it kept the old encoder."""
    return f"{result.context['outcome']}, kept" if isinstance(result, GateFailed) else str(result.gate.outcome)


@pytest.mark.parametrize(
    ("slot", "expected"), [(DENSE, "not measured"), (OTHER, "not measured, kept"), (DEAF, "worse, kept")]
)
def test_without_judgements_nothing_passes(applies: Applies, filled: Collection, slot: Any, expected: str) -> None:
    assert outcome(applies(slot)) == expected
    assert filled.handle.read().live.slots["dense"].number == (1 if expected.endswith("kept") else 2)


def test_an_unmeasured_change_wants_consent_above_the_share_that_the_config_allows(applies: Applies) -> None:
    changed = applies(OTHER, cut_over=False).gate.changed
    assert changed > 0.1
    kept = applies(OTHER, changed - 1e-6)
    assert outcome(kept) == "not measured, kept"
    assert f"{changed:.0%} of the first 10 hits change, " in kept.got
    assert kept.do.startswith("look at the answers, and accept them: diptych apply --unmeasured; or judge queries: ")
    assert outcome(applies(OTHER, changed)) == "not measured"


def test_consent_is_a_word_or_the_answer_of_a_function_that_sees_the_report(
    applies: Applies, filled: Collection
) -> None:
    seen: list[GateReport] = []
    answers = iter((False, True))

    def answer(report: GateReport) -> bool:
        seen.append(report)
        return next(answers)

    assert outcome(applies(OTHER, unmeasured=answer)) == "not measured, kept"
    assert outcome(applies(OTHER, unmeasured=answer)) == "not measured"
    assert [report.outcome for report in seen] == ["not measured"] * 2
    assert filled.handle.read().history[-1].gate == seen[-1].sentence
    assert outcome(applies({**DENSE, "seed": 6}, unmeasured=True)) == "not measured"
    assert outcome(applies(DEAF, 1, unmeasured=True)) == "worse, kept"  # consent is to a change, not to a fault


def test_a_refusal_by_judgements_outlives_them_until_others_let_the_swap_pass(
    applies: Applies, filled: Collection
) -> None:
    lost = applies(OTHER, judged=judged(20))
    assert outcome(lost) == "undecided, kept"
    for _ in range(2):
        kept = applies(OTHER, 1)
        assert outcome(kept) == "not measured, kept"
        assert kept.got.endswith(f"with judgements the gate said: undecided: {lost.got}")
    assert outcome(applies(OTHER, unmeasured=True)) == "not measured, kept", "a script that always consents"
    swap = status(filled.handle).swap
    assert swap is not None
    assert swap.refused.startswith("not measured: no judgements; ")
    assert outcome(applies(OTHER, judged=many(200), cut_over=False)) == "passed"
    assert outcome(applies(OTHER, 1)) == "not measured"


def many(size: int) -> Judged:
    """So many judged queries: the documents' words, asked again and again."""
    once = judged()
    queries = [Query(once.queries[n % 60].text, f"q{n % 60} {n // 60}") for n in range(size)]
    return Judged(queries, Qrels({query.id: once.qrels.judgements[query.id.split()[0]] for query in queries}))


def test_a_refusal_is_forgotten_with_the_swap_but_for_the_history_and_one_without_judgements_is_none(
    applies: Applies, filled: Collection
) -> None:
    assert outcome(applies(OTHER, judged=judged(20))) == "undecided, kept"
    rollback(filled.handle)
    given_up = filled.handle.read().history[-1]
    assert (given_up.what, given_up.gate[:19]) == ("abandoned", "undecided: nDCG@10 ")
    assert outcome(applies(OTHER)) == "not measured, kept"
    assert outcome(applies(OTHER, 1)) == "not measured"


def weighed(**weights: float) -> dict[str, Any]:
    return {"fuse": {"kind": "linear", "weights": weights}}


def test_a_refusal_of_settings_is_seen_and_outlives_its_judgements(
    client: QdrantBase, config: Callable[..., Any], opened: Callable[..., Collection]
) -> None:
    slots = {"dense": DENSE, "other": OTHER}
    collection = opened(client, config(slots, search=weighed(dense=1, other=0.1)), BringsDeaf())
    collection.populate(corpus())
    turned = config(slots, search=weighed(dense=0.1, other=1))
    with pytest.raises(GateFailed) as refused:
        collection.apply(turned, ApplyOptions(judged=judged(20)))
    assert status(collection.handle).refused == f"undecided: {refused.value.got}"
    with pytest.raises(GateFailed) as kept:
        collection.apply(turned, ApplyOptions(unmeasured=True))
    assert kept.value.got.endswith(f"with judgements the gate said: undecided: {refused.value.got}")
    assert "put `evaluate` back into the config" in kept.value.do
    others = config(slots, search=weighed(dense=0.2, other=1))
    assert collection.apply(others, ApplyOptions(unmeasured=True)).outcome == "changed settings"
    assert status(collection.handle).refused == ""


def test_an_added_slot_that_finds_nothing_wants_consent_though_its_weight_changes_little(
    client: QdrantBase, config: Callable[..., Any], opened: Callable[..., Collection]
) -> None:
    gate = {"gate": {"sample": 60, "unmeasured": 0.1}}
    collection = opened(client, config({"dense": DENSE}), BringsDeaf())
    collection.populate(corpus())
    with pytest.raises(GateFailed) as kept:
        collection.apply(config({"dense": DENSE, "deaf": DEAF}, search=weighed(dense=0.95, deaf=0.05), swap=gate))
    assert kept.value.context["outcome"] == "not measured"
    assert "the added slot 'deaf' alone finds " in kept.value.got


def test_one_loss_among_equal_queries_does_not_decide_what_they_alone_leave_open(applies: Applies) -> None:
    """Few queries that differ bound the losses that were not met no better than none."""
    mixed = judged(60)
    one = Qrels({**mixed.qrels.judgements, "q0": {str(n): 1 for n in range(0, 60, 2)}})
    kept = applies(OTHER, judged=Judged(mixed.queries, one), cut_over=False)
    assert outcome(kept) == "undecided, kept"
    comparison = kept.context["report"].judged
    assert 0 < comparison.wins + comparison.losses < 10
    assert comparison.low <= comparison.difference - 0.0596 * (1 + comparison.difference)


def test_the_share_that_may_change_unmeasured_is_no_bound_of_what_judgements_show(applies: Applies) -> None:
    assert outcome(applies(DENSE, 1.0, judged=judged(3))) == "undecided, kept"


def test_a_gate_that_is_ignored_measures_and_one_that_is_left_out_asks_no_encoder(
    applies: Applies, filled: Collection
) -> None:
    old = filled.handle.slots["dense"].encoder
    encoded = old.encoded
    Deaf.asked.clear()
    report = applies(DEAF, gate=False)
    assert (report.outcome, report.gate, filled.handle.read().history[-1].gate) == ("cut over", None, "none ran")
    assert old.encoded == encoded
    assert not any("number" in text for text in Deaf.asked), "the canaries alone"
    filled.rollback()
    filled.finish()
    report = applies(DEAF, ignore_gate=True)
    assert (report.outcome, report.gate.outcome) == ("cut over", "worse")
    assert filled.handle.read().history[-1].gate == report.gate.sentence
    assert sum("number" in text for text in Deaf.asked) >= 60
