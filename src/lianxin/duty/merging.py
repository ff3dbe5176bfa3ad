"""When the index finds that two people are one, the gone one's cases and duties become the kept one's.

The act chain does not name the person, so it stands. Single registrations moving to another person leave cases alone: a
case belongs to the human being it was opened for.
"""

from __future__ import annotations

from typing import Any


def repoint(cursor: Any, patient_ids: list[str], from_person: int, to_person: int) -> None:
    """Registered with ``index.hooks``: move cases and open duties when a whole person (by number) moves."""
    cursor.execute("SELECT number FROM index_person WHERE id = %s", [from_person])
    row = cursor.fetchone()
    if row is None or row[0] not in patient_ids:
        return
    cursor.execute("UPDATE duty_case SET person_id = %s WHERE person_id = %s", [to_person, from_person])
    cursor.execute("UPDATE duty_duty SET person_id = %s WHERE person_id = %s", [to_person, from_person])
