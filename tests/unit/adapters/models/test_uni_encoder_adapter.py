"""Tiny Uni-Encoders: what a candidate sees, what is kept, and which folders are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

import torch

from diptych import Registry
from diptych.errors import AdapterFactoryError, AdapterOptionsError, ContractError
from diptych.protocols import Reranker
from diptych.testing import RerankerContract
from diptych_adapters.cross_encoder import CrossEncoderReranker
from diptych_adapters.models import ModelError
from diptych_adapters.uni_encoder import SETTINGS, Settings, UniEncoder, UniEncoderReranker
from tiny_models import WORDS, bert

QUERY, OTHER = "word1 word2 word3", "word9"
DOCUMENTS = ["word4 word5", "word6", "", "word1 word2 word7 word8", "word9 " * 40, "word3"]
PAIRS = [(QUERY, document) for document in DOCUMENTS]
KINDS = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "electra": "Electra"}


def saved(path: Path, attention: Any = "isolated", kind: str = "bert", **config: Any) -> Path:
    """A folder with a random Uni-Encoder of two layers."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(bert(path / "start"))
    shutil.rmtree(path / "start")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    given = {"vocab_size": 45, "max_position_embeddings": 34, "num_labels": 1, "initializer_range": 0.5, **config}
    if "roberta" in kind:
        given["type_vocab_size"] = 1
    model = getattr(transformers, f"{KINDS[kind]}ForTokenClassification")(
        getattr(transformers, f"{KINDS[kind]}Config")(pad_token_id=0, **shape, **given)
    )
    UniEncoder(model, tokenizer, Settings(attention=attention, max_length=32, query_length=12)).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("uni"))


def made(folder: Path, **options: Any) -> UniEncoderReranker:
    return UniEncoderReranker(model=str(folder), device="cpu", **options)


def one_by_one(reranker: UniEncoderReranker, pairs: Sequence[tuple[str, str]]) -> list[float]:
    return [float(reranker.predict([pair])[0]) for pair in pairs]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_kept_of_a_query_gives_the_scores_of_one_whole_sequence(kind: str, tmp_path: Path) -> None:
    reranker = made(saved(tmp_path, kind=kind))
    assert isinstance(reranker, Reranker)
    with torch.inference_mode():
        whole = reranker.model.packed(QUERY, DOCUMENTS).numpy()
    scores = reranker.predict(PAIRS)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, whole, atol=2e-4)
    assert np.ptp(scores) > 0.05


def test_a_single_candidate_has_the_score_of_transformers_alone(folder: Path) -> None:
    """The query is cut from the pair's beginning: what it sees of itself alone is the mask's one block."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForTokenClassification.from_pretrained(folder)
    first, second = (tokenizer(text)["input_ids"] for text in (QUERY, DOCUMENTS[0]))
    n, total = len(first), len(first) + len(second)
    mask = torch.zeros(1, 1, total, total)
    mask[..., :n, n:] = torch.finfo(torch.float32).min
    types = torch.tensor([[0] * n + [1] * len(second)])
    with torch.inference_mode():
        logits = model.eval()(torch.tensor([first + second]), attention_mask=mask, token_type_ids=types).logits
    assert made(folder).predict(PAIRS[:1])[0] == pytest.approx(float(logits[0, n:].mean()), abs=1e-5)


def test_scores_are_those_of_each_pair_alone_in_any_order_batch_and_cache(folder: Path) -> None:
    pairs = [*PAIRS, (OTHER, DOCUMENTS[0]), ("", ""), (QUERY, DOCUMENTS[1]), ("word2 " * 40, DOCUMENTS[4])]
    scores = made(folder).predict(pairs)
    backwards = made(folder, max_tokens=64).predict(pairs[::-1])[::-1]
    np.testing.assert_allclose(backwards, scores, atol=1e-5)
    kept, anew = made(folder, cached_queries=1), made(folder, cached_queries=0)
    for reranker in (kept, kept, anew):
        np.testing.assert_allclose(one_by_one(reranker, pairs), scores, atol=1e-5)
    assert (len(kept.model._cached), len(anew.model._cached)) == (1, 0)
    assert scores[1] == pytest.approx(scores[-2], abs=1e-5)
    assert len(kept.predict([])) == 0


def test_only_isolated_scores_do_not_depend_on_the_other_candidates(folder: Path, tmp_path: Path) -> None:
    found = {"isolated": made(folder)}
    found |= {name: made(saved(tmp_path / name, name)) for name in ("arrow", "square")}
    assert {name: own.independent for name, own in found.items()} == {"isolated": True, "arrow": False, "square": False}
    for name, reranker in found.items():
        among, alone = reranker.predict(PAIRS)[0], reranker.predict(PAIRS[:1])[0]
        assert (abs(among - alone) < 1e-5) == (name == "isolated"), name
        order = [3, 0, 5, 1, 4, 2]
        shuffled = reranker.predict([PAIRS[place] for place in order])
        np.testing.assert_allclose(shuffled, reranker.predict(PAIRS)[order], atol=1e-5)
    assert abs(found["arrow"].predict(PAIRS)[0] - found["square"].predict(PAIRS)[0]) > 1e-4


def test_more_candidates_than_a_pass_takes_are_an_error_where_they_see_one_another(tmp_path: Path) -> None:
    reranker = made(saved(tmp_path, "arrow"), max_tokens=64)
    with pytest.raises(ContractError, match=r"too long for one pass(?s:.*)candidates(?s:.*)at most 64"):
        reranker.predict(PAIRS * 4)
    assert len(reranker.predict(PAIRS[:3])) == 3


def test_long_texts_are_cut_within_the_models_positions(folder: Path) -> None:
    long, cut = ("word2 " * 90, "word5 " * 90), ("word2 " * 10, "word5 " * 18)
    scores = made(folder).predict([long, cut])
    assert scores[0] == pytest.approx(float(scores[1]), abs=1e-5)


def test_bfloat16_is_near(folder: Path) -> None:
    np.testing.assert_allclose(made(folder, precision="bfloat16").predict(PAIRS), made(folder).predict(PAIRS), atol=0.1)


def test_threads_do_not_mix_what_they_keep(folder: Path) -> None:
    pairs = [[(query, document) for document in DOCUMENTS] for query in WORDS[:8]]
    reranker, alone = made(folder, cached_queries=2), made(folder)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(reranker.predict, pairs * 2))
    for found, own in zip(together, pairs * 2, strict=True):
        np.testing.assert_allclose(found, alone.predict(own), atol=1e-5)


def test_the_fingerprint_tells_what_changes_the_scores(folder: Path, tmp_path: Path) -> None:
    space = made(folder).fingerprint.space
    assert made(folder, max_tokens=64, cached_queries=0).fingerprint.space == space
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    assert made(moved).fingerprint.space == space
    for change in ({"attention": "square"}, {"query_length": 8}, {"max_length": 24}):
        settings = json.loads((folder / SETTINGS).read_text())
        (moved / SETTINGS).write_text(json.dumps({**settings, **change}))
        assert made(moved).fingerprint.space != space, change
    assert made(saved(tmp_path / "other", hidden_act="relu")).fingerprint.space != space


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"attention": "round"}, r"settings of a Uni-Encoder are not valid(?s:.*)attention"),
        ({"max_length": 500}, r"max_length is more than model(?s:.*)at most 34"),
        ({"query_length": 30}, r"not valid(?s:.*)query_length is at most"),
        ({"depth": 1}, r"not valid(?s:.*)depth"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict[str, Any], told: str, folder: Path, tmp_path: Path) -> None:
    there = Path(shutil.copytree(folder, tmp_path / "uni"))
    settings = json.loads((there / SETTINGS).read_text())
    (there / SETTINGS).write_text(json.dumps({**settings, **change}))
    with pytest.raises(ModelError, match=told):
        made(there)


def test_damaged_and_foreign_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    there = Path(shutil.copytree(folder, tmp_path / "uni"))
    (there / SETTINGS).write_text("{")
    with pytest.raises(ModelError, match="not valid"):
        made(there)
    shutil.copy(folder / SETTINGS, there)
    config = json.loads((there / "config.json").read_text())
    (there / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"incomplete(?s:.*)layer\.2"):
        made(there)
    (there / "config.json").write_text(json.dumps({**config, "id2label": {"0": "A", "1": "B"}}))
    with pytest.raises(ModelError, match="of another shape"):
        made(there)
    (there / "config.json").write_text(json.dumps(config))
    (there / "config.json").unlink()
    with pytest.raises(ModelError, match="is not a transformers model"):
        made(there)
    shutil.copy(folder / "config.json", there)
    (there / "model.safetensors").unlink()
    with pytest.raises((ModelError, OSError), match="safetensors"):
        made(there)


def test_a_folder_of_another_reranker_is_refused_both_ways(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a Uni-Encoder(?s:.*)BertForMaskedLM(?s:.*)recipe uni_encoder"):
        made(bert(tmp_path / "bert"))
    with pytest.raises(ModelError, match="is not a trained CrossEncoder"):
        CrossEncoderReranker.of(model=str(folder), device="cpu")


def test_it_is_made_from_a_config(folder: Path) -> None:
    registry = Registry()
    reranker = registry.create("uni-encoder", {"model": str(folder), "device": "cpu"})
    assert isinstance(reranker, UniEncoderReranker)
    assert len(reranker.predict(PAIRS)) == len(PAIRS)
    with pytest.raises(AdapterOptionsError, match="max_length"):
        registry.create("uni-encoder", {"model": str(folder), "max_length": 12})
    with pytest.raises(AdapterFactoryError, match="no such model folder"):
        registry.create("uni-encoder", {"model": "./nothing"})


class TestUniEncoder(RerankerContract):
    triples = ()

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls, folder: Path) -> UniEncoderReranker:
        return made(folder)
