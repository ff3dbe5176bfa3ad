"""Double reading: when two readings agree, and when a new reader is new no more."""

from __future__ import annotations

from lianxin.regional.reading import policy
from lianxin.regional.reading.models import Reader, Reading, Review

CONCORDANT = ("1", "2a")
"""RADPEER scores without clinical consequence: the reading could stand."""


def concordant(review: Review) -> bool:
    """Whether the first reading held: scored without consequence, or upheld by the arbiter."""
    return review.score in CONCORDANT or review.decided == "first"


def record_of(reader: Reader) -> list[Review]:
    """Decided double readings of a reader's reports since they count as new, newest first (at most as many as are needed)."""
    needed = int(policy.value("double.concordant", reader.institution_id))
    rows = Review.objects.unscoped("the centre's own quality").filter(
        institution_id=reader.institution_id,
        reading__centre=reader.centre,
        first__account_id=reader.account_id,
    )
    if reader.new_since is not None:
        rows = rows.filter(at__gte=reader.new_since)
    decided = rows.exclude(score__in=("2b", "3a", "3b"), decided="")
    return list(decided.order_by("-at", "-pk")[:needed])


def run_of(reader: Reader) -> tuple[int, int]:
    """How many concordant double readings in a row a reader has now, and how many end their being new."""
    needed = int(policy.value("double.concordant", reader.institution_id))
    run = 0
    for review in record_of(reader):
        if not concordant(review):
            break
        run += 1
    return run, needed


def settle(reading: Reading, account_id: int) -> bool:
    """After a double reading was decided: a new reader with enough concordant ones in a row is new no more. Whether that happened."""
    reader = (
        Reader.objects.select_for_update(no_key=True)
        .filter(account_id=account_id, institution_id=reading.centre_of_id, centre=reading.centre, new=True)
        .first()
    )
    if reader is None:
        return False
    run, needed = run_of(reader)
    if run < needed:
        return False
    reader.new = False
    reader.save(update_fields=["new"])
    return True
