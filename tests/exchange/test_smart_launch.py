"""SMART App Launch: an app opened from the record or by itself, what it gets to see, and how that ends."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from lianxin.access import clients, relationships, tokens
from lianxin.access.models import Account, AuditEvent, Grant
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.standards import clock, codes
from tests.exchange import smart_world as w
from tests.exchange.client import Client as Door
from tests.exchange.client import observation, patient
from tests.factories import SmallCounty, make_institution, small_county
from tests.referral.world import account_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]
MONDAY = dt.datetime(2026, 3, 2, 9, 0, tzinfo=clock.ZONE)
LAB = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"


@dataclass
class Town:
    """Two patients of one centre, one of another, and its family doctor."""

    county: SmallCounty
    doctor: Account
    his: Door
    one: str
    two: str
    person: Person
    second: Person
    foreign: Person


@pytest.fixture
def town() -> Any:
    tokens.forget()
    with clock.at(MONDAY):
        codes.load_shipped()
        county = small_county()
        his, other = Door("his", "SC-T1"), Door("other", "SC-T2")
        ids = []
        for door, name, born in (
            (his, "单雄信", "1961-01-01"),
            (his, "秦叔宝", "1962-02-02"),
            (other, "罗士信", "1963-03-03"),
        ):
            made = door("POST", "Patient", patient(name, born))
            assert made.status == 201, made.raw
            ids.append(made.json["id"])
            for value, category in (("120", "laboratory"), ("130", "vital-signs")):
                body = observation(made.json["id"], value=value).decode()
                body = body.replace(
                    '"status":"final"',
                    '"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category",'
                    f'"code":"{category}"}}]}}]',
                )
                assert door("POST", "Observation", body.encode()).status == 201
        people = [Person.objects.unscoped("test").get(pk=registry.by_patient_id(i)) for i in ids]
        yield Town(county, account_for(county.posts["gp0"]), his, ids[0], ids[1], *people)


def values(reply: Any) -> list[Any]:
    """The values of the Observations in a bundle."""
    assert reply.status == 200, reply.raw
    return sorted(
        e["resource"]["valueQuantity"]["value"]
        for e in reply.json.get("entry", [])
        if e["resource"]["resourceType"] == "Observation"
    )


def test_standalone_launch_reaches_the_chosen_patient_only(town: Town) -> None:
    app = w.app("chart")
    flow = w.Flow(w.signed_in(town.doctor), app, "launch/patient openid fhirUser patient/*.rs")
    page = flow.open()
    assert page.status_code == 200
    assert "app.example" in page.headers["Content-Security-Policy"]
    found = flow.decide(page, q="单雄信")
    assert "单雄信" in found.content.decode()
    assert flow.decide(page, q="罗士信").context["hits"] == []
    page = flow.decide(found, person=town.person.number)
    assert "单雄信" in page.content.decode()
    answer = flow.agree(page)
    assert answer["state"] == "st-1"
    got = flow.exchange(answer["code"]).json()
    assert got["patient"] == town.person.number
    assert got["need_patient_banner"] is True
    assert got["expires_in"] == 3600
    assert "refresh_token" not in got
    door = w.door(got["access_token"])
    assert door("GET", f"Patient/{town.person.number}").status == 200
    assert door("GET", f"Patient/{town.one}").status == 200
    assert door("GET", f"Patient/{town.two}").status == 404
    assert door("GET", f"Patient/{town.second.number}").status == 404
    assert door("GET", "Patient").json["total"] == 1
    assert values(door("GET", "Observation")) == [120, 130]
    assert values(door("GET", f"Observation?patient={town.one}")) == [120, 130]
    assert values(door("GET", f"Observation?patient={town.two}")) == []
    assert values(door("GET", f"Patient/{town.two}/Observation")) == []
    assert door("GET", f"Patient/{town.two}/$everything").status == 404
    assert door("GET", "Observation/_history").json.get("entry") is None or all(
        e["resource"]["subject"]["reference"] == f"Patient/{town.one}"
        for e in door("GET", "Observation/_history").json["entry"]
    )
    assert (
        Door("whole")(
            "PUT", "Organization/O1", {"resourceType": "Organization", "id": "O1", "name": "医联体"}
        ).status
        == 201
    )
    assert door("GET", "Organization/O1").status == 200
    assert door("POST", "Observation", observation(town.one)).status == 403
    keys = KeySet.import_key_set(flow.browser.get("/auth/jwks").json())
    claims = jwt.decode(got["id_token"], keys, algorithms=["RS256"]).claims
    assert claims["aud"] == app.key
    assert claims["iss"] == "http://testserver/auth"
    assert claims["fhirUser"] == f"{w.FHIR}/Practitioner/{town.doctor.practitioner.code}"
    seen = AuditEvent.objects.filter(client_id=app.pk, account_id=town.doctor.pk, action="read")
    assert seen.filter(person_id=town.person.pk).exists()


def test_a_person_is_all_its_sources(town: Town) -> None:
    from tests.factories import make_resident_id

    number = {
        "system": "http://lianxin.example/id/resident-id-card",
        "value": make_resident_id(dt.date(1950, 1, 1)),
    }
    ids = []
    for door in (town.his, Door("lead", "SC-RMYY")):
        ids.append(door("POST", "Patient", patient("尉迟敬德", "1950-01-01", identifier=[number])).json["id"])
        assert door("POST", "Observation", observation(ids[-1], value=str(150 + len(ids)))).status == 201
    person = Person.objects.unscoped("test").get(pk=registry.by_patient_id(ids[0]))
    got = w.Flow(w.signed_in(town.doctor), w.app("chart")).tokens(person.number)
    door = w.door(got["access_token"])
    assert values(door("GET", f"Observation?patient=Patient/{got['patient']}")) == [151, 152]
    assert values(door("GET", "Observation")) == [151, 152]
    assert door("GET", "Patient").json["total"] == 2


def test_limits_of_scopes_are_search_conditions(town: Town) -> None:
    flow = w.Flow(
        w.signed_in(town.doctor), w.app("labs"), f"launch/patient patient/Observation.rs?category={LAB}"
    )
    got = flow.tokens(town.person.number)
    assert got["scope"].endswith("category=" + LAB)
    door = w.door(got["access_token"])
    assert values(door("GET", "Observation")) == [120]
    assert door("GET", "Observation?_summary=count").json["total"] == 1
    assert values(door("GET", "Observation?category=vital-signs")) == []
    assert door("GET", "Patient").status == 403
    all_of_them = town.his("GET", f"Observation?patient={town.one}&category=vital-signs").json["entry"][0][
        "resource"
    ]["id"]
    assert door("GET", f"Observation/{all_of_them}").status == 404
    assert door("GET", f"Observation/{all_of_them}/_history").status == 404
    assert values(door("GET", "Observation?patient.name=单雄信")) == []


def test_user_scopes_see_what_the_person_sees(town: Town) -> None:
    got = w.Flow(w.signed_in(town.doctor), w.app("desk"), "user/Patient.rs user/Observation.read").tokens()
    assert "patient" not in got
    door = w.door(got["access_token"])
    assert door("GET", "Patient").json["total"] == 2
    assert values(door("GET", "Observation")) == [120, 120, 130, 130]
    assert door("GET", "Condition").status == 403
    assert door("GET", f"Patient/{town.foreign.number}").status == 404
    manager = account_for(town.county.posts["manager"])
    assert w.Flow(w.signed_in(manager), w.app("desk 2"), "user/*.rs").open().status_code == 403


def test_writing_needs_the_scope_the_role_and_the_patient(town: Town) -> None:
    browser = w.signed_in(town.doctor)
    got = w.Flow(
        browser, w.app("notes", "patient/Observation.cruds"), "launch/patient patient/Observation.cruds"
    ).tokens(town.person.number)
    door = w.door(got["access_token"])
    made = door("POST", "Observation", observation(town.one, value="140"))
    assert made.status == 201, made.raw
    assert door("POST", "Observation", observation(town.two, value="140")).status in (403, 404, 422)
    assert values(town.his("GET", f"Observation?patient={town.two}")) == [120, 130]
    theirs = town.his("GET", f"Observation?patient={town.two}").json["entry"][0]["resource"]["id"]
    body = observation(town.one, value="150").replace(
        b'{"resource', f'{{"id":"{theirs}","resource'.encode(), 1
    )
    assert door("PUT", f"Observation/{theirs}", body).status in (403, 404)
    assert values(town.his("GET", f"Observation?patient={town.two}")) == [120, 130]
    assert door("DELETE", f"Observation/{made.json['id']}").status == 403  # a family doctor deletes nothing
    assert (
        door(
            "POST",
            "Condition",
            {"resourceType": "Condition", "subject": {"reference": f"Patient/{town.one}"}},
        ).status
        == 403
    )


def test_launch_from_the_record(town: Town) -> None:
    visit = town.his(
        "POST", "Encounter", {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": f"Patient/{town.one}"}},
    ).json["id"]  # fmt: skip
    browser = w.signed_in(town.doctor)
    app = w.app("growth", launch_url="https://app.example/launch")
    page = browser.post("/auth/launch", {"app": app.key, "person": town.person.number, "encounter": visit})
    assert page.status_code == 200
    target = page.context["target"]
    assert target.startswith("https://app.example/launch?iss=http%3A%2F%2Ftestserver%2Ffhir&launch=")
    launch = target.partition("launch=")[2]
    launch = launch.partition("launch=")[2] or launch
    flow = w.Flow(browser, app, "launch openid patient/*.rs")
    got = flow.tokens(launch=launch)
    assert (got["patient"], got["encounter"]) == (town.person.number, visit)
    again = w.sent(flow.open(launch=launch))
    assert again["error"] == "invalid_request"
    other = w.app("other app", launch_url="https://other.example/launch")
    page = browser.post("/auth/launch", {"app": app.key, "person": town.person.number})
    launch = page.context["target"].rpartition("launch=")[2]
    assert w.sent(w.Flow(browser, other).open(launch=launch))["error"] == "invalid_request"
    colleague = w.signed_in(account_for(town.county.posts["family0"]))
    assert w.sent(w.Flow(colleague, app).open(launch=launch))["error"] == "invalid_request"
    with clock.at(MONDAY + dt.timedelta(minutes=6)):
        assert w.sent(flow.open(launch=launch))["error"] == "invalid_request"
    assert browser.post("/auth/launch", {"app": app.key, "person": town.foreign.number}).status_code == 403
    assert (
        browser.post(
            "/auth/launch", {"app": app.key, "person": town.person.number, "encounter": "nope"}
        ).status_code
        == 400
    )
    assert browser.post("/auth/launch", {"app": "nope", "person": town.person.number}).status_code == 400


def test_what_an_app_may_not_send(town: Town) -> None:
    browser = w.signed_in(town.doctor)
    app = w.app("chart")
    flow = w.Flow(browser, app)
    for told in (
        {"client_id": "nobody"},
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": w.BACK + "/"},
        {"redirect_uri": None},
    ):
        answer = flow.open(**told)
        assert answer.status_code == 400, told
        assert "Location" not in answer.headers
    for sent, error in (
        ({"response_type": "token"}, "unsupported_response_type"), ({"aud": "https://evil.example/fhir"}, "invalid_request"),
        ({"aud": None}, "invalid_request"), ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"), ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "system/*.rs"}, "invalid_scope"), ({"scope": ""}, "invalid_scope"), ({"scope": "launch/patient"}, "invalid_scope"),
        ({"launch": "made-up"}, "invalid_request"), ({"prompt": "none"}, "interaction_required"), ({"state": None}, "invalid_request"),
    ):  # fmt: skip
        answer = flow.open(**sent)
        assert answer.status_code == 302, sent
        assert answer.headers["Location"].startswith(w.BACK + "?"), sent
        assert w.sent(answer)["error"] == error, sent
        assert w.sent(answer).get("state") == (None if "state" in sent else "st-1")
    from django.test import Client as Browser

    signed_out = w.Flow(Browser(), app).open()
    assert signed_out.status_code == 302
    assert signed_out.headers["Location"].startswith("/login")
    theirs = clients.save(
        w.ADMIN,
        clients.Draft(
            "theirs", "app", make_institution("FAR", "hospital"), "patient/*.rs", redirect_uris=[w.BACK]
        ),
    )
    assert w.sent(w.Flow(browser, theirs).open())["error"] == "access_denied"


def test_saying_no_and_saying_yes_to_less(town: Town) -> None:
    browser = w.signed_in(town.doctor)
    flow = w.Flow(
        browser, w.app("chart"), "launch/patient patient/Observation.rs patient/Condition.rs offline_access"
    )
    page = flow.decide(flow.open(), person=town.person.number)
    assert w.sent(flow.decide(page, deny="1"))["error"] == "access_denied"
    assert w.sent(flow.decide(page, allow="1"))["error"] == "access_denied"
    code = flow.agree(page, ["patient/Observation.rs", "patient/*.cruds", "user/*.rs"])["code"]
    got = flow.exchange(code).json()
    assert got["scope"] == "launch/patient patient/Observation.rs"
    assert "refresh_token" not in got
    page.context["blob"]
    stolen = w.signed_in(account_for(town.county.posts["family0"])).post(
        "/auth/authorize/decide",
        {"blob": page.context["blob"], "allow": "1", "scope": "patient/Observation.rs"},
    )
    assert stolen.status_code == 400
    assert browser.post("/auth/authorize/decide", {"blob": "x", "allow": "1"}).status_code == 400
    foreign = flow.decide(flow.open(), person=town.foreign.number)
    assert "blob" in foreign.context
    assert "lines" not in foreign.context


def test_codes_are_good_once_for_one_minute_with_their_verifier(town: Town) -> None:
    browser = w.signed_in(town.doctor)
    app, other = w.app("chart"), w.app("second")
    flow = w.Flow(browser, app)
    for wrong in (
        {"code_verifier": "x" * 43},
        {"code_verifier": None},
        {"redirect_uri": "https://evil.example/"},
        {"client_id": other.key},
    ):
        code = flow.code(town.person.number)
        assert flow.exchange(code, **wrong).json()["error"] == "invalid_grant", wrong
        after = flow.exchange(code)
        assert (after.status_code == 200) == ("client_id" in wrong), wrong
    code = flow.code(town.person.number)
    with clock.at(MONDAY + dt.timedelta(seconds=61)):
        assert flow.exchange(code).json()["error"] == "invalid_grant"
    code = flow.code(town.person.number)
    token = flow.exchange(code).json()["access_token"]
    assert w.door(token)("GET", "Patient").status == 200
    assert flow.exchange(code).json()["error"] == "invalid_grant"
    assert w.door(token)("GET", "Patient").status == 401


def test_refresh_tokens_turn_over_and_a_stolen_one_ends_everything(town: Town) -> None:
    flow = w.Flow(w.signed_in(town.doctor), w.app("chart"), "launch/patient patient/*.rs offline_access")
    first = flow.tokens(town.person.number)
    second = flow.refresh(first["refresh_token"]).json()
    assert second["patient"] == town.person.number
    assert second["refresh_token"] != first["refresh_token"]
    fewer = flow.refresh(second["refresh_token"], scope="patient/Observation.rs").json()
    assert fewer["scope"] == "patient/Observation.rs"
    assert w.door(fewer["access_token"])("GET", "Patient").status == 403
    more = flow.refresh(fewer["refresh_token"], scope="patient/*.cruds")
    assert more.json()["error"] == "invalid_scope"
    third = flow.refresh(fewer["refresh_token"]).json()
    assert w.door(third["access_token"])("GET", "Patient").status == 200
    assert flow.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"  # the thief, or the robbed
    assert w.door(third["access_token"])("GET", "Patient").status == 401
    assert flow.refresh(third["refresh_token"]).json()["error"] == "invalid_grant"


def test_access_ends_with_the_person_behind_it(town: Town) -> None:
    browser = w.signed_in(town.doctor)
    online = w.Flow(browser, w.app("online"), "launch/patient patient/*.rs online_access").tokens(
        town.person.number
    )
    offline_flow = w.Flow(browser, w.app("offline"), "launch/patient patient/*.rs offline_access")
    offline = offline_flow.tokens(town.person.number)
    browser.post("/logout")
    assert w.door(online["access_token"])("GET", "Patient").status == 401
    assert w.door(offline["access_token"])("GET", "Patient").status == 200
    relationships.end("index", person_id=town.person.pk)
    assert w.door(offline["access_token"])("GET", f"Patient/{town.person.number}").status == 404
    town.doctor.is_active = False
    town.doctor.save()
    tokens.forget()
    assert w.door(offline["access_token"])("GET", "Patient").status == 401
    assert offline_flow.refresh(offline["refresh_token"]).json()["error"] == "invalid_grant"


def test_a_person_takes_back_what_was_allowed(town: Town) -> None:
    browser = w.signed_in(town.doctor)
    got = w.Flow(browser, w.app("chart"), "launch/patient patient/*.rs offline_access").tokens(
        town.person.number
    )
    page = browser.get("/auth/grants")
    assert "chart" in page.content.decode()
    grant = Grant.objects.get()
    colleague = w.signed_in(account_for(town.county.posts["family0"]))
    assert colleague.post("/auth/grants", {"end": grant.pk}).status_code == 404
    assert browser.post("/auth/grants", {"end": grant.pk}).status_code == 302
    assert w.door(got["access_token"])("GET", "Patient").status == 401


def test_introspecting_and_revoking_an_apps_tokens(town: Town) -> None:
    key = w.new_key()
    app = clients.save(
        w.ADMIN,
        clients.Draft(
            "kept", "app", None, "patient/*.rs offline_access", w.key_set(key), redirect_uris=[w.BACK]
        ),
    )
    flow = w.Flow(w.signed_in(town.doctor), app, "launch/patient patient/*.rs offline_access")
    code = flow.code(town.person.number)
    assert flow.exchange(code).status_code == 401  # it has keys, so its name alone is not enough

    def proof() -> dict[str, Any]:
        return {"client_assertion_type": w.JWT_BEARER, "client_assertion": w.assertion(app, key)}

    got = flow.exchange(flow.code(town.person.number), **proof()).json()
    about = w.post(flow.browser, "/auth/introspect", {"token": got["access_token"], **proof()}).json()
    assert about["active"] is True
    assert about["patient"] == town.person.number
    assert w.post(flow.browser, "/auth/revoke", {"token": got["refresh_token"], **proof()}).status_code == 200
    assert w.door(got["access_token"])("GET", "Patient").status == 401


def test_native_apps_get_their_own_scheme(town: Town) -> None:
    back = "example.app:/back"
    app = w.app("native", redirect_uris=[back])
    flow = w.Flow(w.signed_in(town.doctor), app, "user/Patient.rs", redirect=back)
    answer = flow.decide(flow.open(), allow="1", scope="user/Patient.rs")
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("example.app:/back?code=")


def test_a_merge_takes_grants_and_refusals_along(town: Town) -> None:
    from lianxin.access import consent
    from lianxin.access.models import Consent
    from lianxin.access.scope import Scope
    from lianxin.index import links

    got = w.Flow(w.signed_in(town.doctor), w.app("chart"), "launch/patient patient/*.rs").tokens(
        town.person.number
    )
    consent.refuse(Scope.system("test"), town.person.pk, evidence="form 1")
    event = links.merge(Scope.system("test"), town.second, town.person, "one")
    assert Consent.objects.get().person_id == town.second.pk
    assert Grant.objects.get().person_id == town.second.pk
    assert w.door(got["access_token"])("GET", f"Patient/{town.two}").status == 200
    links.unmerge(Scope.system("test"), event.pk)
    assert Consent.objects.get().person_id == town.person.pk
    assert Grant.objects.get().person_id == town.person.pk
