"""Write docs/filters/: a page for each filter of the catalogue, and an index.

python scripts/write_docs.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gneiss.filters.catalogue import PAGES
from gneiss.filters.page import markdown

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "filters"


def pages() -> Mapping[str, str]:
    """File name → content."""
    index = [
        "# Filters",
        "",
        "A filter is an annotator together with the rules published for it, or an editor. These pages are written by"
        " `scripts/write_docs.py` from the code; `gneiss filters CODE` prints the same text.",
        "",
        "| code | filter | what | rules |",
        "| --- | --- | --- | --- |",
        *(
            f"| [{page.code}]({page.code}.md) | {page.name} | {page.summary} | {', '.join(page.rules)} |"
            for page in PAGES
        ),
        "",
    ]
    return {"README.md": "\n".join(index), **{f"{page.code}.md": markdown(page) for page in PAGES}}


def main() -> None:
    """Write every page; remove those of filters that are gone."""
    written = pages()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for stale in FOLDER.glob("*.md"):
        if stale.name not in written:
            stale.unlink()
    for name, content in written.items():
        (FOLDER / name).write_text(content, "utf-8")
    print(f"{len(written)} pages in {FOLDER}")


if __name__ == "__main__":
    main()
