"""FastEmbed's image adapters, with tiny ONNX graphs under the names of the two sides of CLIP."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastembed", reason="needs diptych[fastembed]")

from diptych.errors import ContractError
from diptych.media.values import media_canaries
from diptych.slots import guard
from diptych_adapters.fastembed_models import (
    FastEmbedImageEncoder,
    FastEmbedImageMultiVectorEncoder,
    FastEmbedImageTextEncoder,
)
from diptych_adapters.models import ModelError
from tiny_media_models import hf, tokenizer

onnx: Any = import_module("onnx")
VISION, TEXT = "Qdrant/clip-ViT-B-32-vision", "Qdrant/clip-ViT-B-32-text"
SIDE, WIDTH = 8, 12
PICTURE = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)


def graph(folder: Path, name: str, kind: int, shape: list[Any], steps: list[Any], table: Any) -> None:
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    made = helper.make_graph(
        steps,
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("vectors", floats, ["n", table.shape[1]])],
        [onnx.numpy_helper.from_array(table, "table"), onnx.numpy_helper.from_array(np.array([1]), "axes")],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")


def vision(folder: Path, *, seed: int = 0, **processing: Any) -> Path:
    """Pixels times a table."""
    folder.mkdir()
    table = np.random.default_rng(seed).normal(size=(3 * SIDE * SIDE, WIDTH)).astype(np.float32)
    node = onnx.helper.make_node
    steps = [node("Flatten", ["pixels"], ["flat"]), node("MatMul", ["flat", "table"], ["vectors"])]
    graph(folder, "pixels", onnx.TensorProto.FLOAT, ["n", 3, SIDE, SIDE], steps, table)
    sizes = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    hf.CLIPImageProcessor(**sizes, **processing).save_pretrained(folder)
    return folder


def texts(folder: Path, width: int = WIDTH) -> Path:
    """The sum of the rows of a table that the tokens name."""
    folder.mkdir()
    words = tokenizer()
    words.save_pretrained(folder)
    (folder / "config.json").write_text('{"pad_token_id": 0}')
    table = np.random.default_rng(1).normal(size=(len(words), width)).astype(np.float32)
    table[0] = 0  # of padding
    node = onnx.helper.make_node
    steps = [
        node("Gather", ["table", "input_ids"], ["rows"]),
        node("ReduceSum", ["rows", "axes"], ["vectors"], keepdims=0),
    ]
    graph(folder, "input_ids", onnx.TensorProto.INT64, ["n", "tokens"], steps, table)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("fastembed")
    return {"path": str(vision(root / "vision")), "text_path": str(texts(root / "text"))}


@pytest.fixture(scope="module")
def both(folders: dict[str, str]) -> FastEmbedImageTextEncoder:
    return FastEmbedImageTextEncoder.of(model=VISION, text_model=TEXT, **folders)


@pytest.fixture(scope="module")
def pictures(folders: dict[str, str]) -> FastEmbedImageEncoder:
    return FastEmbedImageEncoder.of(model=VISION, path=folders["path"], batch_size=2)


def test_vectors_are_in_order_and_do_not_depend_on_the_batch(
    pictures: FastEmbedImageEncoder, both: FastEmbedImageTextEncoder
) -> None:
    inputs = ["word1 word2 word3", *media_canaries("image"), "word3", PICTURE]
    vectors = both.encode_query(inputs)
    assert vectors.shape == (len(inputs), WIDTH)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([both.encode_document([one]) for one in inputs])
    np.testing.assert_allclose(vectors, alone, atol=1e-5)
    only = [item for item in inputs if not isinstance(item, str)]
    np.testing.assert_allclose(pictures.encode_document(only), vectors[[1, 2, 3, 4, 6]], atol=1e-5)
    assert pictures.encode_document([]).shape == (0, WIDTH)


def test_a_string_is_a_text_whatever_it_names(
    pictures: FastEmbedImageEncoder, both: FastEmbedImageTextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PICTURE).save("picture.png")
    text, picture = both.encode_query(["picture.png", PICTURE])
    assert float(text @ picture) < 0.99
    with pytest.raises(ContractError, match=r"modality: image does not read this[\s\S]*got: a text"):
        pictures.encode_document(["picture.png"])
    with pytest.raises(ContractError, match="modality: image-text does not read this"):
        both.encode_document([np.zeros((2, 8, 8, 3), np.uint8)])


def test_the_fingerprint_follows_weights_preprocessing_and_texts(
    both: FastEmbedImageTextEncoder, pictures: FastEmbedImageEncoder, folders: dict[str, str], tmp_path: Path
) -> None:
    again = FastEmbedImageEncoder.of(model=VISION, path=str(shutil.copytree(folders["path"], tmp_path / "copy")))
    assert again.fingerprint == pictures.fingerprint
    canaries = [guard.record_canaries(one, "dense", "image", ("image",), where="slot") for one in (again, pictures)]
    assert canaries[0] == canaries[1]
    other = FastEmbedImageEncoder.of(model=VISION, path=str(vision(tmp_path / "other", seed=1)))
    assert guard.difference(other.fingerprint, pictures.fingerprint) == "weights"
    grey = FastEmbedImageEncoder.of(model=VISION, path=str(vision(tmp_path / "grey", image_mean=[0.1, 0.1, 0.1])))
    assert guard.difference(grey.fingerprint, pictures.fingerprint) == "pooling"
    assert both.fingerprint != pictures.fingerprint


def test_models_that_do_not_fit_are_refused(folders: dict[str, str], tmp_path: Path) -> None:
    wider = str(texts(tmp_path / "wider", width=WIDTH + 1))
    with pytest.raises(ModelError, match=r"(?s)do not share a vector space.*vectors of 12 and 13"):
        FastEmbedImageTextEncoder.of(model=VISION, text_model=TEXT, **(folders | {"text_path": wider}))
    with pytest.raises(ModelError, match="ImageEmbedding does not know model"):
        FastEmbedImageEncoder.of(model="Qdrant/clip-ViT-B-32-visions", path=folders["path"])
    copy = shutil.copytree(folders["path"], tmp_path / "copy")
    (copy / "preprocessor_config.json").write_text('{"do_center_crop": true, "crop_size": {"height": 9, "width": 9}}')
    with pytest.raises(ModelError, match="does not work as configured"):
        FastEmbedImageEncoder.of(model=VISION, path=str(copy))


def colpali(folder: Path, *, seed: int = 0) -> Path:
    """For each token a row of a table and the mean colour of the picture, times another; under ColPali's inputs."""
    folder.mkdir()
    tokenizer(length=64).save_pretrained(folder)
    (folder / "config.json").write_text('{"pad_token_id": 0}')
    hf.SiglipImageProcessor(size={"height": 448, "width": 448}).save_pretrained(folder)
    random = np.random.default_rng(seed)
    helper, proto, node = onnx.helper, onnx.TensorProto, onnx.helper.make_node
    tables = {"rows": random.normal(size=(50, 128)), "colours": random.normal(size=(3, 128))}
    constants = [onnx.numpy_helper.from_array(table.astype(np.float32), name) for name, table in tables.items()]
    constants += [onnx.numpy_helper.from_array(np.array(value), name) for name, value in (("size", 50), ("axes", [1]))]
    steps = [
        node("Mod", ["input_ids", "size"], ["ids"]),
        node("Gather", ["rows", "ids"], ["tokens"]),
        node("ReduceMean", ["pixel_values"], ["mean"], axes=[2, 3], keepdims=0),
        node("MatMul", ["mean", "colours"], ["colour"]),
        node("Unsqueeze", ["colour", "axes"], ["picture"]),
        node("Add", ["tokens", "picture"], ["vectors"]),
    ]
    inputs = [
        helper.make_tensor_value_info("pixel_values", proto.FLOAT, ["n", 3, 448, 448]),
        helper.make_tensor_value_info("input_ids", proto.INT64, ["n", "tokens"]),
        helper.make_tensor_value_info("attention_mask", proto.INT64, ["n", "tokens"]),
    ]
    output = helper.make_tensor_value_info("vectors", proto.FLOAT, ["n", "tokens", 128])
    made = helper.make_graph(steps, "tiny", inputs, [output], constants)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")
    return folder


def test_late_interaction_over_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "Qdrant/colpali-v1.3-fp16"
    encoder = FastEmbedImageMultiVectorEncoder.of(model=name, path=str(colpali(tmp_path / "model")))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PICTURE).save("picture.png")
    inputs: list[Any] = ["word1", PICTURE, "word1 word2 word3 word4", np.zeros((9, 7, 3), np.uint8), "picture.png"]
    vectors = encoder.encode_document(inputs)
    assert encoder.dimension == 128
    assert [own.shape[0] for own in vectors][1::2] == [1030, 1030]
    assert len(vectors[0]) < len(vectors[2]) < 40
    assert len(vectors[4]) < 40, "a string is a text, whatever it names"
    for one, own in zip(inputs, vectors, strict=True):
        np.testing.assert_allclose(encoder.encode_query([one])[0], own, atol=1e-5)
    other = FastEmbedImageMultiVectorEncoder.of(model=name, path=str(colpali(tmp_path / "other", seed=1)))
    assert guard.difference(other.fingerprint, encoder.fingerprint) == "weights"
    with pytest.raises(ContractError, match="modality: image-text does not read this"):
        encoder.encode_document([np.zeros((2, 8, 8, 3), np.uint8)])
    broken = shutil.copytree(vision(tmp_path / "vision"), tmp_path / "broken")
    tokenizer().save_pretrained(broken)
    (broken / "config.json").write_text('{"pad_token_id": 0}')
    with pytest.raises(ModelError, match="does not work as configured"):
        FastEmbedImageMultiVectorEncoder.of(model=name, path=str(broken))
