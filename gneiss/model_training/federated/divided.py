"""One file of labels, divided into those of sites by a column of their names; and sites in regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from gneiss.errors import InputError, printable
from gneiss.model_training.federated.federation import require_site_name
from gneiss.model_training.labels import WEIGHT, WHY
from gneiss.model_training.source import decoded, is_string, read_rows
from gneiss.output.parquet import write_parquet
from gneiss.store.place import Address, Place

LABELS_FILE = "labels.parquet"


def regions_of(labels: Address, sites_by: str, regions_by: str, text: str) -> dict[str, tuple[str, ...]]:
    """Region → its sites, in order.

    Parameters: `regions_by`: a column of names of regions; `text`: any column of strings, for its rows. Raises
    InputError for rows without a region, a site in two regions, and what no region can be called.
    """
    homes: dict[str, str] = {}
    for table in read_rows(labels, text, sites_by, regions_by):
        pairs = zip(table[sites_by].to_pylist(), table[regions_by].to_pylist(), strict=True)
        for site, region in dict.fromkeys(pairs):
            if not isinstance(region, str):
                found = "nothing" if region is None else printable(repr(region)[:80])
                raise InputError(f"{labels}: column {regions_by!r}: expected the name of a region, found {found}")
            if homes.setdefault(site, region) != region:
                raise InputError(
                    f"{labels}: column {regions_by!r}: expected one region a site, found '{printable(homes[site])}' and"
                    f" '{printable(region)}' of site '{printable(str(site))}'"
                )
    for region in homes.values():
        require_site_name(region)
        if region in homes:
            raise InputError(f"region '{region}': a site is called so, too; give one of them another name")
    return {
        region: tuple(sorted(site for site, at in homes.items() if at == region))
        for region in sorted({*homes.values()})
    }


def divide(labels: Address, sites_by: str, columns: Sequence[str], folder: Place) -> dict[str, Place]:
    """Write the rows of each site to a folder of its own; see `rows_of_sites` and `write_sites`."""
    return write_sites(rows_of_sites(labels, sites_by, columns), folder)


def rows_of_sites(labels: Address, sites_by: str, columns: Sequence[str]) -> dict[str, list[pa.Table]]:
    """Site → its rows, in order.

    Parameters: `sites_by`: a column of names; `columns`: of the text, then of what else sites have; texts that are not
    UTF-8 become null, which sites skip. Raises InputError for rows without a site, and for what no site can be called.
    """
    text, *others = columns
    parts: dict[str, list[pa.Table]] = {}
    for table in read_rows(labels, text, *others, sites_by, also=[WHY, WEIGHT]):
        at = table[sites_by]
        if not is_string(at.type) or at.null_count:
            found = f"{at.null_count:,} rows without one" if is_string(at.type) else str(at.type)
            raise InputError(f"{labels}: column {sites_by!r}: expected the name of a site in each row, found {found}")
        texts = pa.array([None if raw is None else decoded(raw) for raw in table[text].to_pylist()], pa.large_string())
        own = table.set_column(table.schema.get_field_index(text), text, texts)
        if sites_by not in columns:
            own = own.drop_columns([sites_by])
        names = at.cast(pa.large_string())
        for site in names.unique().to_pylist():
            parts.setdefault(site, []).append(own.filter(pa.compute.equal(names, site)))
    for site in parts:
        require_site_name(site)
    return {site: parts[site] for site in sorted(parts)}


def write_sites(rows: Mapping[str, Sequence[pa.Table]], folder: Place) -> dict[str, Place]:
    """Write the rows of each site to a folder of its own; site → that folder."""
    for site, tables in rows.items():
        write_parquet(tables, tables[0].schema, folder / site, LABELS_FILE)
    return {site: folder / site for site in rows}
