"""Models that train with modules of ours: what they answer, what their losses move, and what is saved of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch.nn.functional import normalize

from diptych.errors import ConfigError, ContractError
from diptych_experimental.cmim import CMIMLoss, Decoder, encoder_of, with_decoder, words_of
from diptych_experimental.multi_exit import MultiExitLoss
from diptych_experimental.unidec import export_heads, table_of, with_classifier
from diptych_experimental.unidec_encoder import CLASSIFIER
from diptych_training.losses import ContrastiveLoss
from diptych_training.losses.distillation import StudentLoss
from diptych_training.recipes.elastic import (
    EMBEDDINGS,
    ElasticLoss,
    Exits,
    exit_model,
    export_exits,
    multi_exit,
)
from diptych_training.recipes.prototype_tuning import (
    PrototypeLoss,
    Prototypes,
    classifying_model,
    prompt_of,
    prototype_model,
)
from diptych_training.trained_module import layers_of, saved
from given_embeddings import Given, drawn
from tiny_encoders import WIDTH, features_of, tiny_encoder
from tiny_models import bert

TEXTS = ["word1 word2 word3", "word4", "word5 word6 word7 word8 word9"]
CLASSES = ["first class", "Second", "third"]


def batch(model: Any) -> list[dict[str, Any]]:
    return [features_of(model, "word1 word2", "word3"), features_of(model, "word1", "word3 word4")]


MADE: dict[str, Callable[[], Any]] = {
    "exits": lambda: Exits([1, 2], 8, norm_eps=1e-5, norm_bias=False, pooling="cls"),
    "prototypes": lambda: Prototypes(["one", "two"], 8, tokens=3, token_width=6, first_id=50),
    "decoder": lambda: Decoder(8, layers=2, heads=2, max_length=16),
}


@pytest.mark.parametrize("name", MADE)
def test_a_module_in_a_checkpoint_is_read_as_it_was_kept_from_safetensors(name: str, tmp_path: Path) -> None:
    made: Any = MADE[name]()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter))
    made.save(str(tmp_path))
    found = type(made).load(str(tmp_path))
    assert found.get_config_dict() == made.get_config_dict()
    states = made.state_dict(), found.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["config.json", "model.safetensors"]


def test_the_last_exit_answers_as_the_plain_model_bit_for_bit_and_deeper_layers_go(tmp_path: Path) -> None:
    plain = tiny_encoder(tmp_path / "bert")
    wanted = plain.encode(TEXTS)
    exits: Any = multi_exit(plain, [1, 3])
    assert np.array_equal(exits.encode(TEXTS), wanted)
    assert np.array_equal(exit_model(exits, 3).encode(TEXTS), wanted)
    assert MultiExitLoss(ContrastiveLoss(multi_exit(plain, [3])))(batch(plain))["exit_3"] == ContrastiveLoss(plain)(
        batch(plain)
    )
    assert len(layers_of(multi_exit(plain, [1, 2])[0].auto_model)) == 2
    assert len(layers_of(plain[0].auto_model)) == 3


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_a_saved_exit_answers_as_the_whole_model_and_its_loss_moves_nothing_above_it(kind: str, tmp_path: Path) -> None:
    model: Any = multi_exit(tiny_encoder(tmp_path / "bert", kind=kind), [1, 2, 3])
    losses = MultiExitLoss(ContrastiveLoss(model))(batch(model))
    losses["exit_2"].backward()
    layers, exits = layers_of(model[0].auto_model), model[1]
    moved = [any(p.grad is not None and bool(p.grad.any()) for p in layer.parameters()) for layer in layers]
    assert moved == [True, True, False]
    assert [head.linear.weight.grad is not None for head in exits.head.values()] == [False, True, False]
    if kind == "modernbert":
        assert model[0].auto_model.final_norm.weight.grad is None
        assert exits.norm["2"].weight.grad.any()
    alone = ContrastiveLoss(exit_model(model, 1))(batch(model))
    assert losses["exit_1"].item() == pytest.approx(alone.item() / 3, rel=1e-5)
    with torch.no_grad():
        for parameter in exits.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
        wanted = model(features_of(model, *TEXTS))[EMBEDDINGS]
    folders = export_exits(model, tmp_path / "out")
    for layer, vectors in zip((1, 2, 3), wanted, strict=True):
        found = SentenceTransformer(str(folders[layer]), device="cpu")
        assert len(layers_of(found[0].auto_model)) == layer
        assert np.allclose(found.encode(TEXTS), vectors.numpy(), atol=1e-6)
    listed = json.loads((tmp_path / "out" / "exits.json").read_text())
    assert [(one["layers"], one["folder"]) for one in listed] == [(1, "exit_1"), (2, "exit_2"), (3, ".")]


def unit(seed: int, rows: int = 5) -> Any:
    return normalize(drawn(seed, rows, WIDTH), dim=1)


def test_the_parts_of_the_elastic_loss_are_those_of_its_formula(tmp_path: Path) -> None:
    model: Any = multi_exit(tiny_encoder(tmp_path), [1, 3])
    teacher, first, whole = unit(0), unit(1).requires_grad_(), unit(2).requires_grad_()
    loss = ElasticLoss(model, teacher, widths=[4], weight=2.0, invariance=3.0, tau=0.1)
    parts = loss.of_vectors([first, whole], teacher)
    target = (teacher @ teacher.T / 0.1).fill_diagonal_(float("-inf")).softmax(1)
    terms, apart = list[torch.Tensor](), list[torch.Tensor]()
    for width in (WIDTH, 4):
        documents = normalize(whole[:, :width]).detach()
        for own in (first.detach(), whole.detach()):
            logs = (normalize(own[:, :width]) @ documents.T / 0.1).fill_diagonal_(float("-inf")).log_softmax(1)
            terms.append(torch.where(target > 0, target * (target.log() - logs), 0.0).sum(1).mean())
        apart.append((1 - (normalize(first[:, :width]) * documents).sum(1)).mean())
    near = (1 - (whole * teacher).sum(1)).mean() + (whole - teacher).square().sum(1).mean()
    wanted = {"teacher": near, "divergence": 2 * sum(terms) / 4, "invariance": 3 * sum(apart) / 2}
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(
        {name: value.item() for name, value in wanted.items()}, rel=1e-5
    )
    parts["invariance"].backward()
    assert whole.grad is None, "the deepest exit is not moved by the others' distance to it"
    alone = ElasticLoss(model, teacher, weight=0.5).of_vectors([teacher], teacher)
    student = StudentLoss(torch.nn.Identity(), teacher).of_vectors(teacher, teacher)
    assert sum(value.item() for value in alone.values()) == pytest.approx(student.item(), abs=1e-6)
    sum(loss([features_of(model, *TEXTS)], torch.arange(3)).values()).backward()
    assert all(head.linear.weight.grad.any() for head in model[-1].head.values())


def tuned(folder: Path, tokens: int) -> Any:
    """A model with prototypes that differ from each other."""
    made: Any = prototype_model(tiny_encoder(folder / "bert", layers=2), CLASSES, tokens=tokens)
    vectors = torch.as_tensor(made.encode([prompt_of(tokens) + text for text in TEXTS]))
    made[-1].start_at(vectors, torch.arange(3))
    return made


def step(model: Any) -> float:
    """One step of training; the loss before it."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02, weight_decay=0.1)
    texts = [prompt_of(model[-1].tokens) + text for text in TEXTS]
    value = PrototypeLoss(model)([features_of(model, *texts)], torch.tensor([1, 2, 0]))
    value.backward()
    optimizer.step()
    return float(value.item())


@pytest.mark.parametrize("tokens", [0, 4])
def test_prompt_and_prototypes_alone_train_and_are_served_without_code_of_ours(tokens: int, tmp_path: Path) -> None:
    model = tuned(tmp_path, tokens)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = [step(model) for _ in range(12)]
    assert losses[-1] < losses[0]
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[2] for name in moved} == ({"rows", "vectors"} if tokens else {"vectors"})
    assert np.allclose(model.encode(TEXTS), tiny_encoder(tmp_path / "bert", layers=2).encode(TEXTS), atol=1e-6)
    wanted = model.encode([prompt_of(tokens) + text for text in TEXTS])
    assert np.allclose(wanted, model.encode(TEXTS), atol=1e-3) is (tokens == 0), "the rows of the prompt are read"
    router = SentenceTransformer(str(saved(classifying_model(model), tmp_path / "classes")), device="cpu")
    assert np.allclose(router.encode_query(TEXTS), wanted, atol=1e-6)
    vectors = normalize(model[-1].vectors.detach(), dim=-1)
    assert np.allclose(router.encode_document([*CLASSES, " third "]), vectors[[0, 1, 2, 2]].numpy(), atol=1e-6)
    assert not router.encode_document(["no class"]).any()


LABELS = ["play music", "convert  audio\nfiles", "play music", "", "video"]


def both(model: SentenceTransformer, texts: list[str]) -> list[Any]:
    found: Any = model.encode(texts, output_value=None, show_progress_bar=False)
    return [torch.stack([one[name] for one in found]).numpy() for name in ("sentence_embedding", CLASSIFIER)]


def test_a_dual_encoder_with_a_classifier_is_exported_as_it_answers_and_finds_labels_by_their_text(
    tmp_path: Path,
) -> None:
    plain = SentenceTransformer(str(bert(tmp_path / "bert")), device="cpu")
    begin = np.tanh(plain.encode(["word1 word2", "word3"]))
    model = with_classifier(plain, len(LABELS), classifier_dimension=5)
    wanted = begin / np.linalg.norm(begin, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode(["word1 word2", "word3"]), wanted, atol=1e-6)
    export_heads(model, LABELS, tmp_path / "out")
    loaded = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    for ours, theirs in zip(both(model, ["word1 word9", ""]), both(loaded, ["word1 word9", ""]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert not [file for file in (tmp_path / "out").rglob("*") if file.suffix in (".bin", ".pt", ".pkl", ".py")]
    labels = SentenceTransformer(str(tmp_path / "out" / "labels"), device="cpu")
    rows = table_of(model).weight.detach().numpy()
    for text, row in {"play music": rows[[0, 2]].mean(0), " convert audio files ": rows[1], "video": rows[4]}.items():
        np.testing.assert_allclose(labels.encode([text])[0], row / np.linalg.norm(row), atol=1e-6)
    assert not labels.encode(["play", "play music now", "[UNK]", "Video"]).any()
    with pytest.raises(ContractError, match="has no classifier"):
        table_of(loaded)
    with pytest.raises(ContractError, match="differs from the number of rows"):
        export_heads(model, ["one"], tmp_path / "other")


def with_dense(model: Any) -> Any:
    from sentence_transformers.base.modules import Dense

    model.append(Dense(WIDTH, 8))
    return model


REFUSED: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda plain: multi_exit(plain, [2, 4]), ConfigError, r"does not have these layers(?s:.*)got: 4(?s:.*)1 to 3"),
    (lambda plain: MultiExitLoss(ContrastiveLoss(Given())), ContractError, "not a model in this training"),
    (
        lambda plain: multi_exit(with_dense(plain), [1]),
        ContractError,
        r"this method cannot train(?s:.*)Dense",
    ),
]


@pytest.mark.parametrize(("ask", "kind", "what"), REFUSED, ids=[what for *_, what in REFUSED])
def test_what_a_model_cannot_do_is_refused(
    ask: Callable[[Any], Any], kind: type[Exception], what: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=what):
        ask(tiny_encoder(tmp_path / "bert"))


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return with_decoder(tiny_encoder(tmp_path / "bert", layers=1), heads=2)


def test_the_contrastive_factor_is_that_of_the_formula(model: Any) -> None:
    code, mean = drawn(1, 5, 32), drawn(2, 5, 32)
    cosines = torch.nn.functional.cosine_similarity(code[:, None], mean[None], dim=-1) / 0.2
    own = cosines.diagonal()
    others = torch.stack([torch.cat([cosines[i, :i], cosines[i, i + 1 :]]).exp().mean() for i in range(5)])
    wanted = -(own - (own.exp() + others).log()).mean()
    assert CMIMLoss(model, tau=0.2).factor(code, mean).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_padding_changes_no_likelihood(model: Any) -> None:
    decoder, words, code = model[-1], words_of(model), drawn(1, 3, 32)
    together = features_of(model, *TEXTS)
    wanted = decoder.log_likelihood(code, together["input_ids"], together["attention_mask"], words)
    for row, text in enumerate(TEXTS):
        own = features_of(model, text)
        alone = decoder.log_likelihood(code[row : row + 1], own["input_ids"], own["attention_mask"], words)
        assert alone.item() == pytest.approx(wanted[row].item(), rel=1e-4)


def test_the_parts_add_up_to_the_formula(model: Any) -> None:
    features = features_of(model, *TEXTS)
    torch.manual_seed(3)
    found = CMIMLoss(model)([features])
    with torch.no_grad():
        mean = model({**features})["sentence_embedding"]
        sigma = model[-1].sigma(mean)
        torch.manual_seed(3)
        code = mean + sigma * torch.randn_like(mean)
        normal: Any = torch.distributions.Normal
        entropy = (normal(mean, sigma).log_prob(code) + normal(0.0, 1.0).log_prob(code)).sum(-1) / 2
        likely = model[-1].log_likelihood(code, features["input_ids"], features["attention_mask"], words_of(model))
    assert found["code"].item() == pytest.approx(-entropy.mean().item(), rel=1e-4)
    assert found["reconstruction"].item() == pytest.approx(-likely.mean().item(), rel=1e-4)
    assert set(CMIMLoss(model, mim_weight=0)([features])) == {"contrastive"}


def test_what_serves_is_the_encoder_alone(model: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from diptych_training.trained_module import saved

    wanted = torch.nn.functional.normalize(torch.as_tensor(model.encode(TEXTS)), dim=-1).numpy()
    folder = saved(encoder_of(model), tmp_path / "served")
    assert np.allclose(SentenceTransformer(str(folder), device="cpu").encode(TEXTS), wanted, atol=1e-6)
    assert not list(folder.glob("*Decoder*"))
