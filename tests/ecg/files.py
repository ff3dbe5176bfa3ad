"""Writers of ECG files, so that what is read back can be compared sample by sample with what was written."""

from __future__ import annotations

import base64
import datetime as dt
import io
import struct

import numpy as np

from lianxin.regional.ecg.wave import Wave

SCP_LEADS = {"I": 1, "II": 2, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8}
MFER_LEADS = {"I": 1, "II": 2, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8}


def csv(
    wave: Wave,
    *,
    patient: str = "",
    name: str = "",
    sex: str = "",
    birth: str = "",
    at: dt.datetime | None = None,
) -> bytes:
    """A table with its notes, µV with one decimal."""
    notes = {"hz": f"{wave.hz:g}", "unit": "uV", "patient": patient, "name": name, "sex": sex, "birth": birth,
             "time": at.isoformat(timespec="seconds") if at else ""}  # fmt: skip
    out = io.StringIO()
    for key, value in notes.items():
        if value:
            out.write(f"# {key}: {value}\n")
    out.write(",".join(wave.leads) + "\n")
    values = np.array([wave.microvolts[n] for n in wave.leads]).T
    np.savetxt(out, values, fmt="%.1f", delimiter=",")
    return out.getvalue().encode()


def aecg(wave: Wave, *, patient: str = "A1", at: dt.datetime = dt.datetime(2026, 11, 23, 9, 0)) -> bytes:
    """HL7 aECG (ANSI/HL7 V3 ECG R1): digits and a scale for every lead."""
    stamp = at.strftime("%Y%m%d%H%M%S")
    rows = "".join(
        f'<component><sequence><code code="MDC_ECG_LEAD_{n.upper() if n.startswith("aV") else n}" codeSystem="2.16.840.1.113883.6.24"/>'
        f'<value xsi:type="SLIST_PQ"><origin value="0" unit="uV"/><scale value="{g:g}" unit="uV"/>'
        f"<digits>{' '.join(str(v) for v in row.tolist())}</digits></value></sequence></component>"
        for n, g, row in zip(wave.leads, wave.gains, wave.counts, strict=True)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><AnnotatedECG xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f'<id root="1.2.3.4"/><code code="93000"/><effectiveTime><low value="{stamp}"/><high value="{stamp}"/></effectiveTime>'
        f'<componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject><id extension="{patient}" root="1.2.3"/>'
        '<subjectDemographicPerson><administrativeGenderCode code="M"/><birthTime value="19600304"/></subjectDemographicPerson>'
        "</trialSubject></subject></subjectAssignment></componentOf></timepointEvent></componentOf>"
        f'<component><series><code code="RHYTHM"/><effectiveTime><low value="{stamp}"/></effectiveTime>'
        '<component><sequenceSet><component><sequence><code code="TIME_ABSOLUTE"/>'
        f'<value xsi:type="GLIST_TS"><head value="{stamp}"/><increment value="{1 / wave.hz:g}" unit="s"/></value></sequence></component>{rows}'
        "</sequenceSet></component></series></component></AnnotatedECG>"
    ).encode()  # fmt: skip


def mfer(wave: Wave) -> bytes:
    """MFER (ISO 22077-1): one frame, little endian, 16-bit samples, channels one after the other."""

    def tag(code: int, value: bytes) -> bytes:
        size = bytes([len(value)]) if len(value) < 128 else b"\x84" + struct.pack(">I", len(value))
        return bytes([code]) + size + value

    count = wave.counts.shape[1]
    head = tag(0x40, b"MFR Standard 12 leads ECG".ljust(32)) + tag(0x01, b"\x01") + tag(0x08, b"\x01\x00")
    head += tag(0x0B, b"\x01\xfd" + struct.pack("<h", round(1000 / wave.hz)))  # interval: value × 10^-3 s
    head += tag(
        0x0C, b"\x00\xf9" + struct.pack("<h", round(wave.gains[0] * 10))
    )  # resolution: value × 10^-7 V
    head += (
        tag(0x0A, b"\x00")
        + tag(0x04, struct.pack("<I", count))
        + tag(0x05, struct.pack("<I", len(wave.leads)))
        + tag(0x06, struct.pack("<I", 1))
    )
    for i, name in enumerate(wave.leads):
        channel = tag(0x09, bytes([MFER_LEADS[name]]))
        head += b"\x3f" + bytes([i]) + bytes([len(channel)]) + channel
    return head + tag(0x1E, wave.counts.astype("<i2").tobytes()) + b"\x80\x00"


def scp(wave: Wave, *, patient: str = "S1") -> bytes:
    """SCP-ECG (EN 1064): sections 0, 1, 3 and 6, rhythm data as 16-bit samples without Huffman coding or differences."""

    def crc(data: bytes) -> int:
        value = 0xFFFF
        for byte in data:
            value ^= byte << 8
            for _ in range(8):
                value = ((value << 1) ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
        return value

    def section(number: int, body: bytes) -> bytes:
        body += b"\0" * (len(body) % 2)
        rest = (
            struct.pack("<HIBB6s", number, len(body) + 16, 20, 20, b"SCPECG" if number == 0 else b"\0" * 6)
            + body
        )
        return struct.pack("<H", crc(rest)) + rest

    def field(tag: int, value: bytes) -> bytes:
        return struct.pack("<BH", tag, len(value)) + value

    count = wave.counts.shape[1]
    one = (
        field(0, b"SYNTH\0")
        + field(2, patient.encode() + b"\0")
        + field(5, struct.pack("<HBB", 1960, 3, 4))
        + field(8, b"\x01")
    )
    one += field(25, struct.pack("<HBB", 2026, 11, 23)) + field(26, bytes([9, 0, 0])) + field(255, b"")
    three = bytes([len(wave.leads), (len(wave.leads) << 3) | 4])
    three += b"".join(struct.pack("<IIB", 1, count, SCP_LEADS[n]) for n in wave.leads)
    six = struct.pack("<HHBB", round(wave.gains[0] * 1000), round(1_000_000 / wave.hz), 0, 0)
    six += struct.pack("<H", 2 * count) * len(wave.leads) + b"".join(
        row.astype("<i2").tobytes() for row in wave.counts
    )
    bodies = {1: section(1, one), 3: section(3, three), 6: section(6, six)}
    pointers = 12
    at = 6 + 16 + pointers * 10
    table = struct.pack("<HII", 0, 16 + pointers * 10, 7)
    for number in range(1, pointers):
        body = bodies.get(number, b"")
        table += struct.pack("<HII", number, len(body), at + 1 if body else 0)
        at += len(body)
    whole = section(0, table) + b"".join(bodies.values())
    size = struct.pack("<I", len(whole) + 6)
    return struct.pack("<H", crc(size + whole)) + size + whole


def dicom(
    wave: Wave,
    *,
    patient: str,
    accession: str = "",
    name: str = "",
    at: dt.datetime = dt.datetime(2026, 11, 23, 9, 0),
) -> bytes:
    """A 12-lead ECG waveform object as pydicom writes it."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.1"  # type: ignore[assignment]
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    made.Modality, made.PatientID, made.PatientName, made.AccessionNumber = "ECG", patient, name, accession
    made.AcquisitionDateTime = at.strftime("%Y%m%d%H%M%S")
    group = Dataset()
    group.WaveformOriginality, group.SamplingFrequency = "ORIGINAL", wave.hz
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = wave.counts.shape
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.ChannelDefinitionSequence = []
    for name, gain in zip(wave.leads, wave.gains, strict=True):
        channel, source, unit = Dataset(), Dataset(), Dataset()
        source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = (
            f"MDC_ECG_LEAD_{name}",
            "MDC",
            f"Lead {name}",
        )
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
        channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence = [source], [unit]
        channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor, channel.ChannelBaseline = (
            gain,
            1,
            0,
        )
        channel.WaveformBitsStored = 16
        group.ChannelDefinitionSequence.append(channel)
    group.WaveformData = np.ascontiguousarray(wave.counts.T).astype("<i2").tobytes()
    made.WaveformSequence = [group]
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def b64(data: bytes) -> str:
    """As text."""
    return base64.b64encode(data).decode()
