"""Bad data sent back to its sender as a duty: opened, mended or disputed, closed; and cases about nobody."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.access.models import Relationship
from lianxin.access.scope import Scope
from lianxin.duty import escalation, kernel, machine, proof, worklist
from lianxin.duty.models import Case, Duty
from lianxin.exchange.feeds import problems
from lianxin.exchange.feeds.models import Arrival, Finding
from lianxin.exchange.feeds.quality.models import DataProblem
from lianxin.network import roles
from lianxin.standards import clock
from tests.exchange import smart_world as w
from tests.exchange.feeds_world import arrival, finding
from tests.factories import make_consortium, make_institution, make_post
from tests.referral import world as worlds

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 3, 4, 9, 30, tzinfo=clock.ZONE)


class World:
    def __init__(self) -> None:
        self.lead = make_institution("DP-L", "hospital", short_name="县医院")
        self.place = make_institution("DP-T", "township", short_name="柳林")
        make_consortium(self.lead, [self.place])
        self.accounts = {
            "desk": worlds.account_for(make_post(self.lead, roles.INDEX_MANAGER)),
            "office": worlds.account_for(make_post(self.lead, roles.MANAGER)),
            "sender": worlds.account_for(make_post(self.place, roles.GP)),
            "stranger": worlds.account_for(make_post(make_institution("DP-X"), roles.INDEX_MANAGER)),
        }
        self.bad = [
            arrival(self.place, state="quarantined", control_id=f"B{n}", person_id=n + 1) for n in range(3)
        ]
        for one in self.bad:
            finding(one)

    def browser(self, who: str):
        return w.signed_in(self.accounts[who])

    def open(self) -> Case:
        problems.run()
        return Case.objects.unscoped("test").get()

    def do(self, who: str, move: str, status: int = 302, **form: str) -> str:
        case = Case.objects.unscoped("test").latest("pk")
        reply = self.browser(who).post(f"/feeds/quality/problems/{case.number}/{move}", form)
        assert reply.status_code == status, reply.content.decode()[-3000:]
        return reply.content.decode()


@pytest.fixture
def world():
    with clock.at(NOW):
        yield World()


def states() -> set[str]:
    return set(Finding.objects.values_list("state", flat=True))


def test_the_table_is_sound_and_a_case_about_nobody_gives_access_to_nobody(world):
    machine.get("data_problem").validate()
    case = world.open()
    assert (case.person_id, case.state) == (None, "owed")
    assert not Relationship.objects.filter(source__startswith=f"duty:{case.pk}:").exists()
    assert proof.check() == []
    with pytest.raises(ValueError, match="nobody"):
        kernel.open_case("data_problem", 1, Scope.system("test"), {}, "k", parties={})
    with pytest.raises(TypeError, match="nobody"):
        _ = case.patient_id


def test_one_case_for_institution_kind_rule_and_week_grows_while_it_is_open(world):
    other = arrival(world.place, state="refused", error="required PID-5\n缺\nmissing")
    arrival(world.place, state="refused", error="exception\n内部\nours")  # not the sender's fault
    warned = arrival(world.place)
    finding(warned, "value.unusual", severity="warn")
    assert problems.run() == 2
    assert problems.run() == 0
    one = DataProblem.objects.get(rule="value.impossible")
    assert (one.number, one.severity, one.arrivals) == (3, "quarantine", [b.pk for b in world.bad])
    assert DataProblem.objects.get(rule="required").arrivals == [other.pk]
    assert set(Finding.objects.filter(rule="value.impossible").values_list("state", flat=True)) == {"sent"}
    more = arrival(world.place, state="quarantined")
    finding(more)
    assert problems.run() == 1
    one.refresh_from_db()
    assert (one.number, DataProblem.objects.count()) == (4, 2)


def test_the_sender_finds_it_in_the_worklist_late_ones_climb(world):
    case = world.open()
    from lianxin.access.scope import scope_for_account

    items = worklist.worklist(scope_for_account(world.accounts["sender"]))
    assert [(i.case_number, i.role, i.person_id) for i in items] == [(case.number, roles.GP, None)]
    page = world.browser("sender").get("/").content.decode()
    assert f"/feeds/quality/problems/{case.number}" in page
    assert "修正数据并重新发送" in page
    with clock.at(NOW + dt.timedelta(days=30)):
        assert escalation.escalate() == 1
        for _ in range(4):
            with clock.at(NOW + dt.timedelta(days=31)):
                escalation.escalate()
        assert world.browser("office").get("/overdue").status_code == 200
        assert world.browser("office").get("/notices").status_code == 200
    assert case.number in world.browser("sender").get("/notices").content.decode()


def test_mended_is_looked_at_not_believed(world):
    case = world.open()
    page = world.do("sender", "mend", 422, comment="已改")
    assert "还有 3 条没有改好" in page
    assert "B0" in page
    assert "第 1 行" in world.do("sender", "mend", 422, comment="已改", replacements="B1 B1-new")
    Arrival.objects.filter(control_id="B0").update(state="taken", attempts=2)  # replayed
    arrival(world.place, control_id="B1-new", person_id=77)  # sent again under another id
    wrong = arrival(world.place, control_id="B2", person_id=3)  # sent again, wrong again
    finding(wrong, severity="warn")
    assert "还有 1 条没有改好" in world.do("sender", "mend", 422, comment="已改", replacements="B1=B1-new")
    arrival(world.place, control_id="ELSE", person_id=3)  # the same person's, right now
    world.do("sender", "mend", comment="已改", replacements="B1 = B1-new")
    case.refresh_from_db()
    assert (case.state, case.owner_institution_id, case.owner_role) == (
        "mended",
        world.lead.pk,
        roles.INDEX_MANAGER,
    )
    assert "mended" in states()
    world.do("desk", "send_back", comment="再看看")
    assert Case.objects.unscoped("test").get().state == "owed"
    world.do("sender", "mend", comment="确已改好")
    world.do("desk", "close")
    case.refresh_from_db()
    assert (case.state, case.terminal) == ("closed", True)
    assert not Duty.objects.unscoped("test").filter(ended="").exists()
    assert not DataProblem.objects.get().live
    finding(arrival(world.place, state="quarantined"))
    problems.run()
    assert DataProblem.objects.count() == 2  # a new one, in the same week
    assert proof.check() == []


def test_a_dispute_is_answered(world):
    world.open()
    world.do("sender", "dispute", 422, reason="rule", comment="")
    world.do("sender", "dispute", reason="rule", comment="ICU 患者确有此值")
    world.do("desk", "insist", comment="请附报告")
    world.do("sender", "dispute", reason="right", comment="报告已寄")
    world.do("office", "accept", comment="核对无误")
    case = Case.objects.unscoped("test").get()
    assert case.state == "waived"
    assert states() == {"waived"}
    page = world.browser("desk").get(f"/feeds/quality/problems/{case.number}").content.decode()
    assert "ICU 患者确有此值" in page


def test_who_may_do_what(world):
    case = world.open()
    path = f"/feeds/quality/problems/{case.number}"
    assert world.browser("stranger").get(path).status_code == 404
    assert world.browser("stranger").post(f"{path}/waive", {"comment": "x"}).status_code == 404
    world.do("sender", "waive", 409, comment="不想改")
    world.do("desk", "mend", 409, comment="x")
    assert world.browser("sender").get("/feeds/quality/problems").status_code == 403
    assert "B0" in world.browser("sender").get(path).content.decode()
    assert world.browser("desk").post(f"{path}/explode", {}).status_code == 404
    assert world.browser("desk").post(f"{path}/open_auto", {}).status_code == 404


def test_the_desk_sends_back_a_warning_by_hand(world):
    finding(arrival(world.place), "value.unusual", severity="warn")
    desk = world.browser("desk")
    listed = desk.get("/feeds/quality/problems").content.decode()
    assert "rule=value.unusual" in listed
    query = {
        "institution": "DP-T",
        "door": "hl7v2",
        "kind": "ORU^R01",
        "rule": "value.unusual",
        "week": "2026-03-02",
    }
    assert "1" in desk.get("/feeds/quality/problems/new", query).content.decode()
    reply = desk.post("/feeds/quality/problems/new", {**query, "note": "请核对单位"})
    case = Case.objects.unscoped("test").get()
    assert reply["Location"].endswith(case.number)
    assert "请核对单位" in desk.get(reply["Location"]).content.decode()
    assert desk.get("/feeds/quality/problems/new", query).status_code == 404  # nothing is left to send back
    for wrong in ({"week": "x"}, {"institution": "DP-X"}, {"rule": "none"}):
        assert desk.get("/feeds/quality/problems/new", {**query, **wrong}).status_code == 404
    assert world.browser("sender").get("/feeds/quality/problems/new", query).status_code == 403
