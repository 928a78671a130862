"""API keys: whence they come, who is let in, and that nobody sees them."""

from __future__ import annotations

import pytest

from diptych.errors import ConfigError
from diptych.runtime.environment import is_loopback
from diptych_serve.service.access import Keys, require_key


def test_one_key_or_several_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_API_KEY", "one")
    monkeypatch.setenv("MY_KEYS", " one, two\nthree,")
    assert Keys.from_environment().accept("Bearer one")
    keys = Keys.from_environment("MY_KEYS")
    assert [keys.accept(f"Bearer {key}") for key in ("one", "two", "three", "", "four")] == [True] * 3 + [False] * 2
    assert repr(keys) == "Keys(3)"


def test_without_keys_nobody_is_accepted_and_the_server_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_API_KEY", " ")
    assert not Keys.from_environment()
    assert not Keys().accept("Bearer x")


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("Bearer one", True),
        ("bearer one", True),
        ("Bearer  one ", True),
        ("Bearer onee", False),
        ("Bearer on", False),
        ("Basic one", False),
        ("one", False),
        ("", False),
        ("Bearer \udce9", False),
    ],
)
def test_a_header_must_hold_a_key_as_bearer(header: str, accepted: bool) -> None:
    assert Keys(["one"]).accept(header) is accepted


def test_a_key_that_no_header_can_hold_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_API_KEY", "schlüssel")
    with pytest.raises(ConfigError, match="a key cannot be sent") as caught:
        Keys.from_environment()
    assert "schl" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_only_this_machines_addresses_need_no_key(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    require_key(host, Keys(["k"]), insecure=False)
    require_key(host, Keys(), insecure=True)
    if not loopback:
        with pytest.raises(ConfigError, match=r"needs an API key(.|\n)*--insecure"):
            require_key(host, Keys(), insecure=False)
