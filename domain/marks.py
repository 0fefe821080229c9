"""What a field says of people and of money, marked where the field is defined.

Redaction, the audit view and the comparison of answers read the marks (:mod:`returnable.projections.marked`). A text
or a number without a mark is not let through by redaction. Words of a fixed list, flags, instants and dates need none.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated


class Mark(Enum):
    """What redaction does with a field, and whether it is money."""

    HARMLESS = "harmless"
    """It says nothing of a person, and stays."""
    MONEY = "money"
    """An amount: in minor units in an event, a decimal elsewhere. It stays."""
    PERSONAL = "personal"
    """It identifies somebody, or somebody else knows them by it; a pseudonym replaces it."""
    FREE_TEXT = "free text"
    """Somebody wrote what they liked; it is blanked."""
    DERIVED = "derived"
    """The desk made it of other fields; what is personal in it is replaced like the fields it came from."""


Harmless = Annotated[str, Mark.HARMLESS]
Decimals = Annotated[str, Mark.MONEY]
Count = Annotated[int, Mark.HARMLESS]
Minor = Annotated[int, Mark.MONEY]
Personal = Annotated[str, Mark.PERSONAL]
FreeText = Annotated[str, Mark.FREE_TEXT]
Derived = Annotated[str, Mark.DERIVED]
