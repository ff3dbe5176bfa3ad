"""Every format through its adapter into the one array, compared with what was written; hostile bytes are answered in words."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lianxin.duty.errors import Refused
from lianxin.regional.ecg import importing, wave
from tests.ecg import files, synthetic

WAVE = synthetic.ecg(noise=12, seconds=10)
PATH = Path(pydicom.data.get_testdata_file("waveform_ecg.dcm"))  # type: ignore[arg-type]
MADE = {
    "DICOM": files.dicom(WAVE, patient="D1"), "SCP-ECG": files.scp(WAVE), "HL7 aECG": files.aecg(WAVE),
    "MFER": files.mfer(WAVE), "CSV": files.csv(WAVE, patient="C1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MADE)
def test_every_sample_comes_back(kind: str) -> None:
    found = importing.read(MADE[kind], "recording")
    assert found.format == kind
    assert (found.wave.hz, found.wave.leads) == (500.0, WAVE.leads)
    for lead in WAVE.leads:
        assert np.allclose(
            found.wave.microvolts[lead], WAVE.microvolts[lead], atol=0.5 if kind == "CSV" else 1e-6
        )


def test_patient_and_time_as_the_device_said() -> None:
    assert importing.read(MADE["DICOM"]).patient.id == "D1"
    scp = importing.read(MADE["SCP-ECG"])
    assert (scp.patient.id, scp.patient.sex, str(scp.patient.birth)) == ("S1", "male", "1960-03-04")
    assert scp.taken_at is not None
    assert scp.taken_at.isoformat() == "2026-11-23T09:00:00+08:00"
    assert importing.read(MADE["HL7 aECG"]).patient.id == "A1"


def test_pydicoms_ecg_against_pydicom_itself() -> None:
    found = importing.read(PATH.read_bytes(), "waveform_ecg.dcm")
    truth = pydicom.dcmread(PATH).waveform_array(0)
    assert (found.wave.hz, len(found.wave.leads), found.wave.seconds) == (1000.0, 12, 10.0)
    for i, lead in enumerate(wave.STANDARD):
        assert np.allclose(found.wave.microvolts[lead], truth[:, i])
    assert found.patient.id == "642341"
    assert found.measured["qrs"] == 75


def test_storage_keeps_every_count_and_gaps() -> None:
    counts = WAVE.counts.copy()
    counts[2, 100:180] = wave.MISSING
    gapped = wave.Wave(WAVE.leads, WAVE.hz, WAVE.gains, counts)
    assert np.array_equal(wave.unpacked(gapped.packed(), 8), counts)
    assert len(WAVE.packed()) < WAVE.counts.nbytes * 0.75
    assert np.isnan(gapped.microvolts["V1"][150])


def test_derived_leads_follow_einthoven() -> None:
    leads = WAVE.standard()
    assert tuple(leads) == wave.STANDARD
    assert WAVE.derived == ("III", "aVR", "aVL", "aVF")
    assert np.allclose(leads["I"] + leads["III"], leads["II"])
    assert np.allclose(leads["aVR"] + leads["aVL"] + leads["aVF"], 0, atol=1e-9)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8\xff\xe0" + b"0" * 99, b"%PDF-1.7", b"hello", b"<?xml version='1.0'?><a/>", b"PK\x03\x04" + b"\0" * 50,
     b"<!DOCTYPE a [<!ENTITY b 'c'>]><AnnotatedECG>&b;</AnnotatedECG>", b"# hz: 500\nI,II\n1,x\n", b"# hz: 500\nI,II\n1,2\n3\n",
     b"I,II\n1,2\n", b"# hz: nan\nI,II\n" + b"1,2\n" * 5000, b"# hz: 500\n# unit: cm\nI,II\n" + b"1,2\n" * 5000, b"# hz: 500\nI,II\n" + b"1,2\n" * 9],
)  # fmt: skip
def test_what_is_no_ecg_is_said_in_words(data: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        importing.read(data, "x.bin")
    assert "file" in refusal.value.errors


@pytest.mark.parametrize("kind", MADE)
def test_cut_off_files_are_refused_or_shorter_never_wrong(kind: str) -> None:
    data = MADE[kind]
    for share in (0.02, 0.3, 0.6, 0.97):
        try:
            found = importing.read(data[: int(len(data) * share)], "cut")
        except Refused:
            continue
        count = found.wave.counts.shape[1]
        assert kind in ("CSV", "MFER", "DICOM")
        for lead in found.wave.leads:
            known = np.isfinite(found.wave.microvolts[lead])
            assert np.allclose(
                found.wave.microvolts[lead][known], WAVE.microvolts[lead][:count][known], atol=0.5
            )


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(sorted(MADE)), at=st.integers(0, 3000), byte=st.integers(0, 255))
def test_spoilt_bytes_never_break_the_reader(kind: str, at: int, byte: int) -> None:
    data = bytearray(MADE[kind][:60_000] if kind == "HL7 aECG" else MADE[kind])
    data[at % len(data)] = byte
    try:
        found = importing.read(bytes(data), "spoilt")
    except Refused:
        return
    assert found.wave.counts.dtype == np.int16


def test_the_hash_is_of_the_bytes_as_sent() -> None:
    assert hashlib.sha256(MADE["SCP-ECG"]).hexdigest() != hashlib.sha256(MADE["SCP-ECG"][:-1]).hexdigest()
