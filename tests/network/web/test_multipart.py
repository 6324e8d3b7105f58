"""The multipart reader: any cut of a body gives the same parts; what is no body is refused."""

from __future__ import annotations

import random
from collections.abc import Iterable
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomlake.network.web.failures import Malformed
from dicomlake.network.web.media import boundary_of, media_type
from dicomlake.network.web.multipart import parts

EDGE = b"x-y"


def read(body: bytes, cuts: Iterable[int] = (), boundary: bytes = EDGE) -> list[tuple[dict[str, str], bytes]]:
    ends = [*sorted({cut for cut in cuts if 0 < cut < len(body)}), len(body)]
    chunks = [body[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    return [
        (dict(part.headers), b"".join(map(bytes, part.pieces)))
        for part in parts(iter(chunks), boundary, header_bytes=1000)
    ]


def body_of(contents: list[bytes], preamble: bytes = b"", epilogue: bytes = b"") -> bytes:
    head = preamble + b"\r\n" if preamble else b""
    body = b"".join(b"--x-y\r\nA: %d\r\n\r\n%s\r\n" % (i, one) for i, one in enumerate(contents))
    return head + body + b"--x-y--" + (b"\r\n" + epilogue if epilogue else b"")


# pieces that look like delimiters without being any, beside plain bytes
BITS = st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"x-", b"x-y", b"\r\n-", b"\r\n--x", b"a", b"\0"])
CONTENT = st.lists(BITS | st.binary(max_size=5), max_size=12).map(b"".join)
CONTENTS = st.lists(CONTENT.filter(lambda one: b"\r\n--x-y" not in b"\r\n" + one), max_size=4)


@given(CONTENTS, st.sampled_from([b"", b"preamble", b"--x"]), st.sampled_from([b"", b"more"]), st.data())
def test_any_cut_of_a_body_gives_the_parts_that_were_put_in(
    contents: list[bytes], preamble: bytes, epilogue: bytes, data: st.DataObject
) -> None:
    body = body_of(contents, preamble, epilogue)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    assert read(body, cuts) == [({"a": str(i)}, one) for i, one in enumerate(contents)]
    assert read(body, range(len(body))) == read(body)


@given(CONTENTS.filter(bool), st.data())
def test_a_body_that_is_cut_off_anywhere_is_refused(contents: list[bytes], data: st.DataObject) -> None:
    body = body_of(contents)
    with pytest.raises(Malformed):
        read(body[: data.draw(st.integers(0, len(body) - 1))])


@given(
    st.lists(BITS | st.sampled_from([b"--x-y", b"--x-y--", b"A: b"]), max_size=30).map(b"".join), st.data()
)
def test_garbage_is_refused_or_read_the_same_for_every_cut(body: bytes, data: st.DataObject) -> None:
    def outcome(cuts: Iterable[int]) -> object:
        try:
            return read(body, cuts)
        except Malformed as error:
            return str(error)

    assert outcome(data.draw(st.lists(st.integers(0, len(body)), max_size=8))) == outcome(())


def test_a_body_written_by_the_email_package_is_read() -> None:
    contents = [random.Random(i).randbytes(3000) for i in range(3)]
    message = MIMEMultipart("related", boundary="=_edge")
    for one in contents:
        message.attach(MIMEApplication(one, "dicom", lambda part: part.set_payload(part.get_payload())))
    for written, one in zip(message.get_payload(), contents, strict=True):
        written.set_payload(one.decode("latin-1"), "latin-1")
        written.replace_header("Content-Transfer-Encoding", "8bit")
    text = message.as_bytes(policy=HTTP.clone(max_line_length=None))
    body = text.partition(b"\r\n\r\n")[2]
    found = read(body, boundary=b"=_edge")
    assert [one["content-type"].partition(";")[0] for one, _content in found] == ["application/dicom"] * 3


def test_no_part_is_no_part() -> None:
    assert read(b"--x-y--") == []
    assert read(b"\r\n--x-y--\r\n") == []


def test_a_part_without_headers_and_one_without_content() -> None:
    assert read(b"--x-y\r\n\r\nbody\r\n--x-y\r\nA: b\r\n\r\n--x-y--") == [({}, b"body"), ({"a": "b"}, b"")]


def test_a_folded_header_is_one_header() -> None:
    assert read(b"--x-y  \r\nA: b;\r\n\t c=d\r\n\r\n\r\n--x-y--") == [({"a": "b; c=d"}, b"")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no multipart at all",
        b"--x-yz\r\n\r\nbody\r\n--x-yz--",  # a boundary that only begins like ours
        b"--x-y\r\n\r\nbody\r\n--x-y!\r\n--x-y--",
        b"--x-y\r\n\r\nbody\r\n--x-yz\r\n\r\nmore\r\n--x-y--",  # the same between two parts
        b"--x-y\n\nbody\n--x-y--",  # bare line feeds
        b"--x-y\r\nno header\r\n\r\nbody\r\n--x-y--",
        b"--x-y\r\nA: b\r\nA: c\r\n\r\nbody\r\n--x-y--",
        b"--x-y\r\nA: b\0c\r\n\r\nbody\r\n--x-y--",
        b"--x-y\r\nA: " + b"b" * 1000 + b"\r\n\r\nbody\r\n--x-y--",
        b"--x-y" + b" " * 300 + b"\r\n\r\nbody\r\n--x-y--",
        b"--x-y\r\n\r\nbody\r\n--x-y--more",
        b"p" * 2000 + b"\r\n--x-y--",
        b"--x-y--\r\n" + b"e" * 2000,
    ],
)
def test_what_breaks_the_grammar_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        read(body)


@pytest.mark.parametrize(
    ("text", "boundary"),
    [
        ("multipart/related; boundary=abc", b"abc"),
        ('Multipart/Related; type="application/dicom"; BOUNDARY="a b=c?d"', b"a b=c?d"),
        ('multipart/related;type=application/dicom;boundary="a\\+b"', b"a+b"),
    ],
)
def test_boundaries_may_be_quoted(text: str, boundary: bytes) -> None:
    assert boundary_of(media_type(text)) == boundary


@pytest.mark.parametrize("text", ["a/b", "a/b; boundary=", 'a/b; boundary="x "', "a/b; boundary=" + "x" * 71])
def test_what_is_no_boundary_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        boundary_of(media_type(text))
