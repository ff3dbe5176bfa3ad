"""What undoing a change of links would move, told before it is done. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from lianxin.index import following, links
from lianxin.index.models import LinkEvent, Person


@dataclass(frozen=True)
class Preview:
    """What undoing an event would do: who gets the registrations back, from whom, how much of what."""

    person: Person
    stays: Person
    sources: list[int]
    rows: dict[str, int]
    patients: list[str]


def preview(event: LinkEvent) -> Preview:
    """What :func:`undo` or :func:`unmerge` of a merge, move or split would move. Changes nothing."""
    people = Person.objects.unscoped("a preview names the people concerned")
    with connection.cursor() as cur:
        if event.kind == "merged":
            gone = event.before["gone"]
            branch = following.subtree(cur, gone)
            holders = following.chain(cur, gone)[1:]
            rows = following.waiting(cur, branch, holders)
            sources = rows.pop(following.SOURCES, [])
            ids = sorted(int(pk) for pk in sources)
            patients = links.patients_of(cur, ids) + following.numbers_of(cur, branch)
            counts = {table: len(found) for table, found in rows.items()}
            return Preview(people.get(pk=gone), people.get(pk=holders[-1]), ids, counts, patients)
        ids = event.before["sources"]
        stays = following.chain(cur, event.after["person"])[-1]
        back = following.chain(cur, event.before["person"])[-1]
        return Preview(people.get(pk=back), people.get(pk=stays), ids, {}, links.patients_of(cur, ids))
