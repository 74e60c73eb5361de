"""The report within the output that it is about, linked from the dataset card."""

from __future__ import annotations

from gneiss.errors import InputError, first_line
from gneiss.output.claim import held
from gneiss.output.dataset_card import with_report
from gneiss.output.finished_run import FinishedRun
from gneiss.output.layout import CARD_FILE, REPORT_FILE
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Place


def put_into_output(run: FinishedRun, page: str) -> Place:
    """Write a page into the output of a finished run, and its link into the card; where it lies. Raises OutputError.

    Raises InputError where the run is not finished, and so has no card.
    """
    if not run.is_finished:
        raise InputError(f"{run.folder}: the run is not finished; its report can only lie elsewhere")
    with held(run.folder) as check:
        try:
            card = (run.folder / CARD_FILE).read().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{run.folder / CARD_FILE}: cannot read: {first_line(error)}") from error
        check()
        write_bytes(page.encode(), run.folder, REPORT_FILE)
        write_bytes(with_report(card).encode(), run.folder, CARD_FILE)
    return run.folder / REPORT_FILE
