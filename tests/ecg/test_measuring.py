"""Intervals and proposals against hearts whose intervals are known, and the drawing against the scale of ECG paper."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pydicom.data
import pytest

from lianxin.regional.ecg import drawing, importing, measure, rules, wave
from tests.ecg import synthetic


def proposed(sex: str = "male", age: int | None = 60, **heart: object) -> list[str]:
    """Codes of what is said about a synthetic heart."""
    return [s.code for s in rules.propose(measure.measure(synthetic.ecg(noise=6, **heart)), age=age, sex=sex)]


@pytest.mark.parametrize("noise", [0, 8])
@pytest.mark.parametrize(
    ("name", "truth"), [("pr", 140), ("pr", 240), ("qrs", 70), ("qrs", 130), ("qt", 360), ("qt", 480)]
)
def test_intervals_are_found(name: str, truth: int, noise: int) -> None:
    found = measure.measure(synthetic.ecg(**{"rr": 1000.0, name: float(truth), "noise": float(noise)}))
    # the end of T is where its tangent meets the level: a raised cosine ends a little later
    early = 22 if name == "qt" else 0
    assert getattr(found, name) == pytest.approx(truth - early, abs=12)
    assert found.rate == pytest.approx(60, abs=0.5)


def test_mains_wander_and_rate_of_sampling_change_little() -> None:
    clean = measure.measure(synthetic.ecg())
    for heart in ({"mains": 20.0, "wander": 150.0, "noise": 15.0}, {"hz": 250}, {"hz": 1000}):
        found = measure.measure(synthetic.ecg(**heart))
        for name in ("pr", "qrs", "qt"):
            assert getattr(found, name) == pytest.approx(getattr(clean, name), abs=10), (heart, name)


def test_pydicoms_ecg_agrees_with_its_device() -> None:
    path = pydicom.data.get_testdata_file("waveform_ecg.dcm")
    recording = importing.read(Path(str(path)).read_bytes(), "waveform_ecg.dcm")
    found = measure.measure(recording.wave)
    for name, tolerance in (("pr", 15), ("qrs", 15), ("qt", 20), ("axis", 10)):
        assert getattr(found, name) == pytest.approx(recording.measured[name], abs=tolerance), name
    assert [s.code for s in rules.propose(found, age=42, sex="female")] == ["sinus"]


def test_rhythms() -> None:
    assert proposed() == ["sinus"]
    assert "sinus_brady" in proposed(rr=1300.0, qt=440.0)
    assert "sinus_tachy" in proposed(rr=450.0, qt=300.0, pr=130.0, p=80.0)
    assert proposed(rr=[620.0, 900.0, 710.0, 1050.0, 560.0, 830.0, 770.0, 980.0], has_p=False) == ["af"]
    assert [
        s.code for s in rules.propose(measure.measure(synthetic.ecg(rr=1e6, noise=40.0)), age=None, sex="")
    ] == ["none"]
    assert "swapped" in proposed(turned=("I",))
    assert "pr_long" in proposed(pr=240.0)
    assert "qrs_wide" in proposed(qrs=160.0, qt=420.0)


def test_infarction_by_territory_age_and_sex() -> None:
    assert proposed(st={"V1": 150, "V2": 300, "V3": 350, "V4": 200})[0] == "stemi_anterior"
    assert proposed(st={"II": 250})[0] == "stemi_inferior"
    assert proposed(st={"V5": 200, "V6": 200})[0] == "stemi_lateral"
    border = {"V2": 180, "V3": 180}
    assert "stemi_anterior" not in proposed(st=border)
    assert "stemi_anterior" in proposed("female", st=border)
    between = {"V2": 225, "V3": 225}
    assert "stemi_anterior" in proposed(age=50, st=between)
    assert "stemi_anterior" not in proposed(age=30, st=between)
    assert "st_wide" in proposed(qrs=150.0, qt=420.0, st={"V2": 300, "V3": 300})
    assert not [c for c in proposed(st={"V2": 400}) if c.startswith("stemi")]  # one lead alone


def test_the_paper_is_true_to_scale() -> None:
    step = np.zeros((2, 5000))
    step[:, 1000:] = 1000.0  # one millivolt after two seconds
    made = wave.from_physical(["I", "II"], 500.0, list(step), [1.0, 1.0])
    svg = drawing.draw(made, drawing.Look(layout="rhythm"))
    assert 'width="262mm"' in svg
    assert re.search(r'viewBox="0 0 5240 (\d+)"', svg)  # 20 units a millimetre
    pulse, tracing = re.findall(r'class="ecg-line" d="([^"]+)"', svg)
    assert "v-200h100v200" in pulse  # 10 mm high, 5 mm wide
    assert tracing.startswith("M220 ")
    assert re.search(
        r"l99[0-9] 0 \d{1,2}-200 ", tracing
    )  # 2 s = 50 mm = 1000 units, 1 mV = 10 mm = 200 units
    double = drawing.draw(made, drawing.Look(layout="rhythm", speed=50, gain=20))
    assert "v-400h200v400" in double


@pytest.mark.parametrize("layout", drawing.LAYOUTS)
def test_ten_seconds_of_twelve_leads_are_small(layout: str) -> None:
    svg = drawing.draw(synthetic.ecg(noise=10), drawing.Look(layout=layout))
    assert len(gzip.compress(svg.encode())) < 60_000
    assert layout != "3x4" or len(svg) < 60_000


def test_filters_change_the_drawing_and_never_the_data() -> None:
    made = synthetic.ecg(wander=200, mains=50)
    before = made.counts.copy()
    plain = drawing.draw(made, drawing.Look())
    cleaned = drawing.draw(made, drawing.Look(filters=("baseline", "notch", "low40")))
    assert plain != cleaned
    assert np.array_equal(made.counts, before)
    leads = drawing.filtered(made.standard(), made.hz, ("baseline", "notch"))
    quiet = leads["II"][1000:-1000] - synthetic.ecg().standard()["II"][1000:-1000]
    assert float(np.std(quiet)) < 40
