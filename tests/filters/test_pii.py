"""PII: what is replaced against regular expressions and the standard library; a second run changes nothing."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gneiss.batch import TextBatch
from gneiss.errors import RecipeError
from gneiss.filters.pii import PAGES, Pii
from gneiss.filters.pii_kernel import NO_DOMAINS

LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
EMAIL = re.compile(
    rf"([A-Za-z0-9](?:[A-Za-z0-9._%+-]*[A-Za-z0-9_%+-])?)"
    rf"@((?:{LABEL}\.)+(?:[Xx][Nn]--[A-Za-z0-9-]*[A-Za-z0-9]|[A-Za-z]{{2,}}))"
    r"(?![A-Za-z0-9._%+-]*@)"
)
OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = re.compile(rf"(?<![0-9A-Za-z_.])(?:{OCTET}\.){{3}}{OCTET}(?![0-9A-Za-z_])(?!\.[0-9])")
IPV6 = re.compile(
    r"(?<![0-9A-Za-z_.:-])[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]*[0-9A-Fa-f](?![0-9A-Za-z_])(?!:[0-9A-Za-z_:])(?!\.[0-9])"
)
FNV_PRIME = 0x100000001B3


def belongs_to_someone(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is public, and no number of a section or a version."""
    if isinstance(address, IPv6Address):
        value = int(address) >> 96
        return value >> 9 != 0x20010000 >> 9 and value != 0x20010DB8 and value >> 12 != 0x3FFF0
    is_number = max(address.packed) < 32 or sum(number < 10 for number in address.packed) >= 3
    return address.is_global and not address.is_multicast and not is_number


def addresses(text: str) -> list[tuple[int, int, str]]:
    """Where addresses to replace stand, and of which kind."""
    found, taken = [], []
    for match in EMAIL.finditer(text):
        taken.append(match.span())
        name, labels = match[1].lower(), match[2].lower().split(".")
        if name != "git" and not {labels[-1], ".".join(labels[-2:])} & set(NO_DOMAINS):
            found.append((*match.span(), "email"))
    for pattern, kind in ((IPV4, IPv4Address), (IPV6, IPv6Address)):
        for match in pattern.finditer(text):
            try:
                address = kind(match[0])
            except ValueError:
                continue
            is_free = all(match.end() <= start or stop <= match.start() for start, stop in taken)
            if is_free and belongs_to_someone(address):
                found.append((*match.span(), kind.__name__))
    return sorted(found)


def edited(text: str, editor: Pii) -> str:
    """The text after its replacements."""
    lists = {
        "email": editor.email_placeholders,
        "IPv4Address": editor.ip_placeholders,
        "IPv6Address": editor.ipv6_placeholders,
    }
    out, at = "", 0
    for start, stop, kind in addresses(text):
        key = 0xCBF29CE484222325
        for byte in text[start:stop].lower().encode():
            key = (key ^ byte) * FNV_PRIME % 2**64
        out += text[at:start] + lists[kind][(key >> 32) % len(lists[kind])]
        at = stop
    return out + text[at:]


def apply(texts: list[str], editor: Pii | None = None) -> list[str]:
    batch = TextBatch.of(texts)
    return (editor or Pii()).edit(batch).edits.apply(batch).texts()


PIECES = st.sampled_from(
    [
        *(
            "a",
            "b",
            "ab",
            "com",
            "xn--",
            "git",
            "example.com",
            "example.org",
            "test",
            "org",
            "png",
            "é",
            "日",
            "_",
            "A",
        ),
        *(
            "@",
            "@",
            "@",
            ".",
            ".",
            ".",
            "-",
            "+",
            "%",
            " ",
            "\n",
            ",",
            "/",
            "[",
            "]",
            "<",
            ":",
            "::",
            ":",
            ":",
            "1",
            "0",
        ),
        *("a@b.cc", "jo.smith@site.co.uk", "email@example.com", "x@y.example", "git@github.com", "a@b.xn--p1ai"),
        *("99.41.2.3", "99.41.2.", "8.8.8.8", "10.0.0.7", "192.0.2.7", "255.255.255.255", "93.184.216.34", "256", "01"),
        *(
            "2400:cb00::1",
            "2400:cb00:2048:1:0:0:c629:d7a2",
            "2001:db8::7",
            "2400",
            "cb00",
            "2001:1::",
            "::1",
            "3fff:1::2",
        ),
    ]
)
TEXTS = st.lists(PIECES, max_size=14).map("".join) | st.lists(PIECES, max_size=14).map(" ".join)
EDITORS = st.sampled_from([Pii(), Pii(email_placeholders=("a.b@c.d.test",), ipv6_placeholders=("2001:db8::a",))])


@given(st.lists(TEXTS, max_size=3), EDITORS)
def test_replacements_equal_regular_expressions(texts: list[str], editor: Pii) -> None:
    outcome = editor.edit(TextBatch.of(texts))
    assert apply(texts, editor) == [edited(text, editor) for text in texts]
    kinds = [[kind for _, _, kind in addresses(text)] for text in texts]
    assert outcome.annotations["pii_emails"].to_pylist() == [kind.count("email") for kind in kinds]
    assert outcome.annotations["pii_ips"].to_pylist() == [len(kind) - kind.count("email") for kind in kinds]
    assert all(array.type == pa.int64() for array in outcome.annotations.values())


@given(TEXTS, EDITORS, st.booleans())
@example("x@bob.smith@y.com", Pii(), False)
@example("a@b.com.c@d.org a@b.com1@c.org 2400::cb00:1@x.com", Pii(), False)
@example("2400:cb00::a/99.99.99.99 99.41.2.3-99.41.2.4", Pii(), False)
def test_a_second_run_changes_nothing(text: str, editor: Pii, only_ips: bool) -> None:
    editor = Pii(False, True, *[editor.email_placeholders, editor.ip_placeholders]) if only_ips else editor
    once = apply([text], editor)
    assert apply(once, editor) == once
    assert [count.to_pylist() for count in editor.edit(TextBatch.of(once)).annotations.values()] == [[0], [0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail Jo.Smith+news@mail.site.co.uk.", "Mail E."),
        ("<mailto:jo@site.org>; _jo@site.org_", "<mailto:E>; _E_"),
        ("JO@SITE.ORG’s, 邮箱：jo@site.org。", "E’s, 邮箱：E。"),
        ("jo@site.xn--p1ai and jo@site.com2017", "E and E2017"),
        ("jo@site.org-owner, jo@site.org, jo@site.org-mary@site.org", "E-owner, E, jo@E"),
        ("react@17.0.2 logo@2x.png @jo jo@localhost jo @ site.org getty@tty1.service", None),
        ("git@github.com:me/it.git jo@example.org jo@mail.example.com jo@host.invalid", None),
        ("jo..@site.org a@b.c jo@-site.org jo@site..org jo@site", None),
        ("from 93.184.216.34, http://93.184.216.34:80/ (93.184.216.34).", "from 4, http://4:80/ (4)."),
        ("93.184.216.34-93.184.216.40 jo@93.184.216.34 93.184.216.34/32", "4-4 jo@4 4/32"),
        ("::ffff:93.184.216.34", "::ffff:4"),
        ("v93.184.216.34 93.184.216.34.5 093.184.216.34 93.184.216.340 93.184.216.34a x_93.184.216.34", None),
        ("127.0.0.1 10.1.2.3 172.31.99.1 192.168.0.77 169.254.77.1 198.51.100.77 224.0.0.251 255.255.255.255", None),
        ("99.10.9.9 31.31.31.32 2001:200::1 3fff:1000::1 2400:1:2:3:4:5:6:7", "4 4 6 6 6"),
        ("99.9.9.9 2001:1ff::1 3fff:fff::1 2400:1:2:3:4:5:6 2400:1:2:3:4:5:6:7:8 2400::1:2:3:4:5:6:7", None),
        ("section 6.3.1.1, 31.31.31.31, 8.8.8.8, Chrome/120.0.0.0, 6.1.8.41 43.7.3.5", None),
        (
            "2400:cb00:2048:1::c629:d7a2 [2400:cb00::1]:443 from 2400:CB00::1: ok 2400:cb00::1/64.",
            "6 [6]:443 from 6: ok 6/64.",
        ),
        ("2001:db8::1 fe80::1 ::1 fc00::1 2001::1 2400:cb00:: 2400:cb00::1::2 2400:cb00:1 std::cafe", None),
        (
            "7-Jan-2004::17:00:59 2012:05:18:10:22:33 A::B 2400:cb00::1g 2400:cb00::12345 x2400:cb00::1 1:2400:cb00::1",
            None,
        ),
    ],
)
def test_what_is_an_address(text: str, expected: str | None) -> None:
    editor = Pii(True, True, ("E@E.test",), ("192.0.2.4",), ("2001:db8::6",))
    (found,) = apply([text], editor)
    shown = found.replace("E@E.test", "E").replace("192.0.2.4", "4").replace("2001:db8::6", "6")
    assert shown == (text if expected is None else expected)


@given(st.integers(0, 2**32 - 1) | st.sampled_from(["0.0.0.0", "100.63.255.255", "100.64.0.0", "172.32.0.1"]))
@example("11.99.0.0")
@example("126.255.255.255")
@example("128.0.0.1")
@example("198.20.0.1")
@example("223.255.255.255")
@example("224.0.0.1")
def test_public_is_what_the_standard_library_calls_global(value: int | str) -> None:
    address = IPv4Address(value)
    if address not in (IPv4Address("192.0.0.9"), IPv4Address("192.0.0.10")):  # global for newer versions of it
        assert (apply([str(address)]) != [str(address)]) == belongs_to_someone(address)


def test_a_placeholder_belongs_to_an_address_wherever_it_stands() -> None:
    names = [f"person{i}@site.org" for i in range(40)]
    editor = Pii()
    alone = {name: apply([name])[0] for name in names}
    assert set(alone.values()) == set(editor.email_placeholders)
    (together,) = apply([" ".join(names).upper()])
    assert together.split() == list(alone.values())


def test_only_what_is_asked_for() -> None:
    text = "jo@site.org 93.184.216.34"
    assert apply([text], Pii(ip=False))[0].endswith("93.184.216.34")
    assert apply([text], Pii(email=False))[0].startswith("jo@site.org")
    assert apply(["", text, "x"], Pii())[::2] == ["", "x"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"email": False, "ip": False}, "email or ip"),
        ({"email_placeholders": ("me@site.org",)}, "email_placeholders: expected e-mail addresses under"),
        ({"email_placeholders": ("<EMAIL>",)}, "'<EMAIL>'; anything else"),
        ({"email_placeholders": ("x.@example.org",)}, "x.@example.org"),
        ({"email_placeholders": ("x@-.example.org",)}, "email_placeholders"),
        ({"email_placeholders": ()}, "found none"),
        ({"ip_placeholders": ("8.8.8.8",)}, "ip_placeholders: expected IPv4 addresses for documentation"),
        ({"ip_placeholders": ("ip",)}, "found 'ip'"),
        ({"ipv6_placeholders": ("2001:db8::",)}, "ipv6_placeholders"),
        ({"ipv6_placeholders": ("2001:db8::192.0.2.1",)}, "ipv6_placeholders"),
        ({"ipv6_placeholders": ("2400::1",)}, "ipv6_placeholders"),
    ],
)
def test_parameters_are_checked(given: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Pii(**given)  # type: ignore[arg-type]


def test_examples_of_the_page() -> None:
    (page,) = PAGES
    assert apply([page.example_dropped, page.example_kept]) == [page.example_kept] * 2


def test_edits_of_what_is_not_utf8_lie_inside_the_documents() -> None:
    import numpy as np

    data = np.frombuffer(b"\xc3a@b.org\xff@\xf0.cc99.41.2.3\xe2\x80 2400::1:", np.uint8)
    batch = TextBatch(data, np.array([0, 4, 12, 20, len(data)], np.int64))
    assert len(Pii().edit(batch).edits.apply(batch)) == 4  # apply refuses edits that overlap or reach outside
