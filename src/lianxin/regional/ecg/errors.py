"""What somebody hears whose ECG file cannot be taken."""

from __future__ import annotations

from lianxin.duty.errors import Refused
from lianxin.standards.text import T, Text


def refused(text: Text) -> Refused:
    """A refusal that belongs to the file."""
    return Refused({"file": text})


def empty() -> Refused:
    """Nothing in it."""
    return refused(T("文件是空的。", "The file is empty."))


def too_big(megabytes: int) -> Refused:
    """Larger than any resting ECG."""
    return refused(
        T("文件超过 {n} MB，不是静息心电图。", "The file is over {n} MB; that is no resting ECG.").format(n=str(megabytes))
    )  # fmt: skip


def picture() -> Refused:
    """A photograph or scan has no samples to measure."""
    return refused(
        T(
            "这是照片或扫描件，不能测量。请从心电图机导出数据文件（DICOM、SCP、XML、MFER 或 CSV）后上传。",
            "This is a picture and cannot be measured. Export the recording from the device (DICOM, SCP, XML, MFER or CSV) and upload that.",
        )
    )


def unknown() -> Refused:
    """No adapter knows it."""
    return refused(
        T(
            "不认识这种文件。可接收：DICOM、SCP-ECG、HL7 aECG、MFER、CSV，以及 GE MUSE、Philips、Mortara 的 XML。",
            "No known ECG format. Accepted: DICOM, SCP-ECG, HL7 aECG, MFER, CSV, and the XML of GE MUSE, Philips and Mortara.",
        )
    )


def broken(format_name: str) -> Refused:
    """Recognised, but cut off or damaged."""
    return refused(
        T(
            "{f} 文件不完整或已损坏，请在设备上重新导出。",
            "The {f} file is cut off or damaged; export it from the device again.",
        ).format(f=format_name)
    )


def unscaled() -> Refused:
    """Samples without their scale: millimetres on paper would mean nothing."""
    return refused(
        T("文件没有说明增益（每单位多少微伏），不能定标。", "The file does not say how many µV a unit is; it cannot be drawn to scale.")
    )  # fmt: skip


def no_leads() -> Refused:
    """None of the twelve leads."""
    return refused(
        T("文件中没有标准十二导联的任何一个。", "The file holds none of the twelve standard leads.")
    )


def uneven() -> Refused:
    """Leads sampled at different rates or of different length."""
    return refused(T("各导联的采样率或长度不一致。", "The leads differ in sampling rate or length."))


def duration(least: float, most: float) -> Refused:
    """Too short to measure, or a Holter."""
    return refused(
        T("静息心电图应为 {a}–{b} 秒；动态心电图请走其他途径。", "A resting ECG lasts {a}–{b} seconds; Holter recordings go elsewhere.").format(
            a=f"{least:g}", b=f"{most:g}"
        )
    )  # fmt: skip
