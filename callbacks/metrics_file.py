"""The figures of every step in `<run>/metrics.csv`, the same whether or not the run was interrupted."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from common.csv_text import csv_text
from common.files import naming_disk, write_text


class MetricsFile(L.Callback):
    """A row a step, counted from 0, of what `training_step` returns.

    The rows are part of each checkpoint, so a resumed run's file has every row once. A file that was removed while
    training is written again, all of it.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._columns: list[str] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Replaces the file by the rows of earlier steps, if any."""
        if trainer.is_global_zero:
            self._write(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: dict[str, Any], *_: Any
    ) -> None:
        """Adds the step's row.

        Args:
            trainer: gives step and folder.
            pl_module: unused.
            outputs: the step's figures.
        """
        row = {"step": trainer.global_step - 1} | {name: float(value) for name, value in outputs.items()}
        self.rows.append(row)
        if not trainer.is_global_zero:
            return
        path = Path(trainer.default_root_dir) / "metrics.csv"
        if row.keys() <= set(self._columns) and path.is_file():
            append_row(path, self._columns, row)
        else:
            self._write(trainer)

    def state_dict(self) -> dict[str, Any]:
        """All rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up an interrupted run's rows."""
        self.rows = state_dict["rows"]

    def _write(self, trainer: L.Trainer) -> None:
        names = {name for row in self.rows for name in row} - {"step"}
        self._columns = ["step", *sorted(names)]
        write_csv(Path(trainer.default_root_dir) / "metrics.csv", self._columns, self.rows)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, float]]) -> None:
    """Writes a CSV file, whole or not at all.

    Args:
        path: the file.
        columns: their names, in order.
        rows: values by column; a missing one leaves an empty cell.
    """
    write_text(path, csv_text([columns, *([row.get(name, "") for name in columns] for row in rows)]))


def append_row(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Appends a row to a CSV file, after a header where there is no file yet.

    Args:
        path: the file.
        columns: their names, in order.
        row: values by column.
    """
    with naming_disk(path), path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if not file.tell():
            writer.writeheader()
        writer.writerow(row)
