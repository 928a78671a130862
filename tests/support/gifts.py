"""What somebody hostile gives away: a collection's stored options, and folders of models."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

Gift: TypeAlias = tuple[str, str, dict[str, Any]]  # the place in the metadata, an adapter and its options
Change: TypeAlias = Callable[[Path], None]  # of a model's folder
NUMBERS: list[Any] = [10**9, 10**12, 2**70, -1, 0, 1e308, "x", None, []]
KEY, SECRET = "DIPTYCH_TEST_SENTINEL", "b2f0c9-sentinel"
ENCODERS: list[tuple[str, dict[str, Any]]] = [
    ("openai", {"base_url": "URL/v1", "model": "m"}),
    ("openai", {"base_url": "URL/v1", "model": "m", "api_key_env": KEY}),
    ("openai", {"base_url": "URL/v1", "model": "m", "api_key_env": KEY, "api_key_header": "X-Key"}),
    ("openai", {"base_url": f"URL/${{{KEY}}}", "model": "m"}),
    ("openai", {"base_url": "URL/v1", "model": f"${{{KEY}}}"}),
    ("openai", {"base_url": "URL/v1", "model": "m", "query_fields": {"user": f"${{{KEY}:-none}}"}}),
    ("openai", {"model": "m", "api_key_env": KEY}),  # to the vendor, whom nobody here named
    ("cohere", {"base_url": "URL/v2", "model": "m", "api_key_env": KEY}),
    ("cohere", {"model": "m"}),
    ("tei", {"base_url": "URL", "api_key_env": KEY}),
    ("tei", {"base_url": "URL", "document_prompt": f"${{{KEY}}}"}),
    ("sentence-transformers", {"model": "FOLDER", "trust_remote_code": True}),
    ("sentence-transformers", {"model": "FOLDER", "allow_pickle_weights": True}),
    ("sentence-transformers-multivector", {"model": "FOLDER", "trust_remote_code": True}),
    ("sentence-transformers", {"model": f"${{{KEY}}}"}),
]
RERANKERS: list[tuple[str, dict[str, Any]]] = [
    ("rerank-api", {"model": "m", "base_url": "URL/v2", "api_key_env": KEY}),
    ("tei-reranker", {"base_url": "URL", "api_key_env": KEY}),
    ("cross-encoder", {"model": "FOLDER", "trust_remote_code": True}),
]


def gifts(address: str, folder: Path) -> Iterator[Gift]:
    """Stored options that would send texts or keys to the address, or run the folder's code."""
    for place in ("slot", "query", "rerank"):
        for adapter, options in RERANKERS if place == "rerank" else ENCODERS:
            text = json.dumps(options).replace("URL", address).replace("FOLDER", str(folder))
            yield place, adapter, json.loads(text)


def given(payload: Mapping[str, Any], gift: Gift) -> dict[str, Any]:
    """A collection's metadata with the gift in the place of its slot `dense`, of that slot's student or a reranker."""
    place, adapter, options = gift
    changed: dict[str, Any] = json.loads(json.dumps(payload))
    live = changed["diptych"]["live"]
    encoder = {**live["slots"]["dense"], "adapter": adapter, "options": options}
    if place == "slot":
        live["slots"]["dense"] = encoder
    elif place == "query":
        live["asking"] = {"dense": {"generation": encoder, "why": "a student"}}
    else:
        stage = {"adapter": adapter, "candidates": 5, **options}
        changed["diptych_search"] = {**changed["diptych_search"], "rerank": [stage]}
    return changed


def hostile_folders(mark: Path) -> Iterator[tuple[str, Change]]:
    """Changes of a sentence-transformers folder; code in them would write the mark."""
    code = f"open({str(mark)!r}, 'w').close()\n".encode()
    pickled = pickle.dumps(_Opened(str(mark)))
    sizes = ("hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings", "intermediate_size")
    for name in (*sizes, "num_attention_heads", "type_vocab_size", "num_labels"):
        for value in NUMBERS:
            yield f"config.json {name}={value}", _changed("config.json", **{name: value})
    evil = {"auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}}
    facts = {"model_type": "evil", "hidden_act": "os.system", "architectures": ["X"], "pad_token_id": 10**9}
    facts |= {"torch_dtype": "os", "layer_norm_eps": "x", "quantization_config": {"quant_method": "evil"}}
    for name, fact in {**facts, "attn_implementation": "evil/evil", "_attn_implementation": "evil/evil"}.items():
        change = _changed("config.json", **{name: fact}, **evil)
        yield f"config.json {name}={fact}", _all(change, _written("evil.py", code))
    tokenizer = _changed("tokenizer_config.json", tokenizer_class="EvilTokenizer", **evil)
    yield "a tokenizer's code", _all(tokenizer, _written("evil.py", code))
    for kind in ("evil.Evil", "os.system", "this.s", "torch.serialization", "sentence_transformers.util.http_get", 7):
        yield f"a module {kind}", _all(_module(0, type=kind), _written("evil.py", code))
    for path in ("../../../etc", "/etc", "..", "x" * 5000, "\0", 5):
        yield f"a module in {str(path)[:20]}", _module(1, path=path)
    damage = (
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b'{"hidden_size": ' + b"9" * 6000 + b"}",
    )
    for file in ("config.json", "modules.json", "tokenizer.json", "1_Pooling/config.json"):
        for number, content in enumerate(damage):
            yield f"{file} damaged {number}", _written(file, content)
    yield "a token's number", _numbered
    for value in (10**12, -1, "x", 0):
        yield f"pooling of {value}", _changed("1_Pooling/config.json", word_embedding_dimension=value)
        yield f"length {value}", _changed("sentence_bert_config.json", max_seq_length=value)
    no_weights, weights = partial(_removed, "model.safetensors"), "pytorch_model.bin"
    yield "pickled weights", _all(no_weights, _written(weights, pickled))
    yield "pickled weights beside a graph", _all(no_weights, _written(weights, pickled), _written("x.onnx", b""))
    yield "pickled weights of a module", _written(f"1_Pooling/{weights}", pickled)
    yield "pickled arguments", _written("training_args.bin", pickled)
    yield "a pickled vocabulary", _all(partial(_removed, "tokenizer.json"), _written("vocab.pkl", pickled))
    outside = json.dumps({"metadata": {}, "weight_map": {"a": "../../base/model.safetensors"}}).encode()
    yield "weights outside", _all(no_weights, _written("model.safetensors.index.json", outside))
    headers: list[Any] = [[], {"a": 5}, {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 0]}}]
    for header in (*headers, {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 2**60]}}):
        text = json.dumps(header).encode()
        yield f"weights of {text.decode()}", _written("model.safetensors", struct.pack("<Q", len(text)) + text)
    yield "weights without end", _written("model.safetensors", struct.pack("<Q", 2**63 - 1) + b"{}")
    for file, target in (("config.json", "/etc/passwd"), ("model.safetensors", "/etc/passwd"), ("2_Loop", ".")):
        yield f"a link to {target}", partial(_linked, file, target)
    yield "a link to the environment", partial(_linked, "tokenizer.json", "/proc/self/environ")
    adapted = {"base_model_name_or_path": "../base", "peft_type": "LORA", "auto_mapping": {"parent_library": "evil"}}
    yield "an adapter of another model", _written("adapter_config.json", json.dumps(adapted).encode())


class _Opened:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def _all(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes].clear()


def _written(name: str, content: bytes) -> Change:
    def write(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(content)

    return write


def _changed(name: str, **facts: Any) -> Change:
    return lambda folder: _written(name, json.dumps({**json.loads((folder / name).read_text()), **facts}).encode())(
        folder
    )


def _module(place: int, **facts: Any) -> Change:
    def change(folder: Path) -> None:
        modules = json.loads((folder / "modules.json").read_text())
        modules[place] |= facts
        _written("modules.json", json.dumps(modules).encode())(folder)

    return change


def _numbered(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["word0"] = 2**31 - 1
    _written("tokenizer.json", json.dumps(tokenizer).encode())(folder)


def _removed(name: str, folder: Path) -> None:
    (folder / name).unlink()


def _linked(name: str, target: str, folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
