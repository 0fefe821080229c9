"""Rows as JSON Lines, CSV or Parquet, one after the other: what is written is not kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import IO, Any, Protocol, cast

from pydantic_core import to_json

from returnable.adapters.files import NotWritten, Sink
from returnable.domain.fields import to_text
from returnable.projections.exports import Column, Kind, Row

ROWS_IN_A_GROUP = 5_000
"""Rows of a Parquet row group: what is held in memory before it is written."""

_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")


class Table(Protocol):
    """Takes rows."""

    def write(self, row: Row) -> None:
        """Write one row."""
        ...

    def end(self) -> None:
        """Write what is left."""
        ...


class JsonLines:
    """One JSON object for each row: the columns in their order, and what comes after them."""

    def __init__(self, sink: Sink, columns: Sequence[Column]) -> None:
        self._sink = sink

    def write(self, row: Row) -> None:
        """Write one row."""
        self._sink.write(to_json({name: _plain(value) for name, value in row.items()}) + b"\n")

    def end(self) -> None:
        """Nothing is left."""


def _plain(value: Any) -> Any:
    return to_text(value.astimezone(UTC)) if isinstance(value, datetime) else value


class Csv:
    """RFC 4180 in UTF-8: a header, CRLF, every text quoted, an empty cell where there is nothing.

    A spreadsheet that opens the file runs nothing: a text that begins like a formula (``=``, ``+``, ``-``, ``@``, also in
    full width, also after spaces) gets an apostrophe in front, and a control character is spelt ``\\u0009``. Lists of ids
    are separated by a space, structures are JSON.
    """

    def __init__(self, sink: Sink, columns: Sequence[Column]) -> None:
        self._sink = sink
        self._columns: list[tuple[str, Kind]] = [(column.name, column.kind) for column in columns]
        self._line(",".join(name for name, _ in self._columns))

    def write(self, row: Row) -> None:
        """Write one row."""
        self._line(",".join(csv_cell(row[name], kind) for name, kind in self._columns))

    def end(self) -> None:
        """Nothing is left."""

    def _line(self, text: str) -> None:
        self._sink.write(f"{text}\r\n".encode())


def csv_cell(value: Any, kind: Kind) -> str:
    r"""One cell.

    >>> csv_cell("=1+1", "text"), csv_cell(-5, "seconds"), csv_cell(None, "text"), csv_cell('5" nail', "text")
    ('"\'=1+1"', '-5', '', '"5"" nail"')
    """
    if value is None or value == []:
        return ""
    if isinstance(value, datetime):
        return to_text(value.astimezone(UTC))
    if kind in ("int", "money", "seconds"):
        return str(value)
    text = " ".join(value) if kind == "texts" else to_json(value).decode() if kind == "json" else str(value)
    return '"' + harmless(text).replace('"', '""') + '"'


def harmless(text: str) -> str:
    """The text as a spreadsheet may have it: no formula, no control character."""
    if text.lstrip(" ").startswith(_FORMULA):
        text = f"'{text}"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _spelt(one) for one in text)


def _spelt(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Parquet:
    """Typed columns in row groups, each written as soon as it is full.

    Times are microseconds in UTC, money and seconds are decimals, lists of ids are lists, structures are JSON text.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        """Raises :class:`NotWritten` when ``pyarrow`` is not installed."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise NotWritten("Parquet needs pyarrow: pip install 'returnable[parquet]'") from None
        types: dict[Kind, Any] = {
            "int": pa.int64(),
            "text": pa.string(),
            "texts": pa.list_(pa.string()),
            "time": pa.timestamp("us", tz="UTC"),
            "money": pa.decimal128(24, 4),
            "seconds": pa.decimal128(20, 6),
            "json": pa.string(),
        }
        self._kinds: dict[str, Kind] = {column.name: column.kind for column in columns}
        meanings = [{"meaning": column.meaning} for column in columns]
        fields = [pa.field(c.name, types[c.kind], metadata=m) for c, m in zip(columns, meanings, strict=True)]
        self._schema = pa.schema(fields)
        self._batch = pa.RecordBatch
        self._file = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[Row] = []

    def write(self, row: Row) -> None:
        """Write one row."""
        self._rows.append({name: _typed(row[name], kind) for name, kind in self._kinds.items()})
        if len(self._rows) >= ROWS_IN_A_GROUP:
            self._write_group()

    def end(self) -> None:
        """Write what is left, and the directory of the file."""
        if self._rows:
            self._write_group()
        self._file.close()

    def _write_group(self) -> None:
        self._file.write_batch(self._batch.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def _typed(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind == "json":
        return to_json(value).decode()
    return Decimal(str(value)) if kind in ("money", "seconds") else value


def table(form: str, sink: Sink, columns: Sequence[Column]) -> Table:
    """The writer of ``jsonl``, ``csv`` or ``parquet``."""
    if form == "parquet":
        return Parquet(cast("IO[bytes]", sink), columns)
    return JsonLines(sink, columns) if form == "jsonl" else Csv(sink, columns)
