"""From a device's file to :class:`wave.Wave`: which adapter reads it, what it says of the patient, device and time.

DICOM, SCP-ECG, HL7 aECG, MFER and the vendors' XML are read by ecgdatakit (Apache-2.0); CSV is read here (``csv_file``). What a parser
makes of hostile bytes never leaves this module: the caller gets a recording or a :class:`duty.errors.Refused` in words.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import re
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lianxin.duty.errors import Refused
from lianxin.regional.ecg import csv_file, errors, wave
from lianxin.regional.ecg.wave import STANDARD, Wave
from lianxin.standards import clock

log = logging.getLogger(__name__)
ADAPTERS = {
    "DICOMWaveformParser": "DICOM", "SCPECGParser": "SCP-ECG", "HL7aECGParser": "HL7 aECG", "MFERParser": "MFER",
    "GEMuseXMLParser": "GE MUSE XML", "SierraXMLParser": "Philips Sierra XML", "MortaraEL250Parser": "Mortara ELI XML",
    "AliveCorKardiaParser": "AliveCor Kardia", "EDFParser": "EDF",
}  # fmt: skip
"""The library's readers of single-file resting recordings; Holter and multi-file formats are not taken here."""
MAX_BYTES = 12 * 1024 * 1024
LEAST_SECONDS, MOST_SECONDS = 2.0, 300.0
_HZ = (50, 16_000)
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"%PDF", b"RIFF", b"II*\0", b"MM\0*")
_ENTITY = re.compile(rb"<!\s*(?:ENTITY|DOCTYPE[^>]*\[)", re.I)
_NAMES = {name.upper(): name for name in STANDARD}
_UV = {"nV": 0.001, "uV": 1.0, "mV": 1000.0, "V": 1_000_000.0}


@dataclass(frozen=True)
class Patient:
    """Whom the device believes it recorded ("" or None: it does not say)."""

    id: str = ""
    name: str = ""
    sex: str = ""
    birth: dt.date | None = None


@dataclass(frozen=True)
class Recording:
    """What a file holds. ``taken_at`` is the device's own clock; ``said`` the device's statements, never shown as a report."""

    format: str
    wave: Wave
    patient: Patient = field(default_factory=Patient)
    taken_at: dt.datetime | None = None
    device: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)
    study_uid: str = ""


def read(data: bytes, name: str = "") -> Recording:
    """The recording in a file's bytes. Refused, in words, for whatever is no complete resting ECG."""
    if not data:
        raise errors.empty()
    if len(data) > MAX_BYTES:
        raise errors.too_big(MAX_BYTES // (1024 * 1024))
    if data.startswith(_PICTURES) or data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        raise errors.picture()
    if _ENTITY.search(data[:65536]):
        raise errors.unknown()  # entities in a device's XML serve nobody but an attacker
    found = csv_file.read(data) if csv_file.is_csv(data) else _library(data, name)
    if not LEAST_SECONDS <= found.wave.seconds <= MOST_SECONDS:
        raise errors.duration(LEAST_SECONDS, MOST_SECONDS)
    return found


def _library(data: bytes, name: str) -> Recording:
    from ecgdatakit.parsing import FileParser  # numpy, XML and all the formats: only who imports pays it

    suffix = Path(name).suffix.lower()[:8] if re.fullmatch(r"\.[A-Za-z0-9]{1,7}", Path(name).suffix) else ""
    with tempfile.TemporaryDirectory(
        prefix="lianxin-ecg-"
    ) as folder:  # a folder of its own: some formats look for neighbours
        path = Path(folder) / f"recording{suffix}"
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                kind = FileParser.detect_format(path)
                if kind is None or kind["parser"] not in ADAPTERS:
                    raise errors.unknown()
                format_name = ADAPTERS[kind["parser"]]
                record = FileParser.parse(path, auto_scale=False)
            except Refused:
                raise
            except Exception as failure:  # a parser of outside bytes may fail in any way; the sender hears that it is damaged
                log.info("ecg file refused: %s", type(failure).__name__)
                raise errors.broken(ADAPTERS.get((kind or {}).get("parser", ""), "ECG") if "kind" in locals() else "ECG") from failure  # fmt: skip
    return Recording(
        format=format_name, wave=_wave(record, format_name), patient=_patient(record.patient),
        taken_at=_time(record.recording.date), device=_device(record.recording.device),
        said=[" ".join(filter(None, pair))[:200] for pair in record.interpretation.statements][:20],
        measured=_measured(record.measurements), study_uid=str(record.raw_metadata.get("study_instance_uid") or "")[:64],
    )  # fmt: skip


def _wave(record: Any, format_name: str) -> Wave:
    leads = {}
    for lead in record.leads:
        label = _NAMES.get(lead.label.strip().upper().replace("LEAD", "").strip())
        if label and label not in leads and len(lead.samples):
            leads[label] = lead
    if not leads:
        raise errors.no_leads()
    chosen = [leads[name] for name in STANDARD if name in leads]
    if len({(lead.sampling_rate, len(lead.samples)) for lead in chosen}) != 1:
        raise errors.uneven()
    hz = float(chosen[0].sampling_rate)
    if not _HZ[0] <= hz <= _HZ[1]:
        raise errors.broken(format_name)
    rows, steps = [], []
    for lead in chosen:
        unit = lead.resolution_unit if lead.is_raw else lead.units
        scale = _UV.get(unit, 0.0)
        if not scale or (lead.is_raw and not lead.resolution) or not math.isfinite(lead.resolution):
            raise errors.unscaled()
        step = abs(lead.resolution) * scale if lead.is_raw else 1.0
        rows.append((lead.samples * lead.resolution + lead.offset) * scale if lead.is_raw else lead.samples * scale)  # fmt: skip
        steps.append(step)
    filters = record.recording.acquisition.filters
    known = {n: getattr(filters, n) for n in ("highpass", "lowpass", "notch") if getattr(filters, n)}
    return wave.from_physical([name for name in STANDARD if name in leads], hz, rows, steps, known)


def _patient(said: Any) -> Patient:
    sex = {"M": "male", "F": "female"}.get((said.sex or "").upper()[:1], "")
    name = "".join(filter(None, (said.last_name, said.first_name))).replace("^", "").strip()
    birth = said.birth_date.date() if said.birth_date else None
    return Patient(str(said.patient_id or "").strip()[:64], name[:80], sex, birth)


def _time(value: dt.datetime | None) -> dt.datetime | None:
    if value is None or not 1990 <= value.year <= 2200:
        return None
    return value.astimezone(clock.ZONE) if value.tzinfo else value.replace(tzinfo=clock.ZONE)


def _device(said: Any) -> dict[str, str]:
    names = ("manufacturer", "model", "serial_number", "software_version")
    return {n: str(getattr(said, n))[:60] for n in names if getattr(said, n)}


def _measured(said: Any) -> dict[str, float]:
    names = {
        "heart_rate": "rate",
        "pr_interval": "pr",
        "qrs_duration": "qrs",
        "qt_interval": "qt",
        "qrs_axis": "axis",
    }
    return {ours: float(getattr(said, n)) for n, ours in names.items() if getattr(said, n)}
