"""Rows as JSON Lines, CSV or Parquet, one after the other: what is written is not kept in memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import IO, Any, Protocol, cast

from pydantic_core import to_json

from returnable.adapters.files import NotWritten, Sink
from returnable.domain.characters import NOT_IN_ID, UNSEEN, is_needed, is_unseen
from returnable.domain.fields import to_text
from returnable.projections.exports import Column, Kind, Row

ROWS_IN_A_GROUP = 5_000
"""Rows of a Parquet row group: what is held in memory before it is written."""

_FORMULA = r"[=+\-@＝＋－＠﹦﹢﹣﹫\t\r\n]"
"""What a spreadsheet takes for the beginning of a formula, also in full width and in small form."""

_BEFORE = rf"""'*[ "{UNSEEN}]*"""
"""What a spreadsheet may pass over in front of one."""

_BEGINS = re.compile(rf"\A(?={_BEFORE}{_FORMULA})|[;|](?={_BEFORE}(?:{_FORMULA}|\Z))")
"""Where an apostrophe is put.

A spreadsheet that splits at another separator than the comma does not see our quotes, so that a cell of its own begins after
every ``;``. There it may still take a ``"`` for the beginning of a quoted cell. At the end of a text such a quoted cell
would hold the line break and what comes behind it.
"""

_PUT = re.compile(rf"(\A|[;|])'(?={_BEFORE}{_FORMULA})|([;|])'(?={_BEFORE}\Z)")
"""Where :data:`_BEGINS` put one, or would put another: the inverse."""

_SPELT = re.compile(r"\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")


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

    A spreadsheet that opens the file runs nothing, whether it splits at ``,``, ``;``, ``|`` or a tab: see :func:`harmless`.
    Lists of ids are separated by a space, structures are JSON.
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
    r"""The text as a spreadsheet may have it: no formula, nothing unseen. :func:`original` gives the text back.

    An apostrophe goes in front of what would begin a formula, at the beginning of the text and after each ``;`` and ``|``. An
    unseen character is spelt out unless the writing around it needs it, and so is a backslash that would read as one.

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
    r"""The text that :func:`harmless` was given.

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
