"""The generator `chat` over a real socket."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from chat_server import chat_server
from diptych import Document, Registry
from diptych.errors import ConfigError, RemoteError
from diptych.generation import JudgeRequest
from diptych_training import hooks
from diptych_training.data.generators import Generator

SOX = Document("sox", "Converts audio files between formats.", "Sound exchange")
GIMP = Document("gimp", "Retouches photographs.")
SECRET = "sk-live-0123456789"


def generator(url: str, **options: Any) -> Generator:
    given = {"base_url": url, "model": "tiny", "backoff": 0, **options}
    return Generator("chat", given, registry=Registry(hooks, installed=False))


def judged(url: str, *pairs: tuple[str, str]) -> Any:
    request = JudgeRequest("chat", pairs, {"base_url": url, "model": "tiny", "backoff": 0})
    return Registry(hooks, installed=False).hook.diptych_judge(request=request)


def user(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def test_each_document_gets_the_lines_of_its_own_answer() -> None:
    def say(body: dict[str, Any]) -> str:
        if "audio" in user(body):
            return '<think>1. hm</think>\n1. convert sound\n2) "wav to mp3"\n\n- third one\n4. 3d sound'
        return "edit a photo"

    with chat_server(say) as server:
        found = generator(server.url, max_concurrency=2).queries([SOX, GIMP], style="keywords", count=3, seed=5)
    assert found == [["convert sound", "wav to mp3", "third one"], ["edit a photo"]]
    assert {body["model"] for body in server.bodies} == {"tiny"}
    assert {body["seed"] for body in server.bodies} == {5}
    told = server.bodies[0]["messages"][0]["content"]
    assert "Write 3 different search queries" in told
    assert "three to six search words" in told


def test_judgements_are_the_numbers_that_are_answered_divided_by_100() -> None:
    with chat_server(lambda body: "about 85" if "audio" in user(body) else "7.") as server:
        found = judged(server.url, ("convert", SOX.text), ("convert", GIMP.text))
    assert found == [0.85, 0.07]
    assert {body["temperature"] for body in server.bodies} == {0.0}


def test_no_error_shows_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_TEST_KEY", SECRET)
    refused = pytest.raises(RemoteError, match="the endpoint answered 401")
    with chat_server(lambda body: "", refusals=[401]) as server, refused as caught:
        generator(server.url, api_key_env="CHAT_TEST_KEY").queries([SOX])
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("answer", "said"), [("no idea", "a judgement is not a number"), (None, "malformed")])
def test_answers_of_another_form_are_refused(answer: Any, said: str) -> None:
    with chat_server(lambda body: answer) as server, pytest.raises(RemoteError, match=said):
        judged(server.url, ("a", "b"))


def test_options_and_styles_that_cannot_be_used_are_named_without_their_values() -> None:
    with pytest.raises(ConfigError, match=r"(?s)generator 'chat'.*temperature") as caught:
        generator("http://localhost", temperature=SECRET).queries([SOX])
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match=r"(?s)unknown style.*haiku.*question, keywords"):
        generator("http://localhost").queries([SOX], style="haiku")
