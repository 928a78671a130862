"""`shape-descriptor`: vectors of point clouds that rotations, reflections, shifts and sizes do not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.polynomial import legendre
from numpy.typing import NDArray

import diptych_adapters.hooks
from diptych import Collection, Document, Query, Registry
from diptych.errors import ConfigError, ContractError
from diptych.media.canaries import media_canaries
from diptych.testing import MediaEncoderContract
from diptych_adapters.media_models.shape_descriptor import ShapeDescriptor, descriptor, power_spectrum, unit_sized
from ldraw import Parts, cloud, rotation

Doubles = NDArray[np.float64]


class TestShapes(MediaEncoderContract):
    modality = "points"
    normalized = True

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls) -> ShapeDescriptor:
        return ShapeDescriptor(shells=4, degrees=4)


@pytest.fixture
def bent() -> Doubles:
    random = np.random.default_rng(0)
    return random.normal(size=(60, 3)) * [1, 2, 3] + np.where(random.random((60, 1)) < 0.3, [4, 0, 1], 0)


def test_the_power_is_what_legendres_polynomials_of_all_pairs_give(bent: Doubles) -> None:
    points, shells, degrees = unit_sized(bent), 4, 6
    power = power_spectrum(points, shells, degrees)
    radii = np.linalg.norm(points, axis=1)
    places = np.clip(radii / 2 * shells - 0.5, 0, shells - 1)
    weights = np.clip(1 - np.abs(places[:, None] - np.arange(shells)), 0, None)
    cosines = (points @ points.T) / (radii[:, None] * radii)
    for degree in range(degrees + 1):
        pairs = legendre.legval(cosines, [0.0] * degree + [1.0])
        np.fill_diagonal(pairs, 0)
        expected = (2 * degree + 1) / (4 * np.pi) * (weights.T @ pairs @ weights) / len(points) ** 2
        np.testing.assert_allclose(power[degree], expected, atol=1e-12)


def test_many_points_in_pieces_make_the_vector_of_one_piece(bent: Doubles, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = descriptor(bent, 5, 5)
    monkeypatch.setattr("diptych_adapters.media_models.shape_descriptor.BLOCK", 7)
    np.testing.assert_allclose(descriptor(bent, 5, 5), whole, atol=1e-9)


def test_rotation_reflection_shift_size_and_order_change_nothing(bent: Doubles) -> None:
    own, random = descriptor(bent, 6, 8), np.random.default_rng(1)
    for _ in range(5):
        moved = 1e6 * bent[random.permutation(len(bent))] @ rotation(random).T * [1, 1, -1] + [5, -7, 1e6]
        np.testing.assert_allclose(descriptor(moved, 6, 8), own, atol=1e-6)
    assert float(descriptor(bent * [1, 1, 2], 6, 8) @ own) < 0.99


def test_the_number_of_points_hardly_matters() -> None:
    random = np.random.default_rng(2)
    triangles = random.normal(size=(12, 3, 3))
    few, many, other = (
        descriptor(cloud(own, count, random), 6, 8)
        for own, count in ((triangles, 300), (triangles, 6000), (triangles[:6], 6000))
    )
    assert few @ many > 0.9 > other @ many


@pytest.mark.parametrize(
    "points", [np.zeros((1, 3)), np.full((5, 3), 2.0), np.full((2, 3), 3e38), np.array([[0, 0, 1e-300], [0, 0, 0]])]
)
def test_points_in_one_place_or_at_the_ends_of_numbers_have_a_vector(points: Doubles) -> None:
    vector = ShapeDescriptor().encode_document([points])[0]
    assert np.linalg.norm(vector) == pytest.approx(1)


def test_a_point_in_the_centre_has_no_direction() -> None:
    cross = np.array([[1, 0, 0], [-1, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 0]], float)
    turned = cross @ rotation(np.random.default_rng(3)).T
    turned[4] = 0
    np.testing.assert_allclose(descriptor(cross, 6, 8), descriptor(turned, 6, 8), atol=1e-6)


@pytest.mark.parametrize("wrong", ["a brick", np.zeros((0, 3)), np.zeros((3, 2)), np.full((2, 3), np.nan)])
def test_what_is_no_cloud_is_refused(wrong: Any) -> None:
    with pytest.raises(ContractError, match=r"not a point cloud(?s:.*)\[n, 3\](?s:.*)of: points"):
        ShapeDescriptor().encode_query([wrong])


def test_the_fingerprint_says_how_fine_it_is() -> None:
    settings = [(4, 4), (4, 5), (5, 4)]
    spaces = {ShapeDescriptor(shells=shells, degrees=degrees).fingerprint.space for shells, degrees in settings}
    assert len(spaces) == 3
    assert ShapeDescriptor(shells=4, degrees=5).encode_document(media_canaries("points")).shape == (2, 60)


def config(folder: Path, **options: Any) -> dict[str, Any]:
    slots = {"shape": {"adapter": "shape-descriptor", "of": "points", **options}}
    return {"store": "memory:", "collection": "parts", "slots": slots, "media": {"root": str(folder)}}


def test_a_turned_part_is_found_in_a_collection_and_bad_files_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the rejects are listed
    random, registry = np.random.default_rng(4), Registry(diptych_adapters.hooks, installed=False)
    shapes = [random.normal(size=(3, 3, 3)) for _ in range(8)]
    for number, triangles in enumerate(shapes):
        np.save(tmp_path / f"{number}.npy", cloud(triangles, 600, random))
    np.save(tmp_path / "flat.npy", np.zeros((4, 2)))
    np.save(tmp_path / "broken.npy", np.full((4, 3), np.nan))
    with Collection.open(config(tmp_path), registry=registry) as parts:
        names = [*map(str, range(8)), "flat", "broken"]
        report = parts.populate(Document(name, media={"points": f"{name}.npy"}) for name in names)
        assert sorted(own.id for own in report.examples) == ["broken", "flat"]
        for number, triangles in enumerate(shapes):
            turned = cloud(triangles, 600, random) @ rotation(random).T
            assert parts.search(Query(media={"points": turned}))[0].id == str(number)


def test_options_are_checked_with_the_config(tmp_path: Path) -> None:
    registry = Registry(diptych_adapters.hooks, installed=False)
    with pytest.raises(ConfigError, match="degrees"):
        Collection.open(config(tmp_path, degrees=40), registry=registry)


def test_ldraw_files_become_clouds_of_their_surface(tmp_path: Path) -> None:
    for folder in ("parts/s", "p"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "p" / "square.dat").write_text("0 Square\n4 16 0 0 0 1 0 0 1 1 0 0 1 0\n")
    moved, triangle = "1 16 0 0 5 2 0 0 0 2 0 0 0 2 square.dat", "3 16 0 0 0 1 0 0 0 1 0"
    gone = "1 16 0 0 0 1 0 0 0 1 0 0 0 1 s\\gone.dat"
    (tmp_path / "parts" / "1.dat").write_text(f"0 Plate  1 x 1\n{moved}\n{triangle}\n{gone}\n")
    (tmp_path / "parts" / "2.dat").write_text("0 ~Moved to 1\n")
    parts = Parts(tmp_path)
    assert parts.descriptions == {"1": "Plate 1 x 1"}
    assert parts.surface("1").shape == (3, 3, 3)
    points = cloud(parts.surface("1"), 500, np.random.default_rng(0))
    assert {*points[:, 2].round(9)} == {0.0, 5.0}
    assert (points[:, 2] > 1).mean() == pytest.approx(4 / 4.5, abs=0.05)
