"""What the database itself keeps of the index, whoever writes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError

from lianxin.index import upkeep
from lianxin.index.registry import Registration, register
from lianxin.network.models import Institution
from tests.factories import make_institution
from tests.index.conftest import SYSTEM

Reg = Callable[..., Registration]


def refused(sql: str, *values: int) -> None:
    """The database itself says no."""
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cur:
        cur.execute(sql, values)


def done(sql: str, *values: int) -> None:
    """It says yes."""
    with connection.cursor() as cur:
        cur.execute(sql, values)


@pytest.mark.django_db
def test_strange_kinds_and_sexes_are_refused(reg: Reg) -> None:
    person = register(SYSTEM, reg()).person_id
    refused("UPDATE access_relationship SET kind = 'friend' WHERE person_id = %s", person)
    refused(
        "INSERT INTO access_relationship (person_id, institution_id, kind, source, since)"
        " SELECT person_id, institution_id, '', 'x', since FROM access_relationship WHERE person_id = %s",
        person,
    )
    refused("UPDATE index_person SET sex = 'm' WHERE id = %s", person)
    done("UPDATE index_person SET sex = 'other' WHERE id = %s", person)


@pytest.mark.django_db
def test_an_institution_that_is_named_stays(reg: Reg, here: Institution) -> None:
    home, spare = make_institution(kind="township"), make_institution(kind="township")
    person = register(SYSTEM, reg(home_institution_id=home.pk)).person_id
    for named in (here, home):
        refused("DELETE FROM network_institution WHERE id = %s", named.pk)
        refused("UPDATE network_institution SET id = id + 1000000 WHERE id = %s", named.pk)
        with pytest.raises(ProtectedError):
            named.delete()
        done("UPDATE network_institution SET id = id, name = '改名' WHERE id = %s", named.pk)
    done("DELETE FROM access_relationship WHERE person_id = %s", person)
    refused("DELETE FROM network_institution WHERE id = %s", home.pk)  # the person's row alone names it
    refused("DELETE FROM network_institution WHERE id = %s", here.pk)  # its registration does
    done("DELETE FROM network_institution WHERE id = %s", spare.pk)


@pytest.mark.django_db
def test_the_check_tells_of_institutions_that_are_not_there(reg: Reg) -> None:
    person = register(SYSTEM, reg()).person_id
    lost = make_institution(kind="township").pk
    done("DELETE FROM network_institution WHERE id = %s", lost)
    for write in (
        "UPDATE index_person SET home_institution_id = %s WHERE id = %s",
        "UPDATE index_sourcerecord SET institution_id = %s WHERE person_id = %s",
        "UPDATE access_relationship SET institution_id = %s WHERE person_id = %s",
    ):
        with transaction.atomic():
            done(write, lost, person)
            assert any(f"institution {lost} is named" in line for line in upkeep.check())
            transaction.set_rollback(True)
    assert not any("institution" in line and "named" in line for line in upkeep.check())
