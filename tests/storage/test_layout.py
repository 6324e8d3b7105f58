"""Keys from UIDs: safe for any text, distinct for distinct UIDs, and readable back."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomlake.storage import layout
from dicomlake.storage.objectstore import key_parts

uids = st.from_regex(r"[0-9]{1,10}(\.[0-9]{1,10}){0,4}", fullmatch=True)
any_text = st.one_of(uids, st.text(st.characters()), st.text("./\\~x-0 \x00\ud800\udcff", max_size=80))


@given(any_text)
def test_any_text_as_uid_yields_one_safe_part(uid: str) -> None:
    part = layout.segment(uid)
    assert key_parts(part) == (part,)
    assert not set(part) - set("0123456789.x-abcdef")
    assert len(part) <= 64
    assert part.strip(".") == part


@given(any_text, any_text)
def test_distinct_uids_give_distinct_parts(one: str, other: str) -> None:
    assert (layout.segment(one) == layout.segment(other)) == (one == other)


@given(uids)
def test_a_well_formed_uid_is_its_own_part(uid: str) -> None:
    assert layout.segment(uid) == uid


@pytest.mark.parametrize(
    "uid",
    ["", ".", "..", "1.", ".1", "1..2", "1/2", "../1", "1 ", "1\n", "1\0", "١.٢", "Doe", "1" * 65],
)
def test_anything_else_becomes_the_head_of_its_sha256(uid: str) -> None:
    assert layout.segment(uid) == "x-" + hashlib.sha256(uid.encode()).hexdigest()[:32]


def test_a_uid_of_64_characters_is_kept() -> None:
    assert layout.segment("1" * 64) == "1" * 64


@given(any_text, any_text, any_text, st.none() | st.binary(min_size=32, max_size=32))
def test_an_original_key_reads_back_into_its_parts(
    study: str, series: str, sop: str, digest: bytes | None
) -> None:
    conflict = digest.hex() if digest is not None else None
    key = layout.original_key(study, series, sop, conflict=conflict)
    assert len(key_parts(key)) == 5
    assert key.startswith(layout.series_prefix(study, series) + "/originals/")
    assert layout.parse_original_key(key) == (
        layout.segment(study),
        layout.segment(series),
        layout.segment(sop),
        conflict and conflict[:8],
    )


@pytest.mark.parametrize(
    "key",
    [
        "catalog.sqlite",
        "studies/1/2/volumes/0.zarr/zarr.json",
        "studies/1/2/originals/3.dcm/4",
        "studies/1/2/originals/3.dcm\n",
        "studies/1/2/originals/3",
        "studies/1/2/originals/3~xyz.dcm",
        "studies/Doe/2/originals/3.dcm",
        "deeper/studies/1/2/originals/3.dcm",
    ],
)
def test_other_keys_are_not_taken_for_originals(key: str) -> None:
    assert layout.parse_original_key(key) is None


def test_the_design_s_places() -> None:
    sha = "ab" * 32
    assert layout.original_key("1.2", "3.4", "5.6") == "studies/1.2/3.4/originals/5.6.dcm"
    assert (
        layout.original_key("1.2", "3.4", "5.6", conflict=sha) == "studies/1.2/3.4/originals/5.6~abababab.dcm"
    )
    assert layout.volume_key("1.2", "3.4", 0) == "studies/1.2/3.4/volumes/0.zarr"
    assert layout.quarantine_key(sha) == f"quarantine/{sha}.bin"
    assert layout.quarantine_note_key(sha) == f"quarantine/{sha}.json"


@pytest.mark.parametrize("digest", ["", "AB" * 32, "../" + "a" * 61, "ab" * 32 + "\n", "ab" * 31])
def test_what_is_not_a_sha256_is_refused(digest: str) -> None:
    with pytest.raises(ValueError, match="lower-case hex"):
        layout.quarantine_key(digest)


@pytest.mark.parametrize("digest", ["", "abc", "../../../x", "ABABABAB"])
def test_a_conflict_is_named_by_a_hash_only(digest: str) -> None:
    with pytest.raises(ValueError, match="lower-case hex"):
        layout.original_key("1", "2", "3", conflict=digest)


def test_a_volume_number_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="counts from 0"):
        layout.volume_key("1", "2", -1)
