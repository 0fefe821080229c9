"""Reads a host's table order by order; at most one order is in memory."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from returnable.adapters.imports.mapping import FileSection, Mapping, MappingInvalid
from returnable.adapters.imports.planning import Planner
from returnable.adapters.imports.values import Refused, SourceRow
from returnable.domain.errors import ReturnableError, short


class TableUnreadable(ReturnableError):
    """A file that is not a table. The message names the file and the place."""


@dataclass(frozen=True, slots=True)
class OrderRows:
    """The rows of one order, or a row that belongs to no order."""

    order_id: str
    rows: Sequence[SourceRow]
    refused: Refused | None = None
    count: int = 1
    """The number of rows."""


def count_rows(path: str, section: FileSection) -> int:
    """The number of rows, without the header."""
    with _reader(path, section) as reader:
        return max(0, sum(1 for cells in reader if cells) - 1)


def read_orders(path: str, mapping: Mapping, planner: Planner) -> Iterator[OrderRows]:
    """Every order of the table with its rows, in the order of the table.

    With ``rows = "lines"`` consecutive rows with the same order id form an order. Raises :class:`TableUnreadable`, and
    :class:`MappingInvalid` if the table lacks a column.
    """
    group: list[SourceRow] = []
    group_id = ""
    with _reader(path, mapping.file) as reader:
        header = _header(path, next(reader, None), mapping)
        for number, cells in enumerate(reader, start=2):
            if not cells:  # a blank line
                continue
            row = SourceRow(number, dict(zip(header, cells, strict=False)))
            try:
                if len(cells) != len(header):
                    raise Refused(number, "", f"has {len(cells)} cells, the header has {len(header)}")
                order_id = planner.order_id(row)
                if order_id is None:
                    raise Refused(number, "order_id", "is empty")
            except Refused as refused:
                if group:
                    yield OrderRows(group_id, group, count=len(group))
                group = []
                yield OrderRows("", (row,), refused)
                continue
            if group and (mapping.rows == "orders" or order_id != group_id):
                yield OrderRows(group_id, group, count=len(group))
                group = []
            group_id = order_id
            group.append(row)
        if group:
            yield OrderRows(group_id, group, count=len(group))


@contextmanager
def _reader(path: str, section: FileSection) -> Iterator[Iterator[list[str]]]:
    encoding = "utf-8-sig" if section.encoding.replace("_", "-").lower() in ("utf-8", "utf8") else section.encoding
    place = Path(path)
    if place.is_dir():
        raise TableUnreadable(f"{path}: is a directory")
    with open(place, "rb") as file, TextIOWrapper(file, encoding=encoding, newline="") as text:
        yield _rows(path, csv.reader(text, delimiter=section.delimiter, strict=True), section.encoding)


def _rows(path: str, reader: Iterator[list[str]], encoding: str) -> Iterator[list[str]]:
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TableUnreadable(f"{path}: row {number}: {error}") from None
        except UnicodeError as error:
            raise TableUnreadable(f"{path}: near row {number}: not {encoding}: {error}") from None
        yield cells


def _header(path: str, header: list[str] | None, mapping: Mapping) -> list[str]:
    if header is None:
        raise TableUnreadable(f"{path}: is empty")
    names = [name.strip() for name in header]
    needed: dict[str, str] = {}
    for place, column in mapping.columns_used():
        needed.setdefault(column, place)
    for column, place in needed.items():
        if column not in names and column not in mapping.file.optional:
            shown = ", ".join(short(name) for name in names[:60])
            raise MappingInvalid(f"{place}: {path} has no column {short(column)}; it has {shown}")
        if names.count(column) > 1:
            raise MappingInvalid(f"{place}: {path} has more than one column {short(column)}")
    return names
