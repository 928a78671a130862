"""PDF, HTML and DOCX files become documents; what is broken, encrypted or a bomb is rejected with the reason."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import PopulateError
from diptych.populate import Rejected, open_source
from diptych.populate.sources import open_source as extract
from diptych.runtime import untrusted

pypdf = pytest.importorskip("pypdf")
docx = pytest.importorskip("docx")
pytest.importorskip("lxml")

PAGE = b"BT /F1 12 Tf 72 720 Td (The quick brown fox) Tj ET"


def pdf(path: Path, content: bytes = PAGE, *, password: str = "", owner: str = "", title: str = "") -> Path:
    """A PDF of one page, made by hand so that its text is known."""
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(612, 792)
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    named = DictionaryObject({NameObject(key): NameObject(value) for key, value in font.items()})
    fonts = DictionaryObject({NameObject("/F1"): named})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    stream = DecodedStreamObject()
    stream.set_data(content)
    page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    if title:
        writer.add_metadata({"/Title": title})
    if password or owner:
        writer.encrypt(password, owner or None, algorithm="RC4-128")
    with path.open("wb") as file:
        writer.write(file)
    return path


def word(path: Path, title: str = "") -> Path:
    document = docx.Document()
    document.core_properties.title = title
    document.add_heading("A heading", 1)
    document.add_paragraph("Some words.")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "left", "right"
    document.add_paragraph("The end.")
    document.save(str(path))
    return path


def only(path: Path) -> Any:
    (found,) = open_source(path)
    return found


def test_a_pdf_is_read_with_its_title(tmp_path: Path) -> None:
    assert only(pdf(tmp_path / "a.pdf", title="Foxes")) == {
        "id": "a.pdf",
        "text": "The quick brown fox",
        "title": "Foxes",
    }


def test_a_pdf_that_only_its_owner_may_change_is_read_and_one_with_a_password_is_not(tmp_path: Path) -> None:
    assert only(pdf(tmp_path / "open.pdf", owner="secret"))["text"] == "The quick brown fox"
    assert only(pdf(tmp_path / "shut.pdf", password="secret")) == Rejected(
        "shut.pdf", "the PDF is encrypted: it needs a password", id="shut.pdf"
    )


def test_a_pdf_of_images_has_no_text(tmp_path: Path) -> None:
    assert only(pdf(tmp_path / "scan.pdf", b"")).reason.startswith(
        "there is no text in the file: pages that were scanned"
    )


@pytest.mark.parametrize("name", ["a.pdf", "a.docx"])
@pytest.mark.parametrize("content", [b"", b"%PDF-1.7\n", b"PK\x03\x04rubbish", b"\x00" * 1000, b"<html>"])
def test_a_broken_file_is_rejected_with_the_reason(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    found = only(tmp_path / name)
    assert isinstance(found, Rejected)
    assert (found.id, found.reason.startswith(f"unreadable {name[1:]} file: ")) == (name, True)


@pytest.mark.parametrize("make", [pdf, word])
def test_a_file_that_was_cut_off_or_changed_anywhere_never_ends_the_run(tmp_path: Path, make: Any) -> None:
    whole = make(tmp_path / ("a.pdf" if make is pdf else "a.docx"))
    content = whole.read_bytes()
    for at in range(0, len(content), max(1, len(content) // 40)):
        for name, damaged in (("cut", content[:at]), ("other", content[:at] + b"\xff\x00" + content[at + 2 :])):
            whole.with_stem(f"{name}{at}").write_bytes(damaged)
    found = list(open_source(tmp_path))
    assert len(found) > 80
    assert all(isinstance(row, Rejected | dict) for row in found)


@pytest.mark.parametrize(
    ("content", "title", "text"),
    [
        ("<title>A title</title><h1>Head</h1><p>One <b>two</b></p><p>three", "A title", "Head\nOne two\nthree"),
        ("<h1>Only a heading</h1>words", "Only a heading", "Only a heading\nwords"),
        ("<p>a<script>alert(1)</script><style>p{}</style><!-- no --><noscript>x</noscript>b", "", "ab"),
        ("<table><tr><td>left<td>right</table>", "", "left\nright"),
        ("<p>caf\u00e9 &amp; cr\u00e8me &nbsp; &#8364;", "", "caf\u00e9 & cr\u00e8me \u20ac"),
        ("<?xml version='1.0' encoding='utf-8'?><html><body>stra\u00dfe</body></html>", "", "stra\u00dfe"),
        ("plain words", "", "plain words"),
    ],
)
def test_html_is_read_without_its_markup(tmp_path: Path, content: str, title: str, text: str) -> None:
    (tmp_path / "a.HTML").write_text(content, encoding="utf-8")
    assert only(tmp_path / "a.HTML") == {"id": "a.HTML", "text": text, "title": title}


def test_html_says_its_encoding_where_it_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.htm").write_bytes(b"<meta charset='windows-1251'><p>\xcf\xf0\xe8\xe2\xe5\xf2")
    assert only(tmp_path / "a.htm")["text"] == "\u041f\u0440\u0438\u0432\u0435\u0442"


def test_html_nested_without_end_is_read_or_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<div>" * 200_000 + "words")
    assert isinstance(only(tmp_path / "a.html"), Rejected | dict)


def test_a_word_document_is_read_in_order_with_its_tables(tmp_path: Path) -> None:
    assert only(word(tmp_path / "a.docx", "The title")) == {
        "id": "a.docx",
        "text": "A heading\nSome words.\nleft | right\nThe end.",
        "title": "The title",
    }


def repacked(path: Path, **parts: bytes) -> Path:
    """The archive with some parts exchanged or added."""
    with zipfile.ZipFile(path) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**found, **{name.replace("__", "/"): part for name, part in parts.items()}}.items():
            archive.writestr(name, content)
    return path


def test_entities_of_a_word_document_are_not_resolved(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the secret")
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    outer = f'<!ENTITY out SYSTEM "file://{tmp_path}/secret.txt">'
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = "<w:p><w:r><w:t>words &e9; &out;</w:t></w:r></w:p>"
    document = f'<w:document xmlns:w="{space}"><w:body>{body}</w:body></w:document>'
    text = f'<!DOCTYPE d [<!ENTITY e0 "ha">{bomb}{outer}]>{document}'
    found = only(repacked(word(tmp_path / "a.docx"), **{"word__document.xml": text.encode()}))
    assert isinstance(found, Rejected) or (len(found["text"]) < 1000 and "secret" not in found["text"])


def test_an_archive_that_unpacks_to_too_much_is_rejected_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untrusted, "FILE", 1_000_000)
    path = repacked(word(tmp_path / "a.docx"), **{"word__media.bin": b"\x00" * 2_000_000})
    assert path.stat().st_size < 1_000_000
    assert only(path).reason.startswith("the archive is too large unpacked (got 2,")
    (tmp_path / "b.pdf").write_bytes(b"x" * 1_000_001)
    assert only(tmp_path / "b.pdf").reason == "the file is too large (got 1,000,001 bytes) (expected 1,000,000)"


def test_a_pdf_stream_that_unpacks_to_too_much_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "TEXT", 1000)
    (tmp_path / "a.txt").write_text("x" * 1001)
    pdf(tmp_path / "b.pdf", PAGE * 1000)
    assert [row.reason[:26] for row in open_source(tmp_path)] == ["the file has too much text"] * 2  # type: ignore[union-attr]


def spanning(path: Path) -> Path:
    """A Word document of 2 kB with a cell that spans a hundred million columns."""
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    cell = '<w:tc><w:tcPr><w:gridSpan w:val="100000000"/></w:tcPr><w:p><w:r><w:t>x</w:t></w:r></w:p></w:tc>'
    body = f'<w:document xmlns:w="{space}"><w:body><w:tbl><w:tr>{cell}</w:tr></w:tbl></w:body></w:document>'
    return repacked(word(path), **{"word__document.xml": body.encode()})


def busy(path: Path) -> Path:
    """A page of millions of operators, a few kilobytes when packed."""
    return pdf(path, b"BT /F1 12 Tf " + b"(a) Tj 1 0 0 1 0 0 cm q Q " * 200_000 + b" ET")


@pytest.mark.parametrize(("make", "name"), [(spanning, "b.docx"), (busy, "b.pdf")])
def test_a_file_that_takes_too_much_is_set_aside_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, name: str
) -> None:
    monkeypatch.setattr(untrusted, "seconds", lambda size: 1.0)
    make(tmp_path / name)
    pdf(tmp_path / "c.pdf")
    rejected, read = open_source(tmp_path)
    reason = "reading the file takes too much time or memory (expected 1 seconds and 2,147,483,648 bytes at most)"
    assert rejected == Rejected(name, reason, id=name)
    assert read["text"] == "The quick brown fox"  # type: ignore[index]


def test_a_folder_of_all_kinds_is_one_source(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    pdf(tmp_path / "n" / "a.pdf")
    word(tmp_path / "n" / "b.docx")
    (tmp_path / "n" / "c.html").write_text("<p>words")
    (tmp_path / "n" / "d.md").write_text("# Title\nwords")
    (tmp_path / "n" / "e.txt").write_text("words")
    (tmp_path / "n" / "f.pdf").write_bytes(b"broken")
    (tmp_path / "n" / "g.png").write_bytes(b"\x89PNG")
    source = open_source(tmp_path / "n")
    assert len(source) == 6  # type: ignore[arg-type]
    found = [row.id if isinstance(row, Rejected) else row["id"] for row in source]
    assert found == ["a.pdf", "b.docx", "c.html", "d.md", "e.txt", "f.pdf"]
    assert sum(isinstance(row, Rejected) for row in source) == 1


def test_without_the_extra_a_file_is_refused_and_one_of_a_folder_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(extract._NEEDED, ".pdf", (("no_such_package", "pypdf"),))
    pdf(tmp_path / "a.pdf")
    with pytest.raises(PopulateError, match=r'.pdf files need pypdf\n  do: pip install "diptych\[documents\]"'):
        open_source(tmp_path / "a.pdf")
    (tmp_path / "b.txt").write_text("words")
    first, second = open_source(tmp_path)
    assert first == Rejected("a.pdf", ".pdf files need pypdf", id="a.pdf")
    assert second == {"id": "b.txt", "text": "words", "title": ""}


def test_warnings_of_the_library_are_not_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = pdf(tmp_path / "a.pdf")
    path.write_bytes(path.read_bytes().replace(b"startxref", b"startxxxx"))
    only(path)
    assert not caplog.records
