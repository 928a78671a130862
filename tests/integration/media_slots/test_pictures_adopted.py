"""A collection of pictures that another program made with qdrant-client, adopted by the payload key of their paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qdrant_client import models

from colour_plugin import COLOURS, Colours
from diptych import Collection, Document, Query, Registry
from diptych.adopt import AdoptReport, adopt
from diptych.collection.verify import verify
from diptych.config.models import Config
from diptych.errors import CollectionError, FingerprintMismatch
from diptych.handle.collection_handle import CollectionHandle
from diptych.media import Media
from diptych.search import Retrieve
from diptych.stores import open_store
from diptych.swap import ApplyOptions, apply, plan
from named_server import require_vector_names

Made = Callable[..., dict[str, Any]]
PICTURE = {"picture": {"adapter": "colours", "of": "image"}}
FINER = {"picture": {"adapter": "colours", "of": "image", "grid": 3}}
KEYS = {"photo": "image"}


@pytest.fixture
def made(config: Made) -> Callable[..., Config]:
    def of(**sections: Any) -> Config:
        return Config.model_validate(config(**{"slots": PICTURE, "cache": {"enabled": False}, **sections}))

    return of


@pytest.fixture
def client(store: dict[str, Any]) -> Iterator[Any]:
    opened = open_store(store["store"], api_key=store.get("api_key"))
    yield opened
    opened.close()


def write(client: Any, pictures: Path, rows: dict[int, dict[str, Any]]) -> None:
    """Points as another program writes them: a vector of the picture under `photo`, and its own payload."""
    encoder = Colours()
    points = []
    for point, payload in rows.items():
        path = pictures / str(payload.get("photo", ""))
        pixels = np.asarray(Image.open(path)) if path.is_file() else np.full((4, 4, 3), 90, np.uint8)
        points.append(
            models.PointStruct(id=point, payload=payload, vector={"v": encoder.encode_document([pixels])[0].tolist()})
        )
    client.upsert("shapes", points, wait=True)


@pytest.fixture
def filled(client: Any, pictures: Path) -> Any:
    client.create_collection("shapes", {"v": models.VectorParams(size=12, distance=models.Distance.COSINE)})
    write(client, pictures, {n: {"photo": f"{name}.png", "price": n} for n, name in enumerate(COLOURS, 1)})
    return client


def adopted(client: Any, config: Config, colours: Registry, **options: Any) -> AdoptReport:
    return adopt(client, "shapes", config, registry=colours, media=KEYS, **options)


def opened(client: Any, config: Config, colours: Registry) -> Collection:
    return Collection(CollectionHandle(client, "shapes", config, colours))


def source_of(document: Document) -> str:
    media = document.media["image"]
    assert isinstance(media, Media)
    return media.source


def best(collection: Collection, name: str) -> Document:
    (hit,) = collection.search(Query(media={"image": name}), pipeline=Retrieve("picture"), limit=1)
    return hit.document


def test_pictures_of_another_program_are_searched_read_and_verified(
    filled: Any, made: Callable[..., Config], colours: Registry
) -> None:
    report = adopted(filled, made(), colours)
    assert (dict(report.media), report.warnings) == ({"image": 4}, ())
    assert report.slots[0].lowest > 0.999
    assert report.layout.media == {"image": "photo"}
    (red,) = filled.retrieve("shapes", [1])
    assert red.payload["photo"] == "red.png"
    assert set(red.payload["_diptych"]["media"]["image"]) == {"digest", "bytes", "source"}
    assert red.payload["_diptych"]["textless"] is True
    with opened(filled, made(), colours) as collection:
        (found,) = collection.get(["1"])
        assert source_of(found) == "red.png"
        assert found.metadata == {"price": 1}
        assert collection.search("blue", limit=1)[0].id == "3"


def test_its_encoder_is_swapped_and_what_the_program_wrote_meanwhile_is_encoded_too(
    filled: Any, made: Callable[..., Config], colours: Registry, pictures: Path
) -> None:
    require_vector_names(filled)
    adopted(filled, made(), colours)
    write(filled, pictures, {9: {"photo": "half.png", "price": 9}, 10: {"price": 10}, 11: {"photo": ""}})
    finer = made(slots=FINER)
    with opened(filled, made(), colours) as collection:
        warnings = plan(collection.handle, finer).warnings
        assert any(w.startswith("1 points name image media under 'photo' but have no reference: ") for w in warnings)
        report = apply(collection.handle, finer, ApplyOptions(unmeasured=True))
        assert (report.outcome, report.encoded) == ("cut over", {"picture.2": 5})
        assert best(collection, "half.png").id == "9"
        assert verify(collection.handle, sample=None).passed
        write(filled, pictures, {12: {"photo": "half.png"}})  # after the cut-over: it has the old vector alone
        assert apply(collection.handle, finer).outcome == "filled gaps"
        assert plan(collection.handle, finer).warnings == ()


def test_documents_that_diptych_writes_name_their_pictures_as_the_program_does(
    filled: Any, made: Callable[..., Config], colours: Registry, pictures: Path
) -> None:
    adopted(filled, made(), colours)
    with opened(filled, made(), colours) as collection:
        (known,) = collection.get(["1"])
        same = Document("1", metadata={"price": 1}, media={"image": "red.png"})
        changed = Document("2", metadata={"price": 7}, media={"image": "half.png"})
        data = Document("3", metadata={"price": 3}, media={"image": (pictures / "blue.png").read_bytes()})
        report = collection.populate([known, changed, data])
        assert (report.unchanged, report.changed, report.set_aside) == (1, 2, 0)
        assert collection.populate([same]).unchanged == 1
        one, two, three = filled.retrieve("shapes", [1, 2, 3])
        assert (one.payload["photo"], two.payload["photo"], two.payload["price"]) == ("red.png", "half.png", 7)
        assert "photo" not in three.payload
        assert source_of(collection.get(["2"])[0]) == "half.png"
        taken = Document("4", metadata={"photo": "red.png"}, media={"image": "half.png"})
        assert "metadata uses the reserved key 'photo'" in collection.populate([taken]).examples[0].reason


def test_pictures_that_cannot_be_read_are_named_and_keep_their_vectors(
    filled: Any, made: Callable[..., Config], colours: Registry, pictures: Path
) -> None:
    (pictures / "green.png").unlink()
    write(filled, pictures, {7: {"photo": "../outside.png"}, 8: {"photo": ["red.png"]}})
    report = adopted(filled, made(), colours)
    assert dict(report.media) == {"image": 3}
    (warning,) = report.warnings
    assert warning.startswith("media of 3 points cannot be read, so that no other encoder can encode them: 2: ")
    assert "../outside.png" in warning
    with opened(filled, made(), colours) as collection:
        green = np.full((4, 4, 3), COLOURS["green"], np.uint8)
        (hit,) = collection.search(Query(media={"image": green}), limit=1)
        assert (hit.id, hit.document.metadata) == ("2", {"photo": "green.png", "price": 2})


def test_a_picture_of_which_no_thumbnail_can_be_made_is_named_and_the_others_have_theirs(
    filled: Any, made: Callable[..., Config], colours: Registry, pictures: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)
    Image.fromarray(noise).save(pictures / "cut.png")
    write(filled, pictures, {7: {"photo": "cut.png"}})
    data = (pictures / "cut.png").read_bytes()
    (pictures / "cut.png").write_bytes(data[: len(data) // 2])
    report = adopted(filled, made(media={"store": "thumbnail"}), colours, sample=4)
    assert dict(report.media) == {"image": 4}
    assert report.warnings[0].startswith("media of 1 points cannot be read")
    assert "thumbnail" in filled.retrieve("shapes", [1])[0].payload["_diptych"]["media"]["image"]


def test_an_adoption_that_was_killed_between_references_and_metadata_goes_on(
    filled: Any, made: Callable[..., Config], colours: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(import_module("diptych.adopt.adopt"), "update_metadata", killed)
        with pytest.raises(KeyboardInterrupt):
            adopted(filled, made(), colours)
    assert adopted(filled, made(), colours).media == {}
    with opened(filled, made(), colours) as collection:
        assert source_of(collection.get(["1"])[0]) == "red.png"


@pytest.mark.parametrize(
    ("media", "text"),
    [
        (None, r"the media that the vectors were made from are unknown[^$]*picture: of image[^$]*--media KEY=image"),
        ({"photo": "sound"}, r"the media that the vectors were made from are unknown"),
        ({"photo": "picture"}, r"--media is not usable[^$]*photo=picture[^$]*image, sound"),
        ({"photo": "image", "price": "image"}, r"--media is not usable[^$]*price=image"),
        ({"foto": "image"}, r"no sampled point has both the slot's vector and readable media"),
        ({"price": "image"}, r"no sampled point has both [^$]*point \d: image cannot be given as this type"),
    ],
    ids=str,
)
def test_a_key_that_does_not_name_the_pictures_is_refused(
    filled: Any, made: Callable[..., Config], colours: Registry, media: dict[str, str] | None, text: str
) -> None:
    with pytest.raises(CollectionError, match=text):
        adopt(filled, "shapes", made(), registry=colours, media=media)
    assert all("_diptych" not in point.payload for point in filled.scroll("shapes")[0])


def test_another_encoder_than_that_of_the_pictures_is_refused(
    filled: Any, made: Callable[..., Config], colours: Registry, pictures: Path
) -> None:
    for name in COLOURS:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)).save(pictures / f"{name}.png")
    with pytest.raises(
        FingerprintMismatch, match=r"did not make these vectors[^$]*colours reading payload key 'photo'"
    ):
        adopted(filled, made(), colours)


def test_texts_beside_pictures_are_found_as_without_them(
    client: Any, made: Callable[..., Config], colours: Registry, pictures: Path
) -> None:
    params = {"v": models.VectorParams(size=12, distance=models.Distance.COSINE)}
    client.create_collection("shapes", params)
    write(
        client, pictures, {n: {"img": {"path": f"{c}.png"}, "caption": f"a {c} thing"} for n, c in enumerate(COLOURS)}
    )
    encoder = Colours()
    for n, name in enumerate(COLOURS):
        pixels = np.asarray(Image.open(pictures / f"{name}.png"))
        vector = {"v": encoder.encode_document([pixels])[0].tolist()}
        client.update_vectors("shapes", [models.PointVectors(id=n, vector=vector)], wait=True)
    report = adopt(client, "shapes", made(), registry=colours, media={"img.path": "image"})
    assert (report.layout.text, report.layout.media) == ("caption", {"image": "img.path"})
    with opened(client, made(), colours) as collection:
        (document,) = collection.get(["2"])
        assert (document.text, document.metadata) == ("a blue thing", {})
        assert source_of(document) == "blue.png"
