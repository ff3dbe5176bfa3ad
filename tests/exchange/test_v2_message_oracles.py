"""The parser against two others (python-hl7, hl7apy), field by field, on messages that nobody here wrote."""

import hl7
import pytest
from django.conf import settings
from hl7apy.parser import parse_message

from lianxin.exchange.v2 import framing, message

SET = settings.SHARED / "data/hl7v2/simhospital-messages.hl7"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SET.exists(), reason="the shared data folder is not here"),
]
SAMPLED = 60


@pytest.fixture(scope="module")
def messages():
    found = list(framing.messages(SET.read_bytes()))
    assert len(found) == 1013
    return found


def plain(data):
    return "\r".join(data.decode().strip().splitlines())


def test_python_hl7_reads_every_field_alike(messages):
    compared = 0
    for data in messages:
        ours, theirs = message.parse(data), hl7.parse(plain(data))
        assert [s.name for s in ours.segments] == [str(s[0]) for s in theirs]
        for mine, other in zip(ours.segments, theirs, strict=True):
            assert len(mine.fields) == len(other)
            for n in range(1, len(other)):
                assert mine.raw(n) == str(other[n])
                if mine.name == "MSH" and n <= 2:
                    continue
                for r, repetition in enumerate(other[n], 1):
                    components = repetition if isinstance(repetition, hl7.Repetition) else [repetition]
                    for c, component in enumerate(components, 1):
                        subs = component if isinstance(component, hl7.Component) else [component]
                        for k, sub in enumerate(subs, 1):
                            if "\\" not in str(sub) and str(sub) != '""':
                                assert mine.text(n, c, k, r) == str(sub), (mine.name, n, r, c, k)
                                compared += 1
    assert compared > 50_000


def values(field):
    return [[c for c in one.split("^") if c] for one in field.split("~")]


def test_hl7apy_reads_every_field_alike(messages):
    compared = 0
    for data in messages[:: len(messages) // SAMPLED]:
        ours, theirs = message.parse(data), parse_message(plain(data), find_groups=False)
        assert [s.name for s in ours.segments] == [s.name for s in theirs.children]
        for mine, other in zip(ours.segments, theirs.children, strict=True):
            said: dict[int, list[str]] = {}
            for field in other.children:
                said.setdefault(int(field.name.rpartition("_")[2]), []).append(field.to_er7())
            for n, repetitions in said.items():
                if mine.name != "MSH" or n > 2:
                    # hl7apy leaves out empty components beyond the 2.3 type of EVN-5: the values are compared, in order
                    assert values(mine.raw(n)) == values("~".join(repetitions)), (mine.name, n)
                    compared += 1
    assert compared > 1_000
