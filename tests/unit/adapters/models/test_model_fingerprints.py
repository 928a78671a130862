from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

from diptych_adapters.pipelines.fingerprints import file_sha256, tokenizer_digest
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder


def space(path: Path, **options: Any) -> str:
    return SentenceTransformerEncoder.of(model=str(path), device="cpu", **options).fingerprint.space


def test_a_copy_of_the_files_under_another_name_has_the_same_space(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(tiny("mean"), tmp_path / "copy")
    assert space(tmp_path / "copy") == space(tiny("mean"))


def test_a_model_saved_again_by_its_library_has_the_same_space(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(tiny("mean")), device="cpu").save(str(tmp_path))
    assert space(tmp_path) == space(tiny("mean"))


def test_weights_in_shards_have_the_space_of_one_file(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers import AutoModel

    shutil.copytree(tiny("mean"), tmp_path / "shards")
    (tmp_path / "shards" / "model.safetensors").unlink()
    AutoModel.from_pretrained(tiny("mean")).save_pretrained(tmp_path / "shards", max_shard_size="5KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert space(tmp_path / "shards") == space(tiny("mean"))


def test_the_batch_size_and_the_threads_do_not_change_the_space(tiny: Callable[[str], Path]) -> None:
    import torch

    before, threads = space(tiny("mean")), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert space(tiny("mean"), batch_size=1) == before
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "options",
    [
        {"query_prompt": "find: "},
        {"document_prompt": "find: "},
        {"max_length": 32},
        {"truncate_dim": 8},
        {"normalize": False},
    ],
)
def test_what_changes_the_vectors_changes_the_space(tiny: Callable[[str], Path], options: dict[str, Any]) -> None:
    assert space(tiny("bare"), **({"normalize": True} | options)) != space(tiny("bare"), normalize=True)


def test_swapped_prompts_are_another_space(tiny: Callable[[str], Path]) -> None:
    one = space(tiny("mean"), query_prompt="find: ", document_prompt="text: ")
    assert space(tiny("mean"), query_prompt="text: ", document_prompt="find: ") != one
    assert space(tiny("prompted")) == one


def test_another_pooling_of_the_same_weights_is_another_space(tiny: Callable[[str], Path]) -> None:
    mean, cls = (SentenceTransformerEncoder.of(model=str(tiny(name)), device="cpu") for name in ("mean", "cls"))
    assert np.abs(mean.encode_query(["audio"]) - cls.encode_query(["audio"])).max() > 1e-3
    parts = [dict(part.split(":", 1) for part in e.fingerprint.space.split()) for e in (mean, cls)]
    assert {name for name in parts[0] if parts[0][name] != parts[1][name]} == {"pooling"}


def test_other_weights_other_words_and_other_layers_are_other_spaces(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    changed = [tmp_path / name for name in ("weights", "words", "layers")]
    for folder in changed:
        shutil.copytree(tiny("mean"), folder)
    weights = bytearray((changed[0] / "model.safetensors").read_bytes())
    weights[-2] ^= 1
    (changed[0] / "model.safetensors").write_bytes(weights)
    words = (changed[1] / "tokenizer.json").read_text().replace('"audio"', '"sound"').replace('"sound":', '"sound":', 1)
    (changed[1] / "tokenizer.json").write_text(words)
    config = json.loads((changed[2] / "config.json").read_text())
    (changed[2] / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    kept = load_file(changed[2] / "model.safetensors")
    kept = {key: value for key, value in kept.items() if "layer.1." not in key}
    save_file(kept, changed[2] / "model.safetensors", metadata={"format": "pt"})
    assert len({space(folder) for folder in (*changed, tiny("mean"))}) == 4


def test_padding_and_truncation_kept_in_a_tokenizer_file_do_not_count(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    before = tokenizer_digest([tiny("mean")])
    content = json.loads((tiny("mean") / "tokenizer.json").read_text())
    content["truncation"] = {"direction": "Right", "max_length": 7, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content, indent=4))
    assert tokenizer_digest([tmp_path]) == before
    assert tokenizer_digest([tmp_path / "none"]) != before


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    first = file_sha256(path)
    path.write_bytes(b"two")
    assert file_sha256(path) != first


def test_old_vocabularies_count_where_there_is_no_tokenizer_file(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    before = tokenizer_digest([tmp_path])
    (tmp_path / "vocab.txt").write_text("b\na\nc\n")
    assert tokenizer_digest([tmp_path]) != before


@pytest.mark.parametrize(
    "told",
    [
        {"do_lower_case": False},
        {"strip_accents": False},
        {"tokenize_chinese_chars": False},
        {"truncation_side": "left"},
    ],
)
def test_what_the_tokenizers_settings_say_otherwise_counts(
    told: dict[str, object], minilm_folder: Path, tmp_path: Path
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(minilm_folder / name, tmp_path)
    before = tokenizer_digest([minilm_folder])
    assert tokenizer_digest([tmp_path]) == before
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"padding_side": "left"}))
    assert tokenizer_digest([tmp_path]) == before
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | told))
    assert tokenizer_digest([tmp_path]) != before


def test_lower_case_by_the_pipeline_is_another_space(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(tiny("mean"), tmp_path / "lower")
    settings = tmp_path / "lower" / "sentence_bert_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "do_lower_case": True}))
    assert space(tmp_path / "lower") != space(tiny("mean"))
