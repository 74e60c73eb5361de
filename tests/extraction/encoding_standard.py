"""The decoders of the Encoding Standard as it words them, byte by byte, over its indexes: the oracle of charsets.

https://encoding.spec.whatwg.org, as of 2026-05-21. An index is given as a mapping from pointers to characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

BAD = "\ufffd"
Index = Mapping[int, str]


def one_byte(body: bytes, index: Index) -> str:
    """Single-byte decoder; the pointer is the byte without its first bit."""
    return "".join(chr(byte) if byte < 0x80 else index.get(byte - 0x80, BAD) for byte in body)


def _two_bytes(
    body: bytes,
    index: Index,
    alone: Callable[[int], str | None],
    is_lead: Callable[[int], bool],
    pointer_of: Callable[[int, int], int | None],
) -> str:
    """What EUC-KR, Big5 and Shift_JIS share: an ASCII byte after a lead that it does not fit stands for itself."""
    out: list[str] = []
    at = 0
    while at < len(body):
        lead = body[at]
        at += 1
        if (single := alone(lead)) is not None:
            out.append(single)
        elif not is_lead(lead) or at == len(body):
            out.append(BAD)
        else:
            trail = body[at]
            at += 1
            pointer = pointer_of(lead, trail)
            found = None if pointer is None else index.get(pointer)
            out.append(BAD if found is None else found)
            at -= found is None and trail < 0x80
    return "".join(out)


def _ascii(byte: int) -> str | None:
    return chr(byte) if byte < 0x80 else None


def euc_kr(body: bytes, index: Index) -> str:
    """EUC-KR decoder."""

    def pointer_of(lead: int, trail: int) -> int | None:
        return (lead - 0x81) * 190 + trail - 0x41 if 0x41 <= trail <= 0xFE else None

    return _two_bytes(body, index, _ascii, lambda byte: 0x81 <= byte <= 0xFE, pointer_of)


#: Pointers of Big5 that give two code points, which the index cannot.
BIG5_PAIRS = {1133: "\u00ca\u0304", 1135: "\u00ca\u030c", 1164: "\u00ea\u0304", 1166: "\u00ea\u030c"}


def big5(body: bytes, index: Index) -> str:
    """Big5 decoder."""

    def pointer_of(lead: int, trail: int) -> int | None:
        if not (0x40 <= trail <= 0x7E or 0xA1 <= trail <= 0xFE):
            return None
        return (lead - 0x81) * 157 + trail - (0x40 if trail < 0x7F else 0x62)

    return _two_bytes(body, {**index, **BIG5_PAIRS}, _ascii, lambda byte: 0x81 <= byte <= 0xFE, pointer_of)


def shift_jis(body: bytes, jis0208: Index) -> str:
    """Shift_JIS decoder; Windows' own area has private code points."""

    def alone(byte: int) -> str | None:
        if byte <= 0x80:
            return chr(byte)
        return chr(0xFF61 - 0xA1 + byte) if 0xA1 <= byte <= 0xDF else None

    def pointer_of(lead: int, trail: int) -> int | None:
        if not (0x40 <= trail <= 0x7E or 0x80 <= trail <= 0xFC):
            return None
        return (lead - (0x81 if lead < 0xA0 else 0xC1)) * 188 + trail - (0x40 if trail < 0x7F else 0x41)

    private = {pointer: chr(0xE000 - 8836 + pointer) for pointer in range(8836, 10716)}
    return _two_bytes(
        body, {**jis0208, **private}, alone, lambda byte: 0x81 <= byte <= 0x9F or 0xE0 <= byte <= 0xFC, pointer_of
    )


def euc_jp(body: bytes, jis0208: Index, jis0212: Index) -> str:
    """EUC-JP decoder."""
    out: list[str] = []
    at = 0
    while at < len(body):
        lead = body[at]
        at += 1
        if lead < 0x80:
            out.append(chr(lead))
            continue
        if not (lead in (0x8E, 0x8F) or 0xA1 <= lead <= 0xFE) or at == len(body):
            out.append(BAD)
            continue
        index = jis0208
        trail = body[at]
        at += 1
        if lead == 0x8E and 0xA1 <= trail <= 0xDF:
            out.append(chr(0xFF61 - 0xA1 + trail))
            continue
        if lead == 0x8F and 0xA1 <= trail <= 0xFE:
            if at == len(body):
                out.append(BAD)
                continue
            index, lead, trail = jis0212, trail, body[at]
            at += 1
        is_pair = 0xA1 <= lead <= 0xFE and 0xA1 <= trail <= 0xFE
        found = index.get((lead - 0xA1) * 94 + trail - 0xA1) if is_pair else None
        out.append(BAD if found is None else found)
        at -= found is None and trail < 0x80
    return "".join(out)


def gb18030(body: bytes, index: Index, ranges: Callable[[int], str | None]) -> str:
    """gb18030 decoder, which is GBK's too; `ranges` gives the characters of four bytes by pointer."""
    out: list[str] = []
    at = 0
    while at < len(body):
        first, rest = body[at], body[at + 1 : at + 4]
        at += 1
        if first < 0x80:
            out.append(chr(first))
        elif first == 0x80:
            out.append("\u20ac")
        elif first == 0xFF or not rest:
            out.append(BAD)
        elif 0x30 <= rest[0] <= 0x39:
            if len(rest) == 1 or (0x81 <= rest[1] <= 0xFE and len(rest) == 2):  # cut short
                out.append(BAD)
                break
            if not 0x81 <= rest[1] <= 0xFE or not 0x30 <= rest[2] <= 0x39:
                out.append(BAD)
                continue
            at += 3
            pointer = ((first - 0x81) * 10 + rest[0] - 0x30) * 1260 + (rest[1] - 0x81) * 10 + rest[2] - 0x30
            out.append(ranges(pointer) or BAD)
        else:
            trail = rest[0]
            at += 1
            found = None
            if 0x40 <= trail <= 0x7E or 0x80 <= trail <= 0xFE:
                found = index.get((first - 0x81) * 190 + trail - (0x40 if trail < 0x7F else 0x41))
            out.append(BAD if found is None else found)
            at -= found is None and trail < 0x80
    return "".join(out)


def in_ranges(ranges: Mapping[int, int]) -> Callable[[int], str | None]:
    """The standard's "index gb18030 ranges code point", over pairs of a pointer and a code point."""

    def character(pointer: int) -> str | None:
        if 39419 < pointer < 189000 or pointer > 1237575:
            return None
        if pointer == 7457:
            return "\ue7c7"
        offset = max(start for start in ranges if start <= pointer)
        return chr(ranges[offset] + pointer - offset)

    return character


def iso_2022_jp(body: bytes, jis0208: Index) -> str:
    """ISO-2022-JP decoder: its states, and what each makes of a byte."""
    queue = list(body)
    state = output_state = "ascii"
    lead, has_output = 0, False
    out: list[str] = []
    while True:
        byte = queue.pop(0) if queue else None
        if state == "escape start":
            if byte in (0x24, 0x28):
                lead, state = byte, "escape"
                continue
            queue[:0] = [] if byte is None else [byte]
            has_output, state = False, output_state
            out.append(BAD)
        elif state == "escape":
            target = {
                (0x28, 0x42): "ascii", (0x28, 0x4A): "roman", (0x28, 0x49): "katakana", (0x24, 0x40): "lead",
                (0x24, 0x42): "lead",
            }.get((lead, -1 if byte is None else byte))  # fmt: skip
            if target is not None:
                state = output_state = target
                if has_output:
                    out.append(BAD)
                has_output = True
                continue
            queue[:0] = [lead] if byte is None else [lead, byte]
            has_output, state = False, output_state
            out.append(BAD)
        elif state == "trail":
            state = "lead"
            if byte == 0x1B:
                state = "escape start"
                out.append(BAD)
            elif byte is not None and 0x21 <= byte <= 0x7E:
                out.append(jis0208.get((lead - 0x21) * 94 + byte - 0x21, BAD))
            else:
                out.append(BAD)
        elif byte is None:
            return "".join(out)
        elif byte == 0x1B:
            state = "escape start"
        else:
            has_output = False
            if state == "lead" and 0x21 <= byte <= 0x7E:
                lead, state = byte, "trail"
            elif state == "katakana":
                out.append(chr(0xFF61 - 0x21 + byte) if 0x21 <= byte <= 0x5F else BAD)
            elif state == "lead" or byte > 0x7F or byte in (0x0E, 0x0F):
                out.append(BAD)
            else:
                out.append({0x5C: "\u00a5", 0x7E: "\u203e"}.get(byte, chr(byte)) if state == "roman" else chr(byte))


def utf_16(body: bytes, is_big: bool) -> str:
    """Shared UTF-16 decoder."""
    units = [int.from_bytes(body[at : at + 2], "big" if is_big else "little") for at in range(0, len(body) - 1, 2)]
    out: list[str] = []
    waiting: int | None = None
    for unit in units:
        if waiting is not None and 0xDC00 <= unit <= 0xDFFF:
            out.append(chr(0x10000 + ((waiting - 0xD800) << 10) + unit - 0xDC00))
            waiting = None
            continue
        if waiting is not None:
            out.append(BAD)
            waiting = None
        if 0xD800 <= unit <= 0xDBFF:
            waiting = unit
        else:
            out.append(BAD if 0xDC00 <= unit <= 0xDFFF else chr(unit))
    return "".join(out) + (BAD if waiting is not None or len(body) % 2 else "")


def x_user_defined(body: bytes) -> str:
    """x-user-defined decoder."""
    return "".join(chr(byte) if byte < 0x80 else chr(0xF780 + byte - 0x80) for byte in body)


def replacement(body: bytes) -> str:
    """Replacement decoder."""
    return BAD if body else ""


def digest_lines(index: Mapping[int, str]) -> Iterator[str]:
    """An index as lines of pointer and code point, in order of the pointers: what a digest of it is taken of."""
    return (f"{pointer}\t0x{ord(index[pointer]):04X}" for pointer in sorted(index))
