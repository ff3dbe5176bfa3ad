"""Devices: ASTM's frames and records over a socket, HL7 v2 over the house's door; nothing is attached to a tube it does not belong to."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from lianxin.access import tokens
from lianxin.access.models import Client
from lianxin.duty.errors import MoveError
from lianxin.exchange.v2 import message, receiving
from lianxin.exchange.v2.models import Peer
from lianxin.regional.laboratory import astm, devices, listener, results, service
from lianxin.regional.laboratory.models import Result, Stray
from lianxin.standards import clock
from tests.laboratory import world

ENQ, ACK, NAK, EOT = (bytes([b]) for b in (astm.ENQ, astm.ACK, astm.NAK, astm.EOT))


def records(*lines: str) -> bytes:
    return "\r".join(["H|\\^&|||XN^1.0|||||||P|LIS2-A2|20261124083000", *lines, "L|1|N", ""]).encode()


def send(link: astm.Link, data: bytes) -> list[bytes]:
    return [link.feed(ENQ), *(link.feed(f) for f in astm.frames(data)), link.feed(EOT)]


def test_frames_in_pieces_doubled_or_spoilt() -> None:
    data = records(
        "P|1",
        "O|1|000000000150||^^^WBC|R",
        "R|1|^^^WBC|6.2|10*9/L||N||F||||20261124083000",
        "C|1|I|" + "x" * 500,
    )
    link = astm.Link()
    parts = astm.frames(data)
    assert len(parts) > 6
    assert link.feed(ENQ) == ACK
    for n, part in enumerate(parts):
        spoilt = part[:2] + b"#" + part[3:]
        assert link.feed(spoilt) == NAK
        for byte in part[:-1]:
            assert link.feed(bytes([byte])) == b""
        assert link.feed(part[-1:]) == ACK
        if n == 2:
            assert link.feed(part) == ACK  # our answer was lost
    assert link.feed(parts[-2]) == NAK  # out of turn
    link.feed(EOT)
    assert link.messages == [data]
    link.feed(ENQ + parts[0] + EOT)
    assert link.messages == [data]  # cut off: no L record


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=6))
def test_whatever_comes_over_the_line_is_survived(noise: bytes, cuts: list[int]) -> None:
    link = astm.Link()
    at = 0
    for cut in [*cuts, len(noise)]:
        link.feed(noise[at : at + cut])
        at += cut
    link.feed(EOT + EOT)
    data = records("P|1", "O|1|5||^^^K|R", "R|1|^^^K|4.1")
    link.messages.clear()
    if link._state == "idle":
        send(link, data)
        assert link.messages == [data]


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=120))
def test_whatever_a_message_says_it_is_read_or_refused(text: str) -> None:
    try:
        astm.read(text.encode())
        astm.read(records(*text.split("\n")))
    except astm.Broken:
        pass


def test_records_are_understood() -> None:
    said = astm.read(
        records("P|1|000012", "O|1|A&S&1||^^^WBC|R", "R|1|^^^WBC^1|<0.05|10*9/L||L~*R||F||||20261124083000", "R|2|^^^HGB|x|g/L||||X",
                "Q|1|^000000000150||ALL", "R|3", "Z|1")
    )  # fmt: skip
    assert said.samples[0].number == "A^1"
    assert said.samples[0].person == "000012"
    assert said.samples[0].rows == [
        {"test": "WBC", "raw": "<0.05", "unit": "10*9/L", "flags": "L~*R", "at": "2026-11-24T08:30:00"}
    ]
    assert said.queries == ["000000000150"]
    assert len(said.faults) == 2
    with pytest.raises(astm.Broken):
        astm.read(b"P|1")
    assert b"Q\rL|1|F" in astm.answer("1", ["WBC"])
    assert astm.read(astm.answer("1", ["WBC", "A^B"])).samples[0].number == "1"
    assert astm.answer("1", []).endswith(b"L|1|I\r")


@pytest.mark.django_db
def test_what_fits_no_tube_is_kept_apart_and_never_attached() -> None:
    county = world.make_world()
    one = world.analyser(county)
    reading = world.received(county, "LAB-CBC")
    travelling = world.order(county, "LAB-CBC")
    world.sent(county, travelling)
    row = {"test": "HGB", "raw": "140", "at": "2026-11-24T08:00:00"}
    lead = county.lead.pk
    assert devices.take(lead, one, "999", [row], "astm")["stray"] == ["unknown"]
    assert devices.take(lead, one, "999", [row], "astm")["stray"] == ["unknown"]  # the same again: one row
    assert devices.take(lead, one, travelling.accession, [row], "astm")["stray"] == ["not_here"]
    assert devices.take(lead, one, reading.accession, [row], "astm", person_number="77")["stray"] == [
        "person"
    ]
    assert devices.take(lead, one, reading.accession, [{"test": "GLU", "raw": "5"}], "astm")["stray"] == [
        "not_ordered"
    ]
    assert devices.take(county.townships[0].pk, one, reading.accession, [row], "astm")["stray"] == ["unknown"]
    mixed = devices.take(
        lead,
        one,
        reading.accession,
        [row, {"test": "WBC", "raw": "----"}, {"test": "PLT", "raw": "200", "unit": "mmol/L"}],
        "astm",
    )
    assert (mixed["taken"], mixed["stray"]) == (["HGB"], ["unreadable"])
    assert world.values(reading) == {"HGB": "140"}
    assert not Result.objects.unscoped("test").filter(reading=travelling).exists()
    assert sorted(Stray.objects.unscoped("test").values_list("reason", flat=True)) == [
        "not_here", "not_ordered", "person", "unknown", "unknown", "unreadable",
    ]  # fmt: skip
    lab = world.scope_of(county, "lab0")
    stray = Stray.objects.unscoped("test").filter(institution=county.lead).earliest("pk")
    with pytest.raises(MoveError):
        devices.close(lab, str(stray.pk), " ")
    devices.close(lab, str(stray.pk), "条码打印错误，已重测")
    with pytest.raises(MoveError):
        devices.close(lab, str(stray.pk), "再次")


@pytest.mark.django_db
def test_sent_again_is_one_and_a_late_rerun_is_kept_beside() -> None:
    county = world.make_world()
    one = world.analyser(county)
    reading = world.received(county, "LAB-GLU")
    row = {"test": "GLU", "raw": "94", "unit": "mg/dL", "at": clock.now().isoformat(), "flags": "N"}
    assert devices.take(county.lead.pk, one, reading.accession, [row], "astm")["stray"] == [
        "unreadable"
    ]  # mass is not amount
    row |= {"raw": "5.2", "unit": "mmol/l"}
    assert devices.take(county.lead.pk, one, reading.accession, [row], "astm")["taken"] == ["GLU"]
    assert devices.take(county.lead.pk, one, reading.accession, [row], "astm")["again"] == ["GLU"]
    world.act(county, "lab0", reading, "verify")
    late = devices.take(county.lead.pk, one, reading.accession, [row | {"raw": "9.9"}], "astm")
    assert late["late"] == ["GLU"]
    assert world.values(reading) == {"GLU": "5.20"}
    tried = results.attempts(service.reading_of(reading.case))["GLU"]
    assert [(r.attempt, r.state) for r in tried] == [(2, "earlier"), (1, "current")]
    twice = world.received(county, "LAB-GLU")
    both = [row | {"raw": "5.0"}, row | {"raw": "5.1", "at": ""}]
    devices.take(county.lead.pk, one, twice.accession, both, "astm")
    assert world.values(twice) == {"GLU": "5.10"}


@pytest.mark.django_db
def test_controls_of_a_device_go_to_quality_control() -> None:
    county = world.make_world()
    control = world.control(county)
    row = {"test": "GLU", "raw": "5.05", "at": "2026-11-24T08:00:00"}
    assert devices.take(county.lead.pk, None, "QC:GLU:1", [row], "astm")["taken"] == ["GLU"]
    assert devices.take(county.lead.pk, None, "QC:GLU:1", [row], "astm")["again"] == ["GLU"]
    assert devices.take(county.lead.pk, None, "QC:GLU:2", [row], "astm")["stray"] == ["unknown"]
    assert control.measures.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_device_on_the_wire_asks_what_is_wanted_and_sends_it() -> None:
    county = world.make_world("LW")
    one = world.analyser(county, tests={c: c for c in world.CBC})
    reading = world.received(county, "LAB-CBC")
    with listener.Listener(("127.0.0.1", 0), one) as server:
        server.start()
        with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=20) as line:
            _talk(line, records(f"Q|1|^{reading.accession}||ALL||||||||O"))
            asked = _listen(line)
            assert b"^^^HGB" in asked.encode()
            rows = [
                f"R|{n}|^^^{c}|{v}|||N||F||||20261124083000" for n, (c, v) in enumerate(world.CBC.items(), 1)
            ]
            _talk(line, records("P|1", f"O|1|{reading.accession}||^^^ALL|R", *rows))
            _talk(line, records("P|1", f"O|1|{reading.accession}||^^^ALL|R", *rows))
        server.shutdown()
    assert world.state(reading) == "resulted"
    assert len(world.values(reading)) == len(world.CBC)
    assert Result.objects.unscoped("test").filter(reading=reading).count() == len(world.CBC)
    connection.close()


def _talk(line: socket.socket, data: bytes) -> None:
    line.sendall(ENQ)
    assert line.recv(1) == ACK
    for part in astm.frames(data):
        line.sendall(part)
        assert line.recv(1) == ACK
    line.sendall(EOT)


def _listen(line: socket.socket) -> str:
    """The host's turn: take its message."""
    link = astm.Link()
    while not link.messages:
        data = line.recv(4096)
        assert data
        back = link.feed(data)
        if back:
            line.sendall(back)
    return link.messages[0].decode()


def _peer(county: Any) -> None:
    tokens.issue("AULIS", "system/*.cruds", county.lead.code)
    Peer.objects.create(
        name="AULIS", application="AULIS", facility="F", client=Client.objects.get(name="AULIS"), default_system="urn:oid:2.999.7", created_at=clock.now()
    )  # fmt: skip


def _v2(kind: str, control: str, *segments: str) -> message.Message:
    head = f"MSH|^~\\&|AULIS|F|LIANXIN|LX|20261124090000||{kind}|{control}|P|2.5"
    return message.parse(receiving.receive("\r".join([head, *segments]).encode()))


@pytest.mark.django_db(transaction=True)
def test_hl7_v2_results_over_the_houses_door() -> None:
    county = world.make_world("LV")
    _peer(county)
    reading = world.received(county, "LAB-BMP")
    number = reading.accession
    told = _v2(
        "ORU^R01^ORU_R01", "A1", "PID|1||X^^^L&2.999&ISO^MR||测试||19700101|M", f"OBR|1||{number}|LAB-BMP^肾功^L",
        "OBX|1|NM|2823-3^K^LN||4.2|mmol/L|3.5-5.3|N|||F|||20261124083000", "OBX|2|SN|2951-2^Na^LN||^140|mmol/L||N|||F",
        "OBX|3|NM|NOPE^x^L||1|g/L||N|||F",
    )  # fmt: skip
    assert told.text("MSA", 1) == "AE"  # one test was not ordered: kept apart, and said
    assert world.values(reading) == {"K": "4.20", "NA": "140.0"}
    again = _v2(
        "OUL^R22^OUL_R22", "A2", f"SPM|1|{number}||SER", "OBR|1|||LAB-BMP", "OBX|1|NM|CL||103|mmol/L||N|||F", "OBX|2|NM|2823-3^K^LN||4.2|mmol/L||N|||F|||20261124083000",
    )  # fmt: skip
    assert again.text("MSA", 1) == "AA"
    assert world.values(reading) == {"K": "4.20", "NA": "140.0", "CL": "103.0"}
    assert Result.objects.unscoped("test").filter(reading=reading, analyte="K").count() == 1
    lost = _v2("OUL^R22^OUL_R22", "A3", "SPM|1|NOBODY||SER", "OBR|1|||X", "OBX|1|NM|K||4|mmol/L||N|||F")
    assert lost.text("MSA", 1) == "AE"
    assert Stray.objects.unscoped("test").filter(sample="NOBODY").count() == 1
