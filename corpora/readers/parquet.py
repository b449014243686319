"""Read rows of a Hub repository's parquet files in small batches, with their audio as encoded bytes."""

import io
from collections.abc import Iterator
from typing import Any

from common.errors import UserError
from common.input_files import check_file
from common.json_lines import wrong_field
from corpora.readers.reader import Clip
from corpora.readers.source import MAX_RATIO, RATIO_MATTERS_FROM_BYTES, SourceFiles
from corpora.readers.tables import require_names

ROWS_AT_ONCE = 16
_MOST_ROWS = 10_000_000


def read_parquet(
    source: SourceFiles, required: list[str], split: str = "*"
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield ("file, row n", n over all files, row) from the source's `data/<split>-….parquet` files.

    Args:
        source: the corpus.
        required: the columns that must be there.
        split: the beginning of the files' names.

    Raises:
        UserError: where there is none, one is damaged, or a required column is missing.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise UserError("this corpus is in parquet files, which need pyarrow: pip install -e '.[corpora]'") from None
    count = 0
    for name in source.require(f"*{split}-*.parquet" if split != "*" else "*.parquet", "the hub's data files"):
        where = source.where(name)
        try:
            path = source.path(name)
            file = pyarrow.parquet.ParquetFile(check_file(path) if path else io.BytesIO(source.read(name)))
            _refuse_bomb(file.metadata, source.size(name), where)
            require_names(required, file.schema_arrow.names, where, "column")
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    yield f"{where}, row {count}", count, row
                    count += 1
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError, TypeError) as error:
            raise UserError(f"{where}: not a readable parquet file ({error}); fetch it again") from None


def _refuse_bomb(metadata: Any, size: int, where: str) -> None:
    unpacked = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if metadata.num_rows > _MOST_ROWS or unpacked > max(RATIO_MATTERS_FROM_BYTES, MAX_RATIO * size):
        reason = f"{size:,} bytes that unpack to {metadata.num_rows:,} rows and {unpacked:,} bytes; that is no speech"
        raise UserError(f"{where}: {reason}")


def clip_of(row: dict[str, Any], column: str, identity: str, where: str, source: SourceFiles) -> Clip:
    """The audio of a row: `{"bytes": …, "path": …}`, to be stored under the row's id.

    Args:
        row: the row.
        column: its audio column.
        identity: the id to store bytes under.
        where: the row's place, for messages.
        source: the corpus.

    Raises:
        UserError: where the column holds something else, or neither bytes nor a file.
    """
    cell = row[column]
    if not isinstance(cell, dict) or not {"bytes", "path"} & set(cell):
        raise wrong_field(where, column, str(cell)[:60], "audio (bytes and path)", "column")
    if not isinstance(cell.get("bytes"), bytes | None) or not isinstance(cell.get("path"), str | None):
        raise wrong_field(where, column, str(cell)[:60], "audio (bytes and path)", "column")
    if cell.get("bytes") is not None:
        return Clip(f"{identity}.audio", data=cell["bytes"])
    if not cell.get("path"):
        raise UserError(f"{where}: the column {column!r} holds neither bytes nor a path")
    table = where.rsplit(", row", 1)[0].removeprefix(f"{source.root.as_posix()}/")
    return Clip(source.beside(table, cell["path"], where, column))


def file_name(identity: str) -> str:
    """An id as a file name: every character but letters, digits, `-`, `_` and `.` replaced."""
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in identity).lstrip(".") or "_"
