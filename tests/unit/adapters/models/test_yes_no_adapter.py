"""A tiny causal language model that is asked for yes or no, as a reranker."""

from __future__ import annotations

import json
import re
import shutil
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
from diptych_adapters.model_options import INSTRUCTION, question
from diptych_adapters.models import ModelError
from diptych_experimental.yes_no import YesNoReranker

PAIRS = [("audio files", "play music"), ("audio", ""), ("", ""), ("convert", "video " * 300), ("video " * 300, "audio")]
TEMPLATE = "{% for message in messages %}<user> {{ message.content }} {% endfor %}<answer>"


def folder_of(path: Path, architecture: str = "Llama", *, template: str = "", words: str = "yes no Yes") -> Path:
    """A folder with a random causal model of one layer, and a tokenizer of words."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    asked = re.sub(r"([?,.:])", r" \1 ", question(INSTRUCTION, "", ""))
    known = f"{asked} {words} audio files play music convert video Answer user answer < >".split()
    vocabulary = {word: n for n, word in enumerate(dict.fromkeys(["<pad>", "<unk>", *known]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")
    fast.chat_template = template or None
    fast.save_pretrained(path)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=len(vocabulary), max_position_embeddings=128, initializer_range=0.5, **shape
    )
    kind = "GPT2LMHeadModel" if architecture == "GPT2" else f"{architecture}ForCausalLM"
    getattr(transformers, kind)(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("causal"))


def made(folder: Path, **options: Any) -> YesNoReranker:
    return YesNoReranker.of(model=str(folder), device="cpu", **{"raw_scores": True, **options})


def odds_of(folder: Path, prompts: list[str], yes: tuple[str, ...] = ("yes", "Yes")) -> list[float]:
    """The logarithms of p(yes) / p(no) after each prompt, one by one, by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer.convert_tokens_to_ids
    odds = []
    for prompt in prompts:
        with torch.inference_mode():
            logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1].softmax(0)
        odds.append(float((logits[ids(list(yes))].sum() / logits[ids("no")]).log()))
    return odds


@pytest.mark.parametrize("architecture", ["Llama", "GPT2"])
def test_scores_are_the_log_odds_of_the_next_token_in_any_batch(architecture: str, tmp_path: Path) -> None:
    path = folder_of(tmp_path, architecture)
    reranker, pairs = made(path, batch_size=3), [*PAIRS[:3], ("files", "play music audio " * 9)]
    assert isinstance(reranker, Reranker)
    expected = odds_of(path, [f"{question(INSTRUCTION, *pair)}\n\nAnswer:" for pair in pairs])
    scores = reranker.predict(pairs)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(scores) > 0.01
    np.testing.assert_allclose(made(path, raw_scores=False).predict(pairs), 1 / (1 + np.exp(-scores)), atol=1e-5)


def test_the_question_goes_through_the_chat_template(tmp_path: Path) -> None:
    path = folder_of(tmp_path, template=TEMPLATE)
    expected = odds_of(path, [f"<user> {question('Music ?', *PAIRS[0])} <answer>"])
    np.testing.assert_allclose(made(path, instruction="Music ?").predict(PAIRS[:1]), expected, atol=1e-4)


def test_of_a_pair_that_is_too_long_the_document_is_cut_and_the_question_stays(folder: Path) -> None:
    reranker = made(folder, max_length=80)
    assert reranker.max_length == 80
    pairs = [("audio", "video " * 300), ("files " * 300, "video")]
    prompts = [reranker._prompt(*reranker._cut(*pair)) for pair in pairs]
    counts = [(prompt.count("video"), prompt.count("files"), prompt.endswith("Answer:")) for prompt in prompts]
    assert 20 < counts[0][0] < 50
    assert counts[1][0] == 1
    assert 10 < counts[1][1] < 30
    assert counts[0][2]
    assert counts[1][2]
    assert max(len(reranker._ids(prompt)) for prompt in prompts) <= 80
    np.testing.assert_allclose(reranker.predict(pairs), odds_of(folder, prompts), atol=1e-4)


def test_a_tokenizer_that_truncates_on_the_left_cuts_the_same_end_of_a_text(folder: Path, tmp_path: Path) -> None:
    left = shutil.copytree(folder, tmp_path / "left")
    settings = json.loads((left / "tokenizer_config.json").read_text())
    (left / "tokenizer_config.json").write_text(json.dumps({**settings, "truncation_side": "left"}))
    reranker = made(left, max_length=80)
    assert reranker.tokenizer.truncation_side == "left"
    document = "play music " * 100
    pairs = [(query, document) for query in ("audio", "convert video", "files " * 300)]
    prompts = [reranker._prompt(*reranker._cut(*pair)) for pair in pairs]
    assert all(prompt.startswith(INSTRUCTION) for prompt in prompts)
    scores = reranker.predict(pairs)
    np.testing.assert_allclose(scores, odds_of(folder, prompts), atol=1e-4)
    np.testing.assert_allclose(scores, made(folder, max_length=80).predict(pairs), atol=1e-5)
    assert np.ptp(scores) > 0.01


def test_a_prompt_that_stays_too_long_is_an_error(tmp_path: Path) -> None:
    twice = "{{ messages[0].content }} {{ messages[0].content }} <answer>"
    reranker = made(folder_of(tmp_path, template=twice), max_length=100)
    assert np.isfinite(reranker.predict(PAIRS[:1])).all()
    with pytest.raises(
        ModelError, match=r"(?s)longer than the model's input.*got: 1\d\d tokens.*expected: at most 100"
    ):
        reranker.predict([("audio", "video " * 300)])


def test_special_tokens_of_a_text_are_none(folder: Path) -> None:
    reranker = made(folder)
    tokens, spaces = reranker.predict([("audio", "play <pad> music <unk>"), ("audio", "play music")])
    assert tokens == pytest.approx(spaces, abs=1e-5)
    assert "<pad>" not in reranker._prompt(*reranker._cut("<pad>", "<p<pad>ad><unk>"))


def test_threads_get_the_scores_of_their_own_pairs(folder: Path) -> None:
    reranker = made(folder)
    alone = [reranker.predict([pair])[0] for pair in PAIRS]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: reranker.predict([pair])[0], PAIRS * 4))
    np.testing.assert_allclose(together, alone * 4, atol=1e-5)


def test_the_fingerprint_is_of_all_that_changes_scores(folder: Path, tmp_path: Path) -> None:
    plain = made(folder).fingerprint.space
    assert made(shutil.copytree(folder, tmp_path / "copy"), batch_size=1).fingerprint.space == plain
    changes: list[dict[str, Any]] = [
        {"instruction": "Music ?"},
        {"answers": ("music", "video")},
        {"raw_scores": False},
        {"max_length": 64},
        {"template": {"enable_thinking": False}},
    ]
    templated = folder_of(tmp_path / "templated", template=TEMPLATE)
    spaces = [made(folder, **change).fingerprint.space for change in changes]
    assert len({*spaces, plain, made(templated).fingerprint.space}) == 7


def test_a_date_that_the_chat_template_writes_is_not_in_the_fingerprint(tmp_path: Path) -> None:
    dated = TEMPLATE + "{{ strftime_now('%Y %f') }}"  # microseconds, which differ between any two prompts
    reranker = made(folder_of(tmp_path, template=dated))
    assert len({reranker._prompt("audio", "") for _ in range(9)}) > 1
    assert len({reranker.fingerprint.space for _ in range(9)}) == 1


def test_what_is_no_complete_causal_model_with_safetensors_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(folder, tmp_path / "other")
    (other / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"]}))
    with pytest.raises(ModelError, match=r"(?s)not a causal language model.*got: architectures BertForMaskedLM"):
        made(other)
    part = shutil.copytree(folder, tmp_path / "part")
    weights = load_file(part / "model.safetensors")
    del weights[next(name for name in weights if "layers.0" in name)]
    save_file(weights, part / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"(?s)incomplete.*got: 1 missing: .*layers\.0"):
        made(part)
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        made(pickled)
    with pytest.raises(ModelError, match="no such model folder"):
        made(tmp_path / "nothing")


def test_answers_without_a_token_and_prompts_without_room_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"(?s)no token for the answer 'ja'.*answers"):
        made(folder, answers=("ja", "nein"))
    with pytest.raises(ModelError, match=r"(?s)prompt alone fills.*max_length"):
        made(folder, instruction="audio " * 120)
    with pytest.raises(AdapterFactoryError, match=r"(?s)max_length is more.*at most 128"):
        made(folder, max_length=129)


def test_answers_that_the_tokenizer_does_not_tell_apart_are_refused(folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "accents")
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(
        ModelError, match=r"(?s)same token for both answers.*got: 'm\u00fasic' and 'music', both 'music'"
    ):
        made(path, answers=("m\u00fasic", "music"))
    with pytest.raises(AdapterOptionsError, match=r"(?s)answers.*are one word"):
        Registry.default().create("yes-no", {"model": str(folder), "answers": ["yes", "Yes"]})


def test_a_model_that_answers_no_pair_by_a_word_is_an_error(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder_of(tmp_path)
    weights = load_file(path / "model.safetensors")
    rows = made(path).tokenizer.convert_tokens_to_ids(["music", "video"])
    head = weights["lm_head.weight"]
    head[rows] = torch.stack([head[rows[0]], -head[rows[0]]]) * 1e4  # opposite directions: one of the two always wins
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    reranker = made(path)
    got = r"got: '(music|video)'; 'yes' or 'no' with a probability"
    message = rf"(?s)does not answer as the prompt asks.*{got}.*turn thinking off"
    with pytest.raises(ContractError, match=message):
        reranker.predict(PAIRS)
    assert reranker.predict([]).shape == (0,)


class TestYesNo(RerankerContract):
    triples = ()  # it is untrained

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls, tmp_path_factory: pytest.TempPathFactory) -> Any:
        return made(folder_of(tmp_path_factory.mktemp("contract")), max_length=100)
