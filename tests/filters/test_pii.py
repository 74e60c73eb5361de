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
from gneiss.filters.email_kernel import METHODS, NO_DOMAINS
from gneiss.filters.ip_kernel import NUMBERED
from gneiss.filters.pii import PAGES, Pii
from gneiss.filters.top_level_domains import TOP_LEVEL_DOMAINS

#: Letters beyond ASCII that the generated texts have: those that mix with ASCII in a name, and those that do not.
MIXING, OTHER = "éüо", "日箱版本"
OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = re.compile(
    r"(?:(?<![0-9A-Za-z.])|(?<=\.\.)|(?<=(?<![0-9A-Za-z])[Ii][Pp]))"
    rf"(?:{OCTET}\.){{3}}{OCTET}(?![0-9A-Za-z])(?!\.[0-9])"
)
IS_NUMBERED = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(NUMBERED)})[ .:=#\"']{{0,3}}\Z", re.IGNORECASE)
TOP_LEVEL = {*TOP_LEVEL_DOMAINS.split(), *(name for name in NO_DOMAINS if "." not in name)}
FNV_PRIME = 0x100000001B3


def belongs_to_someone(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is public, and no number of a section or a version."""
    if isinstance(address, IPv6Address):
        value = int(address) >> 96
        return value >> 9 != 0x20010000 >> 9 and value != 0x20010DB8 and value >> 12 != 0x3FFF0
    is_number = max(address.packed) < 32 or sum(number < 10 for number in address.packed) >= 3
    return address.is_global and not address.is_multicast and not is_number


def longest(pattern: str, text: str) -> str:
    """The longest match of a pattern in which LETTERS are those that mix, or the others."""
    matches = (re.search(pattern.replace("LETTERS", letters), text) for letters in (f"A-Za-z{MIXING}", OTHER))
    return max((match[0] for match in matches if match), key=len, default="")


def domain_of(text: str) -> str:
    """The longest domain name that a text begins with."""
    found, at, labels = "", 0, 0
    while label := longest("^[0-9LETTERS][0-9LETTERS-]*", text[at:]):
        name = label.rstrip("-")
        if labels and (top := top_level_of(name)):
            follows = text[at + len(top) : at + len(top) + 1]
            found = found if top[0] > "\x7f" and follows.isalpha() else text[:at] + top
        at, labels = at + len(label) + 1, labels + 1
        if name != label or text[at - 1 : at] != ".":
            break
    return found


def top_level_of(label: str) -> str:
    if label.lower().startswith("xn--") and len(label) > 4:
        return label
    if top := re.match(rf"[{MIXING}{OTHER}]+", label):
        return top[0] if len(top[0]) >= 2 else ""
    letters = re.match("[A-Za-z]*", label)[0]
    small = re.match("(.*?[a-z])(?=[A-Z])", letters)
    top, least = (small[1], 3) if small else (letters, 2)
    return top if len(top) >= least and top.lower() in TOP_LEVEL else ""


def is_code(local: str, domain: str, after: str) -> bool:
    *labels, top = domain.lower().split(".")
    call = after[:1] in ("(", "[")
    return bool(
        re.match("_[A-Za-z0-9]", after)
        or (len(labels) > 1 and all(map(re.compile("[0-9]+").fullmatch, labels)))
        or re.fullmatch("v[0-9]+|[0-9]+x", labels[0])
        or (
            call and (len(local.encode()) <= 2 or top in METHODS or (len(labels) == 1 and len(labels[0].encode()) <= 2))
        )
    )


def emails(text: str) -> list[tuple[int, int, str, str]]:
    """Where e-mail addresses stand, with local part and domain."""
    found = []
    for at in (match.start() for match in re.finditer("@", text)):
        local = longest(r"[0-9LETTERS._%+-]*\Z", text[:at]).lstrip("._%+-")
        domain = domain_of(text[at + 1 :])
        end = at + 1 + len(domain)
        if not local or local.endswith(".") or not domain or is_code(local, domain, text[end:]):
            continue
        if not re.match(rf"[A-Za-z0-9{MIXING}{OTHER}._%+-]*@", text[end:]):
            found.append((at - len(local), end, local, domain))
    return found


def ipv6(text: str) -> list[tuple[int, int]]:
    """Where IPv6 addresses of 2000::/3 stand."""
    found = []
    for match in re.finditer("(?<![0-9A-Za-z.-])[23][0-9A-Fa-f]{3}(?=:)", text):
        start = match.start()
        word = re.search(r"[0-9A-Za-z]*\Z", text[: max(start - 1, 0)])[0]
        if text[:start].endswith("::") or (text[:start].endswith(":") and re.fullmatch("[0-9A-Fa-f]{1,4}", word)):
            continue
        run = re.match("[0-9A-Fa-f:]*", text[start:])[0]
        after, run = text[start + len(run) :], run.removesuffix(":")
        is_port = re.match(r"\.[0-9]{1,5}(?![0-9A-Za-z])(?!\.[0-9])", after)
        if run.endswith(":") or re.match("[0-9A-Za-z]", after):
            continue
        if re.match(r"\.[0-9]", after) and text[start + len(run)] == "." and not is_port:
            continue
        for candidate in (run, re.sub(r"(?<=[0-9A-Fa-f]):[0-9]{1,5}\Z", "", run)):  # without a port
            if is_ipv6(candidate):
                found.append((start, start + len(candidate)))
                break
    return found


def is_ipv6(text: str) -> bool:
    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False


def addresses(text: str) -> list[tuple[int, int, str]]:
    """Where addresses to replace stand, and of which kind."""
    found, taken = [], []
    for start, end, local, domain in emails(text):
        taken.append((start, end))
        labels = domain.lower().split(".")
        if local.lower() != "git" and not {labels[-1], ".".join(labels[-2:])} & set(NO_DOMAINS):
            found.append((start, end, "email"))
    spans = [(*match.span(), IPv4Address) for match in IPV4.finditer(text)]
    for start, end, kind in (*spans, *((start, end, IPv6Address) for start, end in ipv6(text))):
        is_free = all(end <= first or last <= start for first, last in taken)
        is_number = kind is IPv4Address and IS_NUMBERED.search(text[:start])
        if is_free and not is_number and belongs_to_someone(kind(text[start:end])):
            found.append((start, end, kind.__name__))
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
        *(
            "ü",
            "о",
            "箱",
            "(",
            "v",
            "ip",
            "IP",
            "...",
            "x.cOm",
            "a@b.to(",
            "jo@müller.de",
            "b.comAnd",
            "版本",
            "version ",
        ),
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
    editor = Pii(email=False, ipv6_placeholders=editor.ipv6_placeholders) if only_ips else editor
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
        ("v93.184.216.34 93.184.216.34.5 093.184.216.34 93.184.216.340 93.184.216.34a aip93.184.216.34", None),
        ("x_93.184.216.34_a ...93.184.216.34 IP93.184.216.34: ip_93.184.216.34", "x_4_a ...4 IP4: ip_4"),
        (
            "version 93.184.216.34, Ver.=93.184.216.34, Section: 93.184.216.34, release-93.184.216.34",
            "version 93.184.216.34, Ver.=93.184.216.34, Section: 93.184.216.34, release-4",
        ),
        ("josé.garcía@correo.es anna@müller-bau.de почта@пример.рф info@site.рф 用户@例子.广告", "E E E E E"),
        ("邮箱jo@site.org请回复 이메일은jo@site.org입니다 jo@site.org로", "邮箱E请回复 이메일은E입니다 E로"),
        ("jo@site.comWrite to jo@mail.site.orgAnd", "EWrite to EAnd"),
        ("jo@163.com jo@2x.com jo@4u.co mary@site.com(office)", "E jo@2x.com E E(office)"),
        ("logo@2x.avif icon@3x.ico a@2x.zip react@17.0.2.zip it@v2.dev x@y.bmp jo@site.docx", None),
        ("h = X@W.sum(axis=0) + A@B.dot(C) - query@key.to(device) * x@w.is_leaf + Q@K.mT", None),
        (
            "[IPv6:2400:cb00::1] client:2400:cb00::1, from:2400:cb00::1. 2400:cb00::1.443 > ip_2400:cb00::1",
            "[IPv6:6] client:6, from:6. 6.443 > ip_6",
        ),
        (
            "2400:cb00:1:2:3:4:5:6:443 2400:cb00::1:50832 2400:cb00::1:123456 2400:cb00::93.184.216.34",
            "6:443 6:50832 2400:cb00::1:123456 2400:cb00::4",
        ),
        ("add:2400:cb00::1 ::2400:cb00::1 fe80::2400:1:2", None),
        ("127.0.0.1 10.1.2.3 172.31.99.1 192.168.0.77 169.254.77.1 198.51.100.77 224.0.0.251 255.255.255.255", None),
        ("99.10.9.9 31.31.31.32 2001:200::1 3fff:1000::1 2400:1:2:3:4:5:6:7", "4 4 6 6 6"),
        ("99.9.9.9 2001:1ff::1 3fff:fff::1 2400:1:2:3:4:5:6 2400:1:2:3:4:5:6:7:a 2400::1:2:3:4:5:6:a", None),
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
        ({"email": False, "email_placeholders": ("me@example.org",)}, "email_placeholders: such addresses are not"),
        ({"ip": False, "ip_placeholders": ("192.0.2.1",)}, "ip_placeholders: such addresses are not replaced"),
    ],
)
def test_parameters_are_checked(given: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Pii(**given)  # type: ignore[arg-type]


def test_examples_of_the_page() -> None:
    (page,) = PAGES
    assert apply([page.example_dropped, page.example_kept]) == [page.example_kept] * 2


@pytest.mark.slow
def test_edits_of_what_is_not_utf8_lie_inside_the_documents() -> None:
    import numpy as np

    data = np.frombuffer(b"\xc3a@b.org\xff@\xf0.cc99.41.2.3\xe2\x80 2400::1:", np.uint8)
    batch = TextBatch(data, np.array([0, 4, 12, 20, len(data)], np.int64))
    assert len(Pii().edit(batch).edits.apply(batch)) == 4  # apply refuses edits that overlap or reach outside
