"""A canary's message, its reason and its report, for everybody who has nothing to do with the institution it came from."""

from __future__ import annotations

import pytest

from lianxin.exchange.feeds import problems, report, scores
from lianxin.exchange.feeds.quality.models import DataProblem
from lianxin.network.models import Institution
from lianxin.standards import clock
from tests.exchange.feeds_world import arrival, finding
from tests.leakage.conftest import DIAGNOSIS, ID_NUMBER, NAME, PHONE, Cage

pytestmark = [pytest.mark.concurrency]
CURIOUS = ("index_manager", "manager", "clinician", "neighbour gp", "own system_admin", "own audit_admin")


def test_feeds_tell_nobody_of_a_patient_who_may_not_open_the_message(cage: Cage) -> None:
    place = Institution.objects.get(code="SC-T1")
    body = f"MSH|^~\\&|A|B|C|D||ORU^R01|1|P|2.5\rPID|1||{ID_NUMBER}||{NAME}|||||{PHONE}\rOBX|1|TX|X||{DIAGNOSIS}\r".encode()
    one = arrival(
        place, body, state="quarantined", person_id=cage.person.pk, error="quarantine\n待核\nquarantined", control_id="CANARY-CONTROL"
    )  # fmt: skip
    finding(one)
    scores.count()
    problems.run()
    number = DataProblem.objects.get().case.number
    week = problems.monday(clock.today())
    paths = [
        "/feeds", "/feeds/messages", "/feeds/messages?q=CANARY-CONTROL", f"/feeds/messages/{one.pk}", "/feeds/quality", "/feeds/quality/SC-T1",
        "/feeds/quality/problems", f"/feeds/quality/problems/{number}", f"/feeds/quality/SC-T1/report?week={week}", "/feeds/rules",
        "/feeds/rules/value.impossible", *(f"/feeds/messages/lineage?resource={t}/{r}" for t, r in list(cage.resources.items())[:2]),
    ]  # fmt: skip
    for name in CURIOUS:
        account = cage.outsiders[name]
        browser = cage.browser(account)
        for path in paths:
            reply = browser.get(path)
            assert reply.status_code in (200, 400, 403, 404), (name, path)
            assert cage.leaked(reply.content, path) == [], (name, path)
        opened = browser.post(f"/feeds/messages/{one.pk}/open")
        if opened.status_code != 200:  # whoever may open it leaves a trace in the audit instead
            assert cage.leaked(opened.content) == [], name
        else:
            assert account.name
            assert "index_manager" in name, name
    markup = report.html(place, report.make(place, week))
    assert cage.leaked(markup) == []
