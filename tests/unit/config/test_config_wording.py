"""What is wrong with a config is said in our words, and says what was probably meant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from diptych import AdapterSpec
from diptych.config import load_config, parse_config
from diptych.errors import AdapterOptionsError, ConfigError
from diptych.factory import validate_options
from diptych.runtime.validation_messages import expectation


class Options(BaseModel, extra="forbid"):
    model: str
    count: Annotated[int, Field(ge=1, le=9)] = 1
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    device: Literal["cpu", "cuda"] = "cpu"
    names: Annotated[list[str], Field(min_length=1)] = ["a"]
    fast: bool = False
    extra: dict[str, int] = {}
    code: Annotated[str, Field(min_length=2, pattern="^[a-z]+$")] = "ab"

    @field_validator("device")
    @classmethod
    def _there(cls, device: str) -> str:
        if device == "cuda":
            raise ValueError("a device that is there")
        return device

    @model_validator(mode="after")
    def _fits(self) -> Options:
        if self.count == 7:
            raise ValueError("count is not 7")
        return self


SPEC = AdapterSpec(name="x", kind="dense", factory="json:loads", summary="", options=Options)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"count": 0}, "at least 1"),
        ({"count": "many"}, "a whole number"),
        ({"share": 0}, "more than 0"),
        ({"share": "half"}, "a number"),
        ({"device": "tpu"}, "'cpu' or 'cuda'"),
        ({"names": []}, "at least 1 item"),
        ({"extra": 1}, "a mapping: key: value lines"),
        ({"model": 3}, "text"),
        ({"code": "A1"}, "text that matches ^[a-z]+$"),
        ({"count": 7}, "count is not 7"),
    ],
)
def test_what_was_expected_is_said_in_our_words(value: dict[str, object], expected: str) -> None:
    options = {"model": "m", **value}
    with pytest.raises(ValidationError) as caught:
        Options.model_validate(options)
    assert expectation(dict(caught.value.errors()[0])) == expected
    with pytest.raises(AdapterOptionsError, match="is not usable") as refused:
        validate_options(SPEC, options)
    assert refused.value.expected == expected


def test_a_misspelt_option_is_named_before_the_one_that_is_missing_for_it() -> None:
    with pytest.raises(AdapterOptionsError, match=r"has no option 'modle'(.|\n)*did you mean 'model'"):
        validate_options(SPEC, {"modle": "m"})


@pytest.mark.parametrize("slots", [{"d": {"adaptor": "bm25"}}, {"d": {"Adapter": "bm25", "k": 1}}])
def test_a_misspelt_key_that_is_missing_is_pointed_at(slots: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"'adapter' is missing(.|\n)*did you mean 'adapter' by '[aA]dapt[eo]r'\?"):
        parse_config({"collection": "c", "slots": slots})


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("store: memory:\ncollection: c\n", 'quote it: "memory:"'),
        ("store: memory:   # for now\n", 'quote it: "memory:"'),
        ("collection: a: b\n", 'quote it: "a: b"'),
        ("slots:\n  d: {adapter: a}\n  e: bm25:\n", 'quote it: "bm25:"'),
        ("api_key: s3cret: x\n", "quote the value of api_key"),
        ("a: b\n  c: d\n", "check quotes, colons and indentation"),
    ],
)
def test_a_bare_value_with_a_colon_is_to_be_quoted(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "diptych.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="not YAML") as caught:
        load_config(path)
    assert hint in caught.value.do
    assert "s3cret" not in str(caught.value)
