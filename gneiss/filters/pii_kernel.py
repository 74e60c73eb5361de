"""Where e-mail addresses and IP addresses stand in a text batch: in bytes, without a Python string per document."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gneiss.arrays import BoolArray, Int64Array, UInt8Array, UInt64Array
from gneiss.batch import TextBatch
from gneiss.filters.address_rows import ROW, room
from gneiss.filters.email_kernel import find_emails
from gneiss.filters.ip_kernel import find_ips


@dataclass(frozen=True, eq=False)
class Found:
    """Addresses in a batch, all arrays (addresses,), sorted by document and start, disjoint.

    document, start, end: int64, bytes counted from the document's first; kind: uint8; key: uint64, a hash of the
    address in lower case; personal: bool, false where it is nobody's: a reserved name or network.
    """

    document: Int64Array
    start: Int64Array
    end: Int64Array
    kind: UInt8Array
    key: UInt64Array
    personal: BoolArray


def find_addresses(batch: TextBatch, email: bool, ip: bool) -> Found:
    """All addresses of the kinds asked for. With both, no IP address begins or ends inside an e-mail address.

    >>> found = find_addresses(TextBatch.of(["", "a@b.org, 99.41.2.3, c@example.org"]), True, True)
    >>> found.start.tolist(), found.end.tolist(), found.kind.tolist(), found.personal.tolist()
    ([0, 9, 20], [7, 18, 33], [0, 1, 0], [True, True, False])
    """
    emails = find_emails(batch) if email else room(0)
    ips = find_ips(batch, emails) if ip else room(0)
    rows = np.concatenate([emails, ips])
    rows = rows[np.lexsort((rows["start"], rows["document"]))]
    return Found(*(np.ascontiguousarray(rows[name]) for name in ROW.names or ()))
