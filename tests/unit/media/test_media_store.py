"""`MediaStore`: where media may come from, what their identity is, and what payloads hold of them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from diptych.errors import CollectionError, MediaError
from diptych.media import Media, MediaConfig, MediaStore, RawMedia, from_json, from_payload, to_json
from diptych.media.read import check_url
from faulty_server import faulty_server


def png(color: tuple[int, int, int] = (255, 0, 0)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), color).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    (folder / "red.png").write_bytes(png())
    (folder / "deep" / "red.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png())
    return folder


def store(root: Path, **config: Any) -> MediaStore:
    return MediaStore(MediaConfig(root=root.name, **config), root.parent)


def test_a_file_is_known_by_its_path_digest_and_length(root: Path) -> None:
    media = store(root).take("image", "deep/red.png")
    digest = hashlib.sha256(png()).hexdigest()[:32]
    assert (media.source, media.digest, media.bytes, media.data) == ("deep/red.png", digest, len(png()), None)
    assert media.key == f"image:{digest}"


def test_media_with_equal_bytes_are_equal_wherever_they_come_from(root: Path) -> None:
    media = store(root)
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    given: list[RawMedia] = ["red.png", Path("deep/red.png"), root / "red.png", "deep/../red.png", png(), uri]
    assert len({media.take("image", raw) for raw in given}) == 1
    assert media.take("image", png((0, 0, 9))) != media.take("image", png())
    assert media.take("video", png()) != media.take("image", png())
    assert {media.take("image", raw).source for raw in given} == {"red.png", "deep/red.png", ""}


def test_a_link_within_the_root_keeps_its_name(root: Path) -> None:
    (root / "link.png").symlink_to("deep/red.png")
    assert store(root).take("image", "link.png").source == "link.png"


@pytest.mark.parametrize("path", ["../secret.png", "deep/../../secret.png", "link.png", "away/secret.png", ".", ""])
def test_no_path_leads_out_of_the_root(root: Path, path: str) -> None:
    (root / "link.png").symlink_to(root.parent / "secret.png")
    (root / "away").symlink_to(root.parent)
    with pytest.raises(MediaError, match=r"does not lead to a file below the root|cannot be used"):
        store(root).take("image", path)


def test_an_absolute_path_out_of_the_root_is_refused(root: Path) -> None:
    for path in (root.parent / "secret.png", root.parent / "absent.png"):
        with pytest.raises(MediaError, match=r"do: paths start at media.root; for a file elsewhere, pass its bytes"):
            store(root).take("image", path)
    with pytest.raises(MediaError, match="does not lead to a file below the root"):
        store(root).take("image", str(root.parent / "secret.png"))
    with pytest.raises(MediaError, match="does not lead to a file below the root"):
        store(root).take("image", "/etc/hostname")


def test_what_is_no_regular_file_is_refused_without_waiting(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    (root / "circle.png").symlink_to("circle.png")
    for path, message in (
        ("pipe.png", "a pipe, socket or device"),
        ("deep", "a folder"),
        ("circle.png", "cannot be found"),
        ("none.png", "does not exist"),
        ("red.png/x", "cannot be found"),
        ("a\0b", "cannot be used"),
        ("x" * 5000, "cannot be found"),
        ("\ud800.png", "cannot be found|does not exist"),
    ):
        with pytest.raises(MediaError, match=message):
            store(root).take("image", path)


def test_an_empty_file_and_one_that_is_too_large_are_refused(root: Path) -> None:
    (root / "empty.png").touch()
    with pytest.raises(MediaError, match="the media are empty"):
        store(root).take("image", "empty.png")
    with pytest.raises(MediaError, match="the media are empty"):
        store(root).take("image", b"")
    small = store(root, max_bytes=10)
    for raw in ("red.png", png(), "data:," + "x" * 100, np.zeros((9, 9), np.uint8)):
        with pytest.raises(MediaError, match=r"too large[^$]*media.max_bytes"):
            small.take("image", raw)


def test_words_in_a_file_named_png_are_refused_by_the_files_name(root: Path) -> None:
    (root / "words.png").write_text("no picture at all")
    with pytest.raises(MediaError, match=r"where: image 'words.png'\n  got: text bytes") as caught:
        store(root).take("image", "words.png")
    assert isinstance(caught.value.media, Media)
    assert caught.value.media.source == "words.png"


def test_a_file_that_changed_after_it_was_taken_is_refused(root: Path) -> None:
    taken = store(root).take("image", "red.png")
    (root / "red.png").write_bytes(png((0, 0, 255)))
    with pytest.raises(MediaError, match="have changed since they were read"):
        store(root).content(taken)


def test_taking_and_decoding_read_a_file_once(root: Path) -> None:
    media = store(root)
    taken = media.take("image", "red.png")
    (root / "red.png").unlink()
    assert np.asarray(media.content(taken)).shape == (2, 3, 3)


def test_a_store_goes_to_other_processes(root: Path) -> None:
    media = store(root)
    taken = media.take("image", "red.png")
    copy = pickle.loads(pickle.dumps(media))
    assert copy.take("image", "red.png") == taken
    assert copy.root == media.root


@pytest.mark.parametrize("uri", ["data:image/png;base64", "data:image/png;base64,!!!", "data:,"])
def test_a_bad_data_uri_is_refused(root: Path, uri: str) -> None:
    with pytest.raises(MediaError, match=r"no comma|not base64|empty"):
        store(root).take("image", uri)


@pytest.mark.parametrize("raw", [None, 5, ["red.png"], {"path": "red.png"}])
def test_what_is_no_media_is_refused(root: Path, raw: Any) -> None:
    with pytest.raises(MediaError, match="image cannot be given as this type"):
        store(root).take("image", raw)
    with pytest.raises(MediaError, match="unknown modality"):
        store(root).take("smell", "red.png")


def test_media_that_were_taken_are_taken_again_and_their_bytes_checked(root: Path) -> None:
    media = store(root)
    by_path, by_bytes = media.take("image", "red.png"), media.take("image", png())
    assert media.take("image", by_path) is by_path
    assert media.take("image", by_bytes) == by_bytes
    forged = Media("image", "", "0" * 32, 3, png((9, 9, 9)))
    assert media.take("image", forged).digest != forged.digest
    with pytest.raises(MediaError, match="the media have another modality"):
        media.take("video", by_path)


def test_payloads_hold_references_or_bytes(root: Path) -> None:
    for raw in ("red.png", png()):
        by_reference = store(root)
        taken = by_reference.take("image", raw)
        payload = by_reference.to_payload(taken)
        assert set(payload) <= {"digest", "bytes", "source"}
        assert from_payload("image", payload) == taken
        whole = store(root, store="bytes")
        back = from_payload("image", whole.to_payload(taken))
        assert back.data == png()
        assert np.asarray(store(root).content(back)).tolist() == np.asarray(by_reference.content(taken)).tolist()


def test_bytes_that_were_not_stored_are_said_to_be_missing(root: Path) -> None:
    media = store(root)
    back = from_payload("image", media.to_payload(media.take("image", png())))
    with pytest.raises(MediaError, match=r"which the collection does not hold[^$]*media.store: bytes"):
        store(root).content(back)


GOOD = {"digest": "0" * 32, "bytes": 3}


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        {**GOOD, "digest": "0" * 31},
        {**GOOD, "bytes": -1},
        {**GOOD, "bytes": True},
        {**GOOD, "source": 5},
        {**GOOD, "thumbnail": 5},
        {**GOOD, "data": "%"},
        {**GOOD, "data": base64.b64encode(b"abc").decode()},
    ],
)
def test_a_payload_that_diptych_did_not_write_is_refused(raw: Any) -> None:
    with pytest.raises(CollectionError, match="media that diptych did not write"):
        from_payload("image", raw)
    with pytest.raises(CollectionError, match="media that diptych did not write"):
        from_payload("smell", GOOD)
    with pytest.raises(MediaError, match="this is not media in JSON form"):
        from_json({**raw, "modality": "image"} if raw is not None else raw)


def test_json_brings_media_back_with_their_bytes(root: Path) -> None:
    for raw in ("red.png", png()):
        taken = store(root).take("image", raw)
        back = from_json(to_json(taken))
        assert (back, back.source, back.bytes, back.data) == (taken, taken.source, taken.bytes, taken.data)


class Answers(BaseHTTPRequestHandler):
    """Serves a picture, redirects to where a path says, and lies about lengths."""

    def do_GET(self) -> None:
        kind, _, rest = self.path[1:].partition("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("location", rest)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_response(404 if kind == "none" else 200)
        if kind != "endless":
            self.send_header(
                "content-length", {"huge": "999999999999"}.get(kind, str(len(png()) + 5 * (kind == "cut")))
            )
        self.end_headers()
        self.wfile.write(b"x" * 20_000 if kind == "endless" else png())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served() as found:
        yield found


@pytest.fixture
def fetch(root: Path, port: int) -> Callable[[str], Media]:
    media = store(root, hosts=[f"127.0.0.1:{port}"], max_bytes=10_000)
    return lambda path: media.take("image", f"http://127.0.0.1:{port}/{path}")


def test_a_url_of_a_listed_host_is_fetched(fetch: Callable[[str], Media], port: int) -> None:
    taken = fetch("red.png")
    assert (taken.bytes, taken.source) == (len(png()), f"http://127.0.0.1:{port}/red.png")
    assert fetch(f"to/http://127.0.0.1:{port}/red.png") == taken


OK = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "the status line": (b"", b"HTTP/1.1 200 OK"),
    "a header": (OK + b"x-slow: ", b"y"),
    "headers": (OK, b"x: y\r\n"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunk sizes": (OK + b"transfer-encoding: chunked\r\n\r\n", b"0"),
    "the body": (OK + b"content-length: 9000\r\n\r\n", b"x"),
}


@pytest.mark.parametrize(("first", "then"), DRIPS.values(), ids=list(DRIPS))
def test_a_server_that_drips_is_given_up_at_the_deadline(
    root: Path, monkeypatch: pytest.MonkeyPatch, first: bytes, then: bytes
) -> None:
    monkeypatch.setattr("diptych.media.read.SECONDS", 0.3)
    sent = list[bytes]()

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(first)
            for byte in itertools.islice(itertools.cycle(then), 300):  # 300 x 0.02 s: far beyond the deadline
                connection.sendall(bytes([byte]))
                sent.append(b"x")
                time.sleep(0.02)

    with faulty_server(answer) as url, pytest.raises(MediaError, match="the media server is too slow"):
        store(root, hosts=[url.removeprefix("http://")]).take("image", f"{url}/red.png")
    assert len(sent) < 300


def test_the_body_of_a_redirect_is_not_read(root: Path) -> None:
    sent, own = list[int](), list[bytes]()

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 302 Found\r\nlocation: " + own[0] + b"\r\n\r\n")
            for _ in range(100):
                sent.append(connection.send(bytes(1 << 20)))

    with faulty_server(answer) as url:
        own.append(url.encode())
        with pytest.raises(MediaError, match="status 302"):
            store(root, hosts=[url.removeprefix("http://")]).take("image", url)
    assert sum(sent) < 100 << 20


def test_no_host_is_asked_unless_it_is_listed(root: Path, port: int) -> None:
    for hosts in ([], ["127.0.0.1"], ["example.com"]):
        with pytest.raises(MediaError, match=r"may not be fetched[^$]*add '127.0.0.1:[0-9]+' to media.hosts"):
            store(root, hosts=hosts).take("image", f"http://127.0.0.1:{port}/red.png")


def test_a_redirect_to_another_host_is_not_followed(fetch: Callable[[str], Media]) -> None:
    with served() as other:
        for elsewhere in (f"http://127.0.0.1:{other}/red.png", "https://example.com/red.png", "http://10.0.0.1/"):
            with pytest.raises(MediaError, match="this redirect of a media URL may not be followed"):
                fetch("to/" + elsewhere)
    with pytest.raises(
        MediaError, match=r"this redirect of a media URL may not be followed|refused|could not be fetched"
    ):
        fetch("to/file:///etc/hostname")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none", "server refused[^$]*status 404"),
        ("huge", "too large[^$]*999,999,999,999 bytes"),
        ("endless", "too large[^$]*more than 10,000"),
        ("cut", "closed the connection early"),
    ],
)
def test_a_bad_answer_is_refused(fetch: Callable[[str], Media], path: str, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        fetch(path)


@pytest.mark.parametrize(
    "url",
    [
        "http://images.example.com/a.png",
        "https://images.example.com.evil.org/a.png",
        "https://images.example.com:8443/a.png",
        "https://images.example.com@evil.org/a.png",
        "https://user:password@images.example.com/a.png",
        "https://images.example.com\\@evil.org/a.png",
        "https://images.example.com/a b.png",
        "https://images.example.com:port/a.png",
        "https:///a.png",
        "ftp://images.example.com/a.png",
        "file:///etc/hostname",
    ],
)
def test_a_url_that_only_looks_allowed_is_refused(root: Path, url: str) -> None:
    with pytest.raises(MediaError, match="may not be fetched") as caught:
        store(root, hosts=["images.example.com"]).take("image", url)
    assert "user:password" not in str(caught.value)


def test_a_listed_host_may_be_asked_by_https_whatever_its_case() -> None:
    check_url("https://Images.Example.com/a.png?size=2", ["images.example.com"])
    check_url("https://images.example.com:8443/a.png", ["images.example.com:8443"])
    check_url("https://[2001:db8::1]/a.png", ["[2001:db8::1]"])


def test_the_config_takes_hosts_and_no_urls() -> None:
    assert MediaConfig(hosts=["Images.Example.com:8443"]).hosts == ["images.example.com:8443"]
    assert MediaConfig.model_validate({"max_bytes": "20MB"}).max_bytes == 20_000_000
    for bad in ({"hosts": ["https://example.com"]}, {"hosts": ["example.com/a"]}, {"max_bytes": 0}, {"rot": "."}):
        with pytest.raises(ValidationError):
            MediaConfig.model_validate(bad)
