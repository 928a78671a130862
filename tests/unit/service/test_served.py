"""What a server opens and by which names it is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from diptych import AdapterSpec, Collection, Registry, hookimpl
from diptych.config import Config, parse_config
from diptych.errors import (
    AdapterOptionsError,
    CollectionError,
    CollectionNotFound,
    ConfigError,
    DiptychError,
    MissingExtra,
    UnknownAdapter,
)
from diptych.testing import fakes_plugin
from diptych_serve.service.served import Served
from serving import SEARCH, SLOTS, animals


def config(folder: Path, name: str, **changes: Any) -> Config:
    store = f"edge:{folder / 'qdrant'}"
    whole = {"store": store, "collection": name, "slots": SLOTS, "search": SEARCH, "cache": {"enabled": False}}
    return parse_config({**whole, **changes})


def test_configs_of_one_embedded_store_share_it(tmp_path: Path, fakes: Registry) -> None:
    for name in ("animals", "beasts"):
        animals(tmp_path, fakes, name=name).close()
    both = Served.open([config(tmp_path, "animals"), config(tmp_path, "beasts")], registry=fakes)
    first, second = both.collections.values()
    assert first.client is second.client
    assert both.collection("beasts").count() == 4
    both.close()
    Collection.open(config(tmp_path, "animals"), registry=fakes, create=False).close()  # the lock is free


def test_a_config_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path, fakes: Registry) -> None:
    animals(tmp_path, fakes).close()
    missing = config(tmp_path / "elsewhere", "beasts")
    with pytest.raises(CollectionNotFound, match="there is no embedded store"):
        Served.open([config(tmp_path, "animals"), missing], registry=fakes)
    with pytest.raises(ConfigError, match="two collections have one name"):
        Served.open([config(tmp_path, "animals"), config(tmp_path, "animals")], registry=fakes)
    Collection.open(config(tmp_path, "animals"), registry=fakes, create=False).close()


def test_a_name_that_means_several_slots_is_parted_by_collection(tmp_path: Path, fakes: Registry) -> None:
    other = config(tmp_path, "beasts", slots={"dense": {"adapter": "fake-dense", "seed": 1}}, search={})
    both = Served.of_encoders([config(tmp_path, "animals"), other], registry=fakes)
    names = ["animals/dense", "lexical", "long", "beasts/dense", "fake-reranker"]
    assert [model.id for model in both.models()] == names
    assert both.model("beasts/dense", "dense").collection == "beasts"
    assert both.model("animals/lexical", "sparse").id == "lexical"
    with pytest.raises(UnknownAdapter, match=r"(?s)no model is called 'dense'.*animals/dense, long, beasts/dense"):
        both.model("dense", "dense")
    with pytest.raises(AdapterOptionsError, match=r"(?s)cannot do this.*got: sparse.*is dense: animals/dense"):
        both.model("lexical", "dense")


def test_adapters_are_served_when_they_are_named(fakes: Registry) -> None:
    with pytest.raises(UnknownAdapter, match="none is served"):
        Served(registry=fakes).model("fake-dense", "dense")
    served = Served(adapters=["fake-dense", "fake-reranker"], registry=fakes)
    model = served.model("fake-dense", "dense")
    assert len(model.encoders[model.name].encode_query(["x"])) == 1
    served.check("", thorough=True)
    with pytest.raises(UnknownAdapter, match="no adapter is called 'nobody'"):
        Served(adapters=["nobody"], registry=fakes)


class NeedyOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: str
    address: str


class NeedyPlugin:
    """Rerankers that cannot be had by their name alone."""

    @staticmethod
    @hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        factory = "diptych.testing.fakes:FakeReranker"
        needy = AdapterSpec(name="needy", kind="reranker", factory=factory, options=NeedyOptions, summary="")
        return [needy, replace(needy, name="heavy", requires=("no_such_package",), extra="diptych[heavy]")]


@pytest.mark.parametrize(
    ("adapter", "error", "text"),
    [
        (
            "needy",
            AdapterOptionsError,
            r"(?s)needs the option 'model'.*where: --adapter needy\n.*--adapter needy:MODEL",
        ),
        ("needy:some-model", AdapterOptionsError, r"(?s)needs the option 'address'.*expected: a slot of a config"),
        (
            "fake-dense:some-model",
            AdapterOptionsError,
            r"'fake-dense' has no option 'model'\n  where: --adapter fake-dense",
        ),
        ("heavy", MissingExtra, r"(?s)where: --adapter heavy\n  do: pip install 'diptych\[heavy\]'"),
    ],
)
def test_an_adapter_that_could_never_be_made_is_refused_at_once(
    adapter: str, error: type[DiptychError], text: str
) -> None:
    with pytest.raises(error, match=text):
        Served(adapters=[adapter], registry=Registry(NeedyPlugin, fakes_plugin, installed=False))


def test_a_collection_is_named_where_there_are_several(tmp_path: Path, fakes: Registry) -> None:
    for name in ("animals", "beasts"):
        animals(tmp_path, fakes, name=name).close()
    both = Served.stored(f"edge:{tmp_path / 'qdrant'}", ["animals", "beasts"], registry=fakes)
    with pytest.raises(CollectionError, match=r"(?s)request names no collection.*animals, beasts"):
        both.collection(None)
    with pytest.raises(CollectionNotFound, match="no collection is called 'plants'"):
        both.collection("plants")
    both.close()
