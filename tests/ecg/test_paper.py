"""An ECG on paper is true to scale: 25 mm are a second and 10 mm a millivolt on the sheet that leaves the printer."""

from __future__ import annotations

import re
import zlib

import numpy as np
import pytest
from django.http import QueryDict

from lianxin.regional.ecg import drawing, panel, paper, service
from lianxin.standards import clock
from tests.ecg import files, synthetic
from tests.reading import world

pytestmark = pytest.mark.django_db
_NUMBER = r"(-?[\d.]+)"
_CM = re.compile(" ".join([_NUMBER] * 6) + " cm")


def _pages(pdf: bytes) -> list[str]:
    """Everything that is drawn, stream by stream."""
    found = []
    for match in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.S):
        try:
            found.append(zlib.decompress(match[1]).decode("latin-1"))
        except zlib.error:
            continue
    return found


def _placed(drawn: str) -> tuple[np.ndarray, str]:
    """The matrix (to points) under which the grid's first line is drawn, and the operators that draw it."""
    now, kept = np.eye(3), []
    for line in drawn.splitlines():
        if line == "q":
            kept.append(now)
        elif line == "Q":
            now = kept.pop()
        elif matrix := _CM.fullmatch(line):
            a, b, c, d, e, f = map(float, matrix.groups())
            now = np.array([[a, b, 0], [c, d, 0], [e, f, 1]]) @ now
        elif re.fullmatch(r"20 0 m", line):  # the first fine line, one millimetre from the edge
            return now, line
    raise AssertionError("no grid on the page")


@pytest.mark.parametrize("query", ["", "layout=6x2&speed=50&gain=20"])
def test_a_millimetre_of_grid_is_a_millimetre_of_paper(query: str) -> None:
    county = world.make_world()
    by = world.scope_of(county, "village0")
    reading = service.order(by, world.make_person(), {"indication": "胸闷"}, "p1")
    service.take(by, reading, "a.csv", files.csv(synthetic.ecg(), patient=reading.accession, at=clock.now()))
    look = drawing.look_of(QueryDict(query))
    pdf = paper.pdf(reading, panel.traced(reading, look))
    boxes = [
        tuple(map(float, box.split()))
        for box in re.findall(r"/MediaBox ?\[([^\]]*)\]", "\n".join(_pages(pdf)))
    ]
    assert len(boxes) == 1, "one sheet"
    assert boxes[0] == pytest.approx((0, 0, 297 * 72 / 25.4, 210 * 72 / 25.4), abs=0.1)
    matrix, _ = _placed(next(drawn for drawn in _pages(pdf) if "20 0 m" in drawn))
    unit = 72 / 25.4 / drawing.UNIT
    assert (abs(matrix[0, 0]), abs(matrix[1, 1])) == pytest.approx((unit, unit), rel=1e-3)
    left = matrix[2, 0] * 25.4 / 72
    assert left >= 5, "a printer's margin"
    assert left + drawing.PAPER + 12 <= 297 - 5
