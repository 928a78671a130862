"""Which status an error has, and what of it is told."""

from __future__ import annotations

import json
import logging

import pytest

from diptych import errors
from diptych_serve.service.admission import Refused, refusal_of


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.SearchError, 400, "search_error"),
        (errors.AdapterOptionsError, 400, "adapter_options_error"),
        (errors.CollectionError, 400, "collection_error"),
        (errors.UnknownAdapter, 404, "unknown_adapter"),
        (errors.CollectionNotFound, 404, "collection_not_found"),
        (errors.MissingExtra, 501, "missing_extra"),
        (errors.StoreUnsupported, 501, "store_unsupported"),
        (errors.RemoteError, 502, "remote_error"),
        (errors.StoreUnavailable, 503, "store_unavailable"),
        (errors.StoreLocked, 503, "store_locked"),
        (errors.FingerprintMismatch, 500, "fingerprint_mismatch"),
        (errors.ContractError, 500, "contract_error"),
        (errors.ConfigError, 500, "config_error"),
    ],
)
def test_an_error_of_ours_is_told_with_its_text(error: type[errors.DiptychError], status: int, code: str) -> None:
    raised = error("it failed", where="slot 'dense'", do="mend it")
    refused = refusal_of(raised)
    assert (refused.status, refused.code) == (status, code)
    answer = json.loads(bytes(refused.response().body))["error"]
    assert answer["message"] == "it failed\n  where: slot 'dense'\n  do: mend it"
    assert answer["type"] == ("server_error" if status >= 500 else answer["type"])


def test_a_fault_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    refused = refusal_of(RuntimeError("a path, a text, a key"))
    assert (refused.status, refused.code) == (500, "internal_error")
    assert "a key" not in refused.message
    assert "a request failed" in caplog.text


def test_what_is_refused_already_stays_as_it_is() -> None:
    own = Refused(429, "later", code="rate_limit_exceeded", headers={"Retry-After": "1"})
    assert refusal_of(own) is own
    response = own.response()
    assert response.headers["retry-after"] == "1"
    assert json.loads(bytes(response.body)) == {
        "error": {"message": "later", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    }
