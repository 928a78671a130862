"""LexLIP's bottleneck: what is masked, what flows through it, and that it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from diptych.errors import ContractError
from diptych_experimental import lexlip_text
from diptych_experimental.lexlip_text import LexiconBottleneckLoss, WeakDecoder
from diptych_training.lexicon import lexicon, max_logits
from given_embeddings import drawn
from tiny_lexicon import SPECIAL, WORDS, tiny_masked_model

TEXTS = [" ".join(WORDS[n : n + 1 + n % 12]) for n in range(24)]


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return lexicon(tiny_masked_model(tmp_path))


def test_gaps_leave_special_tokens_and_the_decoder_has_more_of_them(model: Any) -> None:
    features = model.preprocess(TEXTS * 20)
    ids, mask = features["input_ids"], features["attention_mask"].bool()
    encoder, decoder = LexiconBottleneckLoss(model).gaps(ids, mask)
    free = mask & (ids >= len(SPECIAL))
    assert not (encoder & ~decoder).any()
    assert not (decoder & ~free).any()
    assert encoder.any(1).all()
    long = free.sum(1) > 8
    shares = [(gaps & free)[long].sum().item() / free[long].sum().item() for gaps in (encoder, decoder)]
    assert shares == pytest.approx([0.3, 0.5], abs=0.04)


def test_a_seed_draws_the_same_gaps_again(model: Any) -> None:
    features = model.preprocess(TEXTS)
    ids, mask = features["input_ids"], features["attention_mask"].bool()
    first, again, other = (LexiconBottleneckLoss(model, seed=seed).gaps(ids, mask) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_a_training_that_goes_on_draws_the_gaps_that_would_have_come(model: Any) -> None:
    features = model.preprocess(TEXTS)
    ids, mask = features["input_ids"], features["attention_mask"].bool()
    whole = LexiconBottleneckLoss(model, seed=1)
    first = whole.gaps(ids, mask)
    kept = {name: value.clone() for name, value in whole.named_buffers()}  # as checkpoints have them
    wanted = whole.gaps(ids, mask)
    assert not torch.equal(first[0], wanted[0])
    later = LexiconBottleneckLoss(model, seed=1)
    for name, value in later.named_buffers():
        value.copy_(kept[name])
    assert all(torch.equal(own, other) for own, other in zip(later.gaps(ids, mask), wanted, strict=True))


def test_no_gap_is_seen_by_who_fills_it(model: Any) -> None:
    """Other words in the gaps change neither side's guesses, only what is right."""
    loss = LexiconBottleneckLoss(model).eval()
    model.eval()
    features = model.preprocess(TEXTS)
    ids, mask = features["input_ids"], features["attention_mask"].bool()
    hidden, _ = loss.gaps(ids, mask)
    other = {**features, "input_ids": torch.where(hidden, len(SPECIAL), ids)}
    assert torch.equal(loss.vectors(features, hidden), loss.vectors(other, hidden))


def test_both_losses_and_their_gradients_are_the_formula(model: Any) -> None:
    """Through the mixture nothing flows back into the words' embeddings, which the decoder reads and writes by, too."""
    features = model.preprocess(TEXTS)
    ids, mask = features["input_ids"], features["attention_mask"].bool()
    loss, network = LexiconBottleneckLoss(model, seed=5).eval(), model.eval()[0].auto_model
    few, many = LexiconBottleneckLoss(model, seed=5).gaps(ids, mask)
    assert few.sum() < many.sum()
    table, blank = network.get_input_embeddings(), model.tokenizer.mask_token_id
    logits = network(input_ids=ids.masked_fill(few, blank), attention_mask=features["attention_mask"]).logits
    said = logits.masked_fill(~mask[:, :, None], -torch.inf).amax(1).softmax(1)
    written = loss.decoder(table(ids.masked_fill(many, blank)), said @ table.weight.detach(), mask) @ table.weight.T
    wanted = {
        "encoder_loss": cross_entropy(logits[few], ids[few]),
        "decoder_loss": cross_entropy(written[many], ids[many]),
    }
    found = loss([features])
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for name, value in wanted.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5)
        ours, theirs = (
            torch.autograd.grad(part, trained, retain_graph=True, allow_unused=True) for part in (found[name], value)
        )
        for own, right in zip(ours, theirs, strict=True):
            assert (own is None) == (right is None)
            assert own is None or torch.allclose(own, right, atol=1e-6 + 1e-4 * float(right.abs().max()))


def test_the_released_variant_draws_gaps_independently_and_masks_as_bert_does(model: Any) -> None:
    features = model.preprocess(TEXTS * 20)
    ids, mask = features["input_ids"], features["attention_mask"].bool()
    loss = LexiconBottleneckLoss(model, variant="released")
    encoder, decoder = loss.gaps(ids, mask)
    assert (encoder & ~decoder).any()
    assert encoder.any(1).all()
    assert decoder.any(1).all()
    hidden = loss.hidden(ids, decoder)
    blank = model.tokenizer.mask_token_id
    shares = [(hidden == blank)[decoder], (hidden == ids)[decoder], ((hidden != ids) & (hidden != blank))[decoder]]
    assert [share.float().mean().item() for share in shares] == pytest.approx([0.8, 0.1, 0.1], abs=0.03)
    assert torch.equal(hidden[~decoder], ids[~decoder])


def test_the_released_variant_decodes_by_the_encoders_embeddings_and_head(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexlip_text, "MASKED", 1.0)  # all gaps are masked, so that they can be drawn again
    features = model.preprocess(TEXTS)
    ids, mask = features["input_ids"], features["attention_mask"].bool()
    loss, network = LexiconBottleneckLoss(model, variant="released", seed=5).eval(), model.eval()[0].auto_model
    few, many = LexiconBottleneckLoss(model, variant="released", seed=5).gaps(ids, mask)
    blank, table = model.tokenizer.mask_token_id, network.get_input_embeddings()
    logits = network(input_ids=ids.masked_fill(few, blank), attention_mask=features["attention_mask"]).logits
    said = logits.masked_fill(~mask[:, :, None], -torch.inf).amax(1).softmax(1)
    words = network.bert.embeddings(ids.masked_fill(many, blank))
    inputs = torch.cat([(said @ table.weight.detach())[:, None], words[:, 1:]], 1)
    written = network.cls(loss.decoder.layers(inputs, src_key_padding_mask=~mask))
    found = loss([features])
    assert found["encoder_loss"].item() == pytest.approx(cross_entropy(logits[few], ids[few]).item(), rel=1e-5)
    assert found["decoder_loss"].item() == pytest.approx(cross_entropy(written[many], ids[many]).item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(found["decoder_loss"], [network.cls.predictions.transform.dense.weight])
    assert gradient.any(), "the decoder's loss trains the encoder's head"


def test_a_model_that_is_built_otherwise_has_no_released_variant() -> None:
    with pytest.raises(ContractError, match=r"(?s)embeddings and head are not found.*got: Linear"):
        lexlip_text.parts_of(torch.nn.Linear(2, 2))


def test_pads_change_nothing_for_the_decoder() -> None:
    decoder = WeakDecoder(8, 32).eval()
    words, mixture = drawn(1, 2, 5, 8), drawn(2, 2, 8)
    longer = torch.cat([words, drawn(3, 2, 4, 8)], 1)
    mask = torch.arange(9)[None].expand(2, -1) < 5
    alone = decoder(words, mixture, torch.ones(2, 5).bool())
    assert torch.allclose(decoder(longer, mixture, mask)[:, :5], alone, atol=1e-5)


@pytest.mark.slow
def test_a_trained_decoder_needs_the_texts_own_words(model: Any) -> None:
    """After training, another text's mixture makes it guess worse: the bottleneck says what the text is about."""
    torch.manual_seed(0)
    loss = LexiconBottleneckLoss(model, encoder_masked=0.3, decoder_masked=0.6)
    features = model.preprocess([" ".join([word] * 8) for word in WORDS[:32]])
    optimizer = torch.optim.AdamW(loss.parameters(), lr=5e-3)
    values = []
    for _ in range(150):
        optimizer.zero_grad()
        parts = loss([features])
        sum(parts.values()).backward()
        optimizer.step()
        values.append(parts["decoder_loss"].item())
    assert sum(values[-10:]) < 0.7 * sum(values[:10])
    everything, hidden = features["attention_mask"].bool(), features["input_ids"] >= len(SPECIAL)
    table = model[0].auto_model.get_input_embeddings()
    guessed = []
    for shift in (0, 1):
        seen, _ = loss.gaps(features["input_ids"], everything)
        head = model[0].auto_model.get_output_embeddings()
        mixture = max_logits(loss.vectors(features, seen), head, everything).softmax(1).roll(shift, 0) @ table.weight
        blank = table(features["input_ids"].masked_fill(hidden, model.tokenizer.mask_token_id))
        written = loss.decoder.eval()(blank, mixture, everything) @ table.weight.T
        guessed.append((written.argmax(2) == features["input_ids"])[hidden].float().mean().item())
    assert guessed[0] > 0.5
    assert guessed[1] < 0.1


def test_shares_that_are_none_are_refused(model: Any) -> None:
    with pytest.raises(ContractError, match=r"(?s)unusable shares.*encoder 0\.6, decoder 0\.5"):
        LexiconBottleneckLoss(model, encoder_masked=0.6)
