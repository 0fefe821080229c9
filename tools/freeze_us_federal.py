"""Freeze the United States federal calendar of the `holidays` library into domain/calendars/us-federal.json.

Run when the law changes; the version is part of every decision's pins, so a change adds a version:

    python tools/freeze_us_federal.py 2026.1 > domain/calendars/us-federal-2026.1.json
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

import holidays

FIRST, LAST = 1990, 2099


def federal_weekdays_off() -> list[str]:
    """Weekdays that are federal holidays as observed.

    All years are asked for at once, with one on each side: an object of a single year does not hold a New Year's Day
    that is observed on 31 December of the year before (2021-12-31).
    """
    table = holidays.country_holidays("US", years=range(FIRST - 1, LAST + 2), observed=True)
    return sorted(day.isoformat() for day in table if FIRST <= day.year <= LAST and day.weekday() < 5)


def frozen(calendar_version: str) -> dict[str, object]:
    """The document that is committed."""
    return {
        "name": "us-federal",
        "version": calendar_version,
        "source": f"holidays {version('holidays')}: United States, public holidays as observed, Monday to Friday",
        "first": f"{FIRST}-01-01",
        "last": f"{LAST}-12-31",
        "holidays": federal_weekdays_off(),
    }


if __name__ == "__main__":
    document = frozen(sys.argv[1])
    days: list[str] = document.pop("holidays")  # type: ignore[assignment]
    by_year: dict[str, list[str]] = {}
    for day in days:
        by_year.setdefault(day[:4], []).append(day)
    lines = ",\n    ".join(", ".join(f'"{day}"' for day in year) for year in by_year.values())
    head = json.dumps(document, indent=2)[:-2]
    sys.stdout.write(f'{head},\n  "holidays": [\n    {lines}\n  ]\n}}\n')
