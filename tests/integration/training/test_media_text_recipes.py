"""`image_text` and its sisters end to end: colours, tones, moves and shapes are learned by name.

Killed trainings go on, and both adapters serve the folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
import yaml
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from diptych import Collection, Document
from diptych.cli import app
from diptych.config import load_config
from diptych.errors import ConfigError
from diptych.media import MediaConfig, MediaStore, Sound
from diptych.search import Pipeline, Retrieve
from diptych_adapters.media_text.encoders import MediaLexiconEncoder, MediaTextEncoder
from every_recipe import made
from tiny_encoders import WORDS, tiny_encoder
from tiny_training import Stopping, Told, lines

pytestmark = pytest.mark.slow

Write = Callable[[Path, str, int], None]
COLOURS = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20), (20, 20, 20), (200, 20, 200)]


def painted(folder: Path, name: str, seed: int, shades: int) -> None:
    """`NAME.jsonl`, and a picture of each shade of each colour, all of which have the colour's name."""
    random, rows = np.random.default_rng(seed), []
    for number, colour in enumerate(COLOURS):
        for shade in range(shades):
            pixels = np.clip(np.array(colour) + random.integers(-20, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
            path = f"{name}-{number}-{shade}.png"
            Image.fromarray(pixels).save(folder / path)
            rows.append({"image": path, "texts": [WORDS[number], WORDS[number + 10]], "group": f"c{number}"})
    lines(folder / f"{name}.jsonl", rows)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    tiny_encoder(folder / "bert", layers=2).save_pretrained(str(folder / "text"), create_model_card=False)
    painted(folder, "train", seed=0, shades=6)
    painted(folder, "test", seed=1, shades=2)
    return folder


def options(world: Path, output: Path, **changes: Any) -> dict[str, Any]:
    return {
        "recipe": "image_text",
        "model": str(world / "text"),
        "output": str(output),
        "data": {"items": str(world / "train.jsonl"), "held_out": str(world / "test.jsonl")},
        "image": {"size": 16, "width": 4, "augment": 0.2},
        "training": {"epochs": 40, "batch_size": 12, "learning_rate": 1e-2, "device": "cpu", "evaluate_every": 20},
        **changes,
    }


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    recipe = made(options(world, folder), Told())
    assert recipe.prepare() == ["48 pictures read, 12 texts encoded"]
    assert recipe.prepare() == []
    report = recipe.train()
    assert [model.adapter for model in report.models] == ["media-text", "media-lexicon"]
    assert {model.of for model in report.models} == {"image"}
    assert report.measured["after"]["R@1"] > 0.9 > report.measured["before"]["R@1"]
    assert report.measured["after"]["lexicon R@1"] > 0.9 > report.measured["before"]["lexicon R@1"]
    return folder


def test_pictures_never_seen_are_found_by_their_colours_with_the_words_as_reasons(world: Path, run: Path) -> None:
    images = [np.asarray(Image.open(world / f"test-{n}-0.png")) for n in range(len(COLOURS))]
    dense = MediaTextEncoder("image", model=str(run), device="cpu")
    scores = dense.encode_query(WORDS[: len(COLOURS)]) @ dense.encode_document(images).T
    assert scores.argmax(1).tolist() == list(range(len(COLOURS)))
    lexicon = MediaLexiconEncoder("image", model=str(run), device="cpu")
    for number, vector in enumerate(lexicon.encode_document(images)):
        assert {word for word, _ in lexicon.decode(vector, 2)} == {WORDS[number], WORDS[number + 10]}
    assert "{adapter: media-lexicon, modality: image, model: run, of: image}" in (run / "README.md").read_text("utf-8")
    assert str(world) not in (run / "README.md").read_text("utf-8")


def test_a_training_that_was_stopped_ends_as_one_that_was_not(world: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        made(options(world, tmp_path / "run"), Stopping(25)).train()
    assert not (tmp_path / "run" / "report.json").exists()
    report = made(options(world, tmp_path / "run"), Told()).train()
    assert 0 < report.resumed_at < report.steps
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run", run))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], atol=1e-5, err_msg=name)


def test_without_a_lexicon_there_is_none(world: Path, tmp_path: Path) -> None:
    small = {"training": {"epochs": 1, "batch_size": 12, "device": "cpu"}, "lexicon": None}
    report = made(options(world, tmp_path / "run", **small), Told()).train()
    assert [model.adapter for model in report.models] == ["media-text"]
    assert not (tmp_path / "run" / "words.json").exists()
    assert set(report.measured["after"]) == {"nDCG@10", "R@1", "R@10"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"training": {"lora": {}}}, r"training.lora is for models of texts"),
        ({"training": {"max_length": 9}}, r"training.max_length is for models of texts"),
        ({"training": {"mini_batch_size": 9}}, r"training.mini_batch_size does not go with media"),
        ({"prompts": {"query": "a "}}, r"prompts are the text encoder's"),
        ({"image": {"size": 3}}, r"image.size"),
    ],
)
def test_what_goes_with_texts_alone_is_refused(changes: Any, text: str, world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=text):
        made(options(world, tmp_path / "run", **changes), Told())


def test_a_share_that_leaves_nothing_to_learn_from_is_refused(world: Path, tmp_path: Path) -> None:
    given = options(world, tmp_path / "run", data={"items": str(world / "train.jsonl"), "share": 0.99})
    with pytest.raises(ConfigError, match="all 36 rows held out"):
        made(given, Told()).prepare()


def test_texts_that_were_changed_since_they_were_encoded_are_told(world: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (world / "train.jsonl").read_text().splitlines()]
    lines(world / "changed.jsonl", rows)
    given = options(world, tmp_path / "run", data={"items": str(world / "changed.jsonl"), "share": 0.2})
    made(given, Told()).prepare()
    lines(world / "changed.jsonl", [{**rows[0], "texts": ["new"]}, *rows[1:]])
    with pytest.raises(ConfigError, match=r"other texts than when the training was prepared(?s:.*)'new'"):
        made(given, Told()).train()


def test_a_pretrained_encoder_is_what_the_network_begins_with(world: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for path in world.glob("train-*.png"):
        (tmp_path / "pictures" / path.name).write_bytes(path.read_bytes())
    pretraining = {
        "recipe": "pretrain",
        "output": str(tmp_path / "encoder"),
        "data": {"corpus": str(tmp_path / "pictures"), "share": 0},
        "encoder": {"size": 16, "patch": 4, "layers": 1, "width": 16, "heads": 2},
        "training": {"epochs": 1, "batch_size": 12, "device": "cpu"},
    }
    made(pretraining, Told()).train()
    image = {"start": str(tmp_path / "encoder"), "augment": 0.2}
    recipe = made(options(world, tmp_path / "first", image=image), Told())
    recipe.prepare()
    first = recipe.model()[0].network.body.model.state_dict()
    trained = transformers.ViTModel.from_pretrained(tmp_path / "encoder", add_pooling_layer=False).state_dict()
    assert first.keys() == trained.keys()
    for name, value in trained.items():
        np.testing.assert_array_equal(first[name], value, err_msg=name)
    report = made(options(world, tmp_path / "run", image=image), Told()).train()
    assert report.measured["after"]["R@1"] > 0.9 > report.measured["before"]["R@1"]
    shutil.rmtree(tmp_path / "encoder")
    images = [np.asarray(Image.open(world / f"test-{n}-0.png")) for n in range(len(COLOURS))]
    dense = MediaTextEncoder("image", model=str(tmp_path / "run"), device="cpu")
    scores = dense.encode_query(WORDS[: len(COLOURS)]) @ dense.encode_document(images).T
    assert scores.argmax(1).tolist() == list(range(len(COLOURS)))


def sounding(folder: Path, name: str, seed: int) -> None:
    """Tones of three pitches and noise, of different lengths, as WAV files."""
    random, rows, store = np.random.default_rng(seed), [], MediaStore(MediaConfig(), folder)
    for number, hertz in enumerate((200, 500, 1200, 0)):
        for take in range(6):
            at = np.arange(int(random.integers(2000, 5000))) / 4000
            pitch = hertz * random.uniform(0.97, 1.03)
            samples = np.sin(2 * np.pi * pitch * at) if hertz else random.uniform(-1, 1, len(at))
            path = f"{name}-{number}-{take}.wav"
            sound = Sound((samples * 0.5).astype(np.float32), 4000)
            (folder / path).write_bytes(store.take("sound", sound).data or b"")
            rows.append({"sound": path, "texts": [WORDS[number], WORDS[number + 10]], "group": f"s{number}"})
    lines(folder / f"{name}-sounds.jsonl", rows)


def moving(folder: Path, name: str, seed: int) -> None:
    """Clips in which a square grows or shrinks, and pictures of circles: stills among the clips."""
    random, rows = np.random.default_rng(seed), []
    for take in range(12):
        place, colour = random.integers(0, 5, 2), random.integers(0, 200, 3)
        frames = np.full((5, 16, 16, 3), 255, np.uint8)
        for at, frame in enumerate(frames):
            frame[place[0] : place[0] + 2 + 2 * at, place[1] : place[1] + 2 + 2 * at] = colour
        np.save(folder / f"{name}-grows-{take}.npy", frames)
        Image.fromarray(frames[4]).save(folder / f"{name}-still-{take}.png")
        rows.append({"video": f"{name}-grows-{take}.npy", "texts": [WORDS[0]], "group": "grows"})
        rows.append({"image": f"{name}-still-{take}.png", "texts": [WORDS[1]], "group": "still"})
    lines(folder / f"{name}-clips.jsonl", rows)


@pytest.mark.parametrize(
    ("recipe", "write", "items", "section"),
    [
        ("sound_text", sounding, "sounds", {"rate": 4000, "seconds": 1, "bands": 32, "width": 4, "augment": 0.1}),
        ("video_text", moving, "clips", {"size": 16, "frames": 3, "width": 4, "augment": 0.2}),
    ],
)
def test_other_media_are_found_by_their_names(
    recipe: str,
    write: Callable[[Path, str, int], None],
    items: str,
    section: dict[str, Any],
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "train", 0)
    write(tmp_path, "test", 1)
    given = options(world, tmp_path / "run", recipe=recipe)
    del given["image"]
    given["data"] = {"items": str(tmp_path / f"train-{items}.jsonl"), "held_out": str(tmp_path / f"test-{items}.jsonl")}
    of = recipe.partition("_")[0]
    Path("recipe.yaml").write_text(yaml.safe_dump({**given, of: section}), "utf-8")
    Path("diptych.yaml").write_text("store: edge:./qdrant\ncollection: items\nslots:\n  words: {adapter: bm25}\n")
    command = ["train", "recipe.yaml", "--into", "diptych.yaml", "--slot", "named", "--model", "lexicon", "--json"]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.output
    after = json.loads(answer.stdout)["measured"]["after"]
    assert after["R@1"] == after["lexicon R@1"] == 1
    lines_read = map(json.loads, (tmp_path / f"test-{items}.jsonl").read_text("utf-8").splitlines())
    rows, store = [row for row in lines_read if of in row], MediaStore(MediaConfig(), tmp_path)
    words, contents = rows[0]["texts"], [store.content(store.take(of, row[of])) for row in rows]
    lexicon = MediaLexiconEncoder(of, model=str(tmp_path / "run"), device="cpu")
    assert {word for word, _ in lexicon.decode(lexicon.encode_document(contents[:1])[0], len(words))} == {*words}
    dense = MediaTextEncoder(of, model=str(tmp_path / "run"), device="cpu")
    scores = (dense.encode_query([words[0]]) @ dense.encode_document(contents).T)[0]
    assert rows[int(scores.argmax())]["texts"] == words
    assert load_config("diptych.yaml").slots["named"].of == of
    with Collection.open("diptych.yaml") as collection:
        collection.populate([Document(f"d{n}", "", media={of: row[of]}) for n, row in enumerate(rows)])
        found = collection.search(words[0], limit=1, pipeline=Pipeline((Retrieve("named"),)))
    assert rows[int(found[0].id[1:])]["texts"] == words
