"""Writes rows as JSON Lines, CSV or Parquet, one by one: written rows are not kept in memory."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import IO, Any, cast

from pydantic_core import to_json

from returnable.adapters.extras import extra
from returnable.adapters.files import NotWritten, Sink
from returnable.domain.characters import NOT_IN_ID, UNSEEN, is_needed, is_unseen
from returnable.domain.fields import to_text
from returnable.projections.exports import Column, Kind, Row

ROWS_IN_A_GROUP = 5_000
"""Rows of a Parquet row group, which is held in memory until it is written."""

_FORMULA = r"[=+\-@＝＋－＠﹦﹢﹣﹫\t\r\n]"
"""The characters that begin a formula in a spreadsheet, also in full width and in small form."""

_BEFORE = rf"""'*[ "{UNSEEN}]*"""
"""The characters that a spreadsheet may skip before a formula."""

_BEGINS = re.compile(rf"\A(?={_BEFORE}{_FORMULA})|[;|](?={_BEFORE}(?:{_FORMULA}|\Z))")
"""The places that get an apostrophe.

A spreadsheet that splits at another separator than the comma does not see our quotes: for it, a cell begins after each
``;``. There it may still read a ``"`` as the beginning of a quoted cell. At the end of a text such a quoted cell would
include the line break and the text after it.
"""

_PUT = re.compile(rf"(\A|[;|])'(?={_BEFORE}{_FORMULA})|([;|])'(?={_BEFORE}\Z)")
"""The apostrophes that :data:`_BEGINS` added, or before which it would add another: the inverse."""

_SPELT = re.compile(r"\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")


class Table(ABC):
    """A writer of rows."""

    @abstractmethod
    def write(self, row: Row) -> None:
        """Write one row."""

    def end(self) -> None:  # noqa: B027  (most formats keep no row back)
        """Write the remaining rows."""


class JsonLines(Table):
    """One JSON object for each row: the columns in their order, then other values of the row."""

    def __init__(self, sink: Sink, columns: Sequence[Column]) -> None:
        self._sink = sink

    def write(self, row: Row) -> None:
        """Write one row."""
        self._sink.write(to_json({name: _plain(value) for name, value in row.items()}) + b"\n")


def _plain(value: Any) -> Any:
    return to_text(value.astimezone(UTC)) if isinstance(value, datetime) else value


class Csv(Table):
    """RFC 4180 in UTF-8: a header, CRLF, every text quoted, an empty cell for no value.

    A spreadsheet that opens the file runs no formula, whether it splits at ``,``, ``;``, ``|`` or tab (:func:`harmless`).
    Lists of ids are separated by a space, structures are JSON.
    """

    def __init__(self, sink: Sink, columns: Sequence[Column]) -> None:
        self._sink = sink
        self._columns: list[tuple[str, Kind]] = [(column.name, column.kind) for column in columns]
        self._line(",".join(name for name, _ in self._columns))

    def write(self, row: Row) -> None:
        """Write one row."""
        self._line(",".join(csv_cell(row[name], kind) for name, kind in self._columns))

    def _line(self, text: str) -> None:
        self._sink.write(f"{text}\r\n".encode())


def csv_cell(value: Any, kind: Kind) -> str:
    r"""A cell of a table in CSV.

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
    r"""A text that is safe in a spreadsheet: no formula, no unseen character. :func:`original` restores the text.

    An apostrophe precedes each character that would begin a formula, at the beginning of the text and after each ``;`` and
    ``|``. An unseen character is spelt out unless the writing around it needs it. So is a backslash that would look like a
    spelt-out character.

    >>> harmless("x;=1+1;y"), harmless("a - b; c"), harmless("\t")
    ("x;'=1+1;y", 'a - b; c', "'\\u0009")
    """
    text = _BEGINS.sub(r"\g<0>'", text)
    if "\\" in text:
        text = text.replace("\\u", "\\u005cu").replace("\\U", "\\u005cU")
    if NOT_IN_ID.search(text) is None:
        return text
    return "".join(_spelt(one) if is_unseen(one) and not is_needed(text, at) else one for at, one in enumerate(text))


def original(cell: str) -> str:
    r"""The text from which :func:`harmless` made a cell.

    >>> original("x;'=1+1;y"), original("'\\u0009")
    ('x;=1+1;y', '\t')
    """
    text = _SPELT.sub(lambda code: chr(int(code[1] or code[2], 16)), cell)
    text = text.encode("utf-16-le", "surrogatepass").decode(
        "utf-16-le", "surrogatepass"
    )  # pairs, as stdout spells them
    return _PUT.sub(lambda begin: begin[1] or begin[2] or "", text)


def _spelt(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Parquet(Table):
    """Typed columns in row groups, each written as soon as it is full.

    Times are microseconds in UTC, money and seconds are decimals, lists of ids are lists, structures are JSON text.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        """Raises :class:`NotWritten` if ``pyarrow`` is not installed."""
        with extra("parquet", "pyarrow", "Parquet", NotWritten):
            import pyarrow as pa
            import pyarrow.parquet as pq
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
        """Write the remaining rows, and the directory of the file."""
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
