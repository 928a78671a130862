"""What the recipes of media read, how they vary it, and their loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from diptych.errors import DocumentError
from diptych.media import MediaConfig, MediaStore, Sound
from diptych_adapters.media_text.network import MediaTextNetwork, Picture, TowerShape, normalized
from diptych_experimental.media_forms import Clip, Spectrogram
from diptych_training.data.media_items import Items, Relevant, augment_pictures, read_items
from diptych_training.losses.contrastive import symmetric_contrastive
from diptych_training.recipes.media_text import MediaTextLoss, media_text_model, ranked
from diptych_training.recipes.splade import flops
from tiny_training import lines

SIZE = 16
PICTURE = Picture(SIZE)
ROWS = [
    {"image": "red.png", "texts": ["red square", "red"], "group": "r"},
    {"image": "red.png", "texts": ["rotes Quadrat"], "group": "r"},
    {"image": "dark.png", "texts": ["dark square", "red"], "group": "d"},
    {"image": "blue.png", "texts": ["blue"]},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in (("red", "#ff0000"), ("dark", "#400000"), ("blue", "#0000ff")):
        Image.new("RGB", (20, 20), colour).save(tmp_path / f"{name}.png")
    lines(tmp_path / "items.jsonl", ROWS)
    return tmp_path


def test_rows_share_pictures_and_texts(folder: Path) -> None:
    pictures = read_items(folder / "items.jsonl", PICTURE)
    assert pictures.inputs.shape == (3, 3, SIZE, SIZE)
    assert list(pictures.places) == [0, 0, 1, 2]
    assert list(pictures.groups) == ["r", "r", "d", "blue.png"]
    assert [[pictures.names[text] for text in own] for own in pictures.texts] == [row["texts"] for row in ROWS]
    texts = [pictures.names.index(text) for text in ("red", "rotes Quadrat", "blue")]
    relevant = Relevant(pictures).matrix(texts, ["r", "d", "never seen"])
    assert relevant.tolist() == [[True, True, False], [True, False, False], [False, False, False]]


def test_csv_says_the_same_as_json_lines(folder: Path) -> None:
    rows = [f"{row['image']},{'|'.join(row['texts'])},{row.get('group', '')}" for row in ROWS]
    (folder / "items.csv").write_text("\n".join(["image,texts,group", *rows]) + "\n", "utf-8")
    ours, theirs = (read_items(folder / f"items.{kind}", PICTURE) for kind in ("jsonl", "csv"))
    assert (ours.groups, ours.texts, ours.names) == (theirs.groups, theirs.texts, theirs.names)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{broken", r"a row is not image with texts(?s:.*)line 2(?s:.*)\{broken"),
        ('{"image": "red.png", "texts": []}', r"a row is not image with texts(?s:.*)line 2"),
        ('{"image": "red.png", "texts": ["a", " "]}', r"a row is not image with texts(?s:.*)line 2"),
        ('{"image": "red.png", "texts": {"a": 1}}', r"a row is not image with texts(?s:.*)line 2"),
        ('{"image": "red.png", "texts": [3]}', r"a row is not image with texts(?s:.*)line 2"),
        ('{"image": "", "texts": ["a"]}', r"a row is not image with texts(?s:.*)line 2"),
        ('["red.png"]', r"a row is not image with texts(?s:.*)line 2"),
        ('{"image": "lost.png", "texts": ["a"]}', r"cannot be read(?s:.*)line 2(?s:.*)lost.png"),
        ('{"image": "items.jsonl", "texts": ["a"]}', r"cannot be read(?s:.*)line 2(?s:.*)items.jsonl"),
        ('{"image": "../red.png", "texts": ["a"]}', r"cannot be read(?s:.*)line 2(?s:.*)\.\./red.png"),
    ],
)
def test_a_row_that_is_none_is_named_with_its_line(folder: Path, line: str, text: str) -> None:
    (folder / "items.jsonl").write_text(f"{json.dumps(ROWS[0])}\n{line}\n", "utf-8")
    with pytest.raises(DocumentError, match=text):
        read_items(folder / "items.jsonl", PICTURE)


def test_a_file_without_rows_or_none_at_all_is_refused(folder: Path) -> None:
    (folder / "items.jsonl").write_text("\n", "utf-8")
    with pytest.raises(DocumentError, match="there is nothing of modality image"):
        read_items(folder / "items.jsonl", PICTURE)
    with pytest.raises(DocumentError, match=r"cannot read the items(?s:.*)lost.jsonl"):
        read_items(folder / "lost.jsonl", PICTURE)


def test_no_group_is_on_both_sides_of_a_split(folder: Path) -> None:
    train, held = read_items(folder / "items.jsonl", PICTURE).split(0.34, seed=1)
    assert len({*held.groups}) == 1
    assert not {*train.groups} & {*held.groups}
    assert len(train) + len(held) == len(ROWS)


def test_pictures_are_varied_by_the_seed_and_white_stays_white() -> None:
    pixels = normalized(torch.from_numpy(np.random.default_rng(0).integers(0, 255, (4, 3, SIZE, SIZE), np.uint8)))
    assert torch.equal(augment_pictures(pixels, 0), pixels)
    torch.manual_seed(3)
    first = augment_pictures(pixels, 1.0)
    torch.manual_seed(3)
    assert torch.equal(augment_pictures(pixels, 1.0), first)
    assert not torch.equal(augment_pictures(pixels, 1.0), first)
    assert first.shape == pixels.shape
    assert float(first.abs().max()) <= 1
    torch.manual_seed(3)
    blank = augment_pictures(torch.ones(64, 3, SIZE, SIZE), 0.5)
    assert float((blank.mean((1, 2, 3)) > 0.75).float().mean()) == 1, "but for brightness"


def loss_of(pictures: Items, vectors: torch.Tensor, terms: Any, **options: Any) -> tuple[Any, MediaTextLoss]:
    torch.manual_seed(0)
    network = MediaTextNetwork(TowerShape(PICTURE, 4, vectors.shape[1], 0 if terms is None else 5))
    model = media_text_model(network, "cpu").eval()
    settings = {"first": 1.0, "tau": 0.1, "weight": 1.0, "sparsity": 0.0, "ramp": 0, **options}
    return model, MediaTextLoss(model, network, pictures, vectors, terms, vary=torch.nn.Identity(), **settings).eval()


@torch.no_grad()
def test_the_loss_is_that_of_both_directions_over_groups_and_shared_texts(folder: Path) -> None:
    pictures = read_items(folder / "items.jsonl", PICTURE)
    vectors = normalize(torch.randn(len(pictures.names), 6), dim=1)
    model, loss = loss_of(pictures, vectors, None)
    found = float(loss([], torch.arange(4)))
    outputs = model({"inputs": normalized(pictures.inputs[list(pictures.places)])})
    same = torch.eye(4, dtype=torch.bool)
    same[:2, :2] = True
    texts = vectors[[own[0] for own in pictures.texts]]
    assert found == pytest.approx(
        float(symmetric_contrastive(texts @ outputs["sentence_embedding"].T / 0.1, same, ~same))
    )


@torch.no_grad()
def test_the_lexicon_adds_its_losses_and_flops(folder: Path) -> None:
    pictures = read_items(folder / "items.jsonl", PICTURE)
    vectors = normalize(torch.randn(len(pictures.names), 6), dim=1)
    terms = [[n % 5, (n + 1) % 5] for n in range(len(pictures.names))]
    model, loss = loss_of(pictures, vectors, terms)
    _, sparse = loss_of(pictures, vectors, terms, sparsity=0.5)
    rows = torch.tensor([0, 2, 3])
    network, texts = model[0].network, [pictures.texts[row][0] for row in rows]
    words = model({"inputs": normalized(pictures.inputs)})["words"]
    side, same = network.words_of_texts(vectors[texts]), torch.eye(3, dtype=torch.bool)
    bags = torch.zeros(3, 5)
    for row, text in enumerate(texts):
        bags[row, terms[text]] = 1.0
    dense = symmetric_contrastive(
        vectors[texts] @ model({"inputs": normalized(pictures.inputs)})["sentence_embedding"].T / 0.1,
        same,
        ~same,
    )
    lexical = [symmetric_contrastive(own @ words.T / 0.1, same, ~same) for own in (normalize(bags, dim=1), side)]
    expected = float(dense + sum(lexical))
    assert float(loss([], rows)) == pytest.approx(expected, rel=1e-5)
    assert float(sparse([], rows)) == pytest.approx(expected + 0.5 * float(flops(words) + flops(side)), rel=1e-5)


def test_measures_of_a_ranking_and_ties_count_as_lost() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.2, 0.1]])
    relevant = np.array([[True, False, True], [False, True, False]])
    found = ranked(scores, relevant)
    first = (1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    assert found == pytest.approx({"nDCG@10": (first + 1 / np.log2(3)) / 2, "R@1": 0.5, "R@10": 1.0})
    assert ranked(torch.zeros(1, 3), np.array([[True, False, False]]))["R@1"] == 0


def test_a_long_sound_has_a_row_for_each_window(tmp_path: Path) -> None:
    store = MediaStore(MediaConfig(), tmp_path)
    for name, seconds in (("short", 0.2), ("long", 1.2)):
        sound = Sound(np.sin(np.arange(int(8000 * seconds)) / 5).astype(np.float32), 8000)
        (tmp_path / f"{name}.wav").write_bytes(store.take("sound", sound).data or b"")
    (tmp_path / "items.csv").write_text("sound,texts\nshort.wav,a beep\nlong.wav,a whistle|a tone\n", "utf-8")
    items = read_items(tmp_path / "items.csv", Spectrogram(8000, 16, 32))
    assert items.inputs.shape == (4, 1, 32, 16)
    assert list(items.places) == [0, 1, 2, 3]
    assert list(items.groups) == ["short.wav", *["long.wav"] * 3]
    assert items.count == 2
    assert [[items.names[text] for text in own] for own in items.texts[:2]] == [["a beep"], ["a whistle", "a tone"]]


def test_rows_of_clips_may_name_a_picture(folder: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), np.uint8)
    np.save(folder / "clip.npy", frames)
    rows = [{"video": "clip.npy", "texts": ["noise"]}, {"image": "red.png", "texts": ["red"], "group": "r"}]
    lines(folder / "clips.jsonl", rows)
    items = read_items(folder / "clips.jsonl", Clip(16, 2))
    assert torch.equal(items.inputs[0], torch.from_numpy(frames[[0, 4]]).permute(0, 3, 1, 2))
    assert torch.equal(items.inputs[1, 0], items.inputs[1, 1])
    lines(folder / "clips.jsonl", [{**rows[0], "image": "red.png"}])
    with pytest.raises(DocumentError, match=r"a row is not video with texts(?s:.*)line 1"):
        read_items(folder / "clips.jsonl", Clip(16, 2))
