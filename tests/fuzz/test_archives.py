"""Whatever an archive holds: records and damage in order, within it, and none of a good record's neighbours lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.extraction.record import Record
from gneiss.extraction.records import Damage, read_records
from gneiss.store.place import place_of
from tests.extraction.archives import gz, id_of, plain, record, response, zst

GOOD = [response(b"<p>Words. " * 30, 1), response(b"", 2), record("request", b"GET / HTTP/1.1\r\n\r\n", 3)]
#: What readers of archives look for.
PIECES = st.sampled_from(
    [b"WARC/1.0\r\n", b"warc/1.1\n", b"WARC-Type: response\r\n", b"WARC-Record-ID: <urn:x>\r\n",
     b"Content-Length: 5\r\n", b"Content-Length: 99999999\n", b"Content-Length: -1\n", b"\r\n", b"\n",
     b"\r\n\r\n", b"\0" * 9, b"hello", b" folded\r\n", b"\x1f\x8b\x08", b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
     b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x20\0\1\0\0", gz(b""), zst(b""), b"\x50\x2a\x4d\x18\3\0\0\0abc",
     b"\x5d\x2a\x4d\x18\3\0\0\0abc", b"\x5d\x2a\x4d\x18\5\0\0\0\x28\xb5\x2f\xfd\0",
     b"\x5d\x2a\x4d\x18\5\0\0\0\x37\xa4\x30\xec\0", b"filedesc:", gz(b"hello"), zst(b"hello"), gz(b"WARC/1.0\n"),
     zst(b"WARC/1.0\n"), *(pack(part)[:-9] for pack in (plain, gz, zst) for part in GOOD[:1])]
)  # fmt: skip
JUNK = st.lists(PIECES | st.binary(max_size=9), max_size=12).map(b"".join)


@pytest.mark.parametrize("pack", [plain, gz, zst])
@given(parts=st.lists(JUNK | st.sampled_from(GOOD), min_size=1, max_size=6), is_one=st.booleans())
@pytest.mark.slow
def test_any_archive(pack: object, parts: list[bytes], is_one: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert callable(pack)
    path = tmp_path_factory.getbasetemp() / "any"
    content = pack(b"".join(parts)) if is_one else b"".join(pack(part) if part in GOOD else part for part in parts)
    path.write_bytes(content)
    try:
        found = list(read_records(place_of(path), 1000))
    except InputError:  # no record at all
        return
    offsets = [item.offset for item in found]
    assert offsets == sorted(offsets)
    assert all(0 <= offset < len(content) for offset in offsets)
    for item in found:
        if isinstance(item, Damage):
            assert item.size_bytes > 0
            assert item.reason
        elif item.content is not None:
            assert not item.is_cut
            assert len(item.content) == item.size_bytes <= 1000
    if not is_one and pack is gz:  # what comes before any junk is read whatever comes after
        first = next((n for n, part in enumerate(parts) if part not in GOOD), len(parts))
        expected_ids = [id_of(GOOD.index(part) + 1) for part in parts[:first]]
        assert [item.id for item in found if isinstance(item, Record)][:first] == expected_ids
