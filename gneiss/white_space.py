"""White space: the one definition that words, lines and normal forms share, which is that of `str.split`."""

from __future__ import annotations

#: Code points, hexadecimal, inclusive.
SPACE_RANGES = "9-D 1C-20 85 A0 1680 2000-200A 2028-2029 202F 205F 3000"
