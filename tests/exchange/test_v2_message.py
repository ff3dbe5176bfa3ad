"""Reading and writing HL7 v2: delimiters, escapes, character sets, frames, and what is no message."""

import random

import pytest

from lianxin.exchange.v2 import charset, framing, message, writing
from lianxin.exchange.v2.errors import Malformed

HEAD = "MSH|^~\\&|HIS|RMYY|LIANXIN|LX|20260301080000||ADT^A01^ADT_A01|17|P|2.5|||||CHN|{cs}"


def made(*lines: str, cs: str = "UNICODE UTF-8", codec: str = "utf-8") -> bytes:
    return "\r".join([HEAD.format(cs=cs), *lines]).encode(codec)


def test_fields_repetitions_components_and_subcomponents():
    m = message.parse(
        made("PID|1||A1^^^H&1.2.3&ISO^MR~B2^^^C^PI||张^伟^^^||19800506|M", "OBX|1|ST|a^b||x&y^z")
    )
    assert m.kind == ("ADT", "A01")
    assert m.control_id == "17"
    assert m.version == "2.5"
    pid = m.first("PID")
    assert [r[0] for r in pid.repetitions(3)] == ["A1", "B2"]
    assert pid.subs(3, 4) == ["H", "1.2.3", "ISO"]
    assert pid.text(3, 4, 2) == "1.2.3"
    assert pid.text(3, 1, repetition=2) == "B2"
    assert pid.text(3, 4, repetition=2) == "C"
    assert (pid.text(5), pid.text(5, 2), pid.text(5, 3), pid.text(99), pid.text(3, 9)) == (
        "张",
        "伟",
        "",
        "",
        "",
    )
    assert m.text("OBX", 5, 1, 2) == "y"
    assert m.text("OBX", 5, 2) == "z"
    assert m.text("ZZZ", 1) == ""


def test_delimiters_are_those_of_the_message():
    raw = "MSH*:-!+*HIS*A*B*C*20260301**ADT:A08*9*P*2.4\rPID*1**7:::H*x*Li:Wei!S!x-Wang\r"
    m = message.parse(raw.encode())
    assert m.kind == ("ADT", "A08")
    assert m.header.text(1) == "*"
    assert m.header.text(2) == ":-!+"
    assert m.first("PID").repetitions(5) == [["Li", "Wei:x"], ["Wang"]]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"one\.br\two", "one\ntwo"),
        (r"\X4142\x", "ABx"),
        (r"\XE5BCA0\x", "张x"),
        (r"\H\bold\N\ y", "bold y"),
        (r"\Zunknown\ kept", "\\Zunknown\\ kept"),
        ("back\\slash at the end\\", "back\\slash at the end\\"),
    ],
)
def test_escapes(sent, read):
    assert message.parse(made(f"NTE|1||{sent}")).text("NTE", 3) == read


@pytest.mark.parametrize(
    ("cs", "codec"),
    [
        ("UNICODE UTF-8", "utf-8"), ("UNICODE", "utf-8"), ("GB 18030-2000", "gb18030"), ("GB18030", "gb18030"), ("GBK", "gbk"),
        ("", "utf-8"), ("", "gb18030"), ("ASCII", "gb18030"), ("ASCII", "utf-8"), ("BIG-5", "big5"),
    ],
)  # fmt: skip
def test_character_sets_even_those_that_are_not_what_they_say(cs, codec):
    """Chinese of both bytes: 誠 and 驊 end in | and ^ in GBK, where a splitter of bytes would cut them in two."""
    name = "張誠驊" if codec == "big5" else "张誠驊瀆堓"
    m = message.parse(made(f"PID|1||A1||{name}^x", "ZZZ|1", cs=cs, codec=codec))
    assert m.text("PID", 5) == name
    assert m.text("PID", 5, 2) == "x"
    assert [s.name for s in m.segments] == ["MSH", "PID", "ZZZ"]


def test_a_splitter_of_bytes_would_fail_on_these():
    assert any(b in "张誠驊瀆堓".encode("gbk") for b in b"|^~\\")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\r\n", b"PID|1", b"MSH", b"MSH|", b"MSH||", b"MSH|||||", b"MSHA^~\\&|x", b"MSH|^^^^|x", b"MSH ^~\\&|x",
        b"MSH|AB~\\&|HIS", b"{\"json\": 1}", b"<xml/>", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)),
        made("PID|1||张", cs="KLINGON"), made("PID|1||") + b"\xff\xfe\x80\x31",
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused_with_a_reason(raw):
    with pytest.raises(Malformed) as refused:
        message.parse(raw)
    assert refused.value.text.zh
    assert refused.value.text.en
    assert refused.value.answer == "AR"


def test_line_ends_of_every_kind_and_broken_lines():
    body = made("PID|1||A1", "NTE|1||first").replace(b"\r", b"\r\n") + b"\r\nsecond line\r\n"
    assert message.parse(body).text("NTE", 3) == "first\nsecond line"
    assert message.parse(body.replace(b"\r\n", b"\n")).text("PID", 3) == "A1"
    assert message.parse(b"\xef\xbb\xbf" + made("PID|1||A1")).text("PID", 3) == "A1"


def test_explicit_nothing_is_told_apart_from_nothing():
    pid = message.parse(made('PID|1||A1||""||""|M')).first("PID")
    assert pid.text(5) == ""
    assert pid.deleted(5)
    assert not pid.deleted(6)
    assert pid.repetitions(7) == []


def test_fuzz_nothing_else_than_malformed_comes_out():
    rnd = random.Random(7)
    whole = made("PID|1||A1^^^H&1.2&ISO~B||张\\S\\x^y|x", "OBX|1|TX|||\\X41\\")
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rnd.randint(1, 8)):
            at = rnd.randrange(len(data))
            act = rnd.randrange(3)
            if act == 0:
                data[at] = rnd.randrange(256)
            elif act == 1:
                del data[at : at + rnd.randint(1, 9)]
            else:
                data[at:at] = bytes(rnd.choice(b"|^~\\&\r\n\x00\xff") for _ in range(rnd.randint(1, 5)))
            if not data:
                data = bytearray(b"M")
        try:
            m = message.parse(bytes(data))
        except Malformed:
            continue
        for s in m.segments:
            for n in range(len(s.fields) + 2):
                s.repetitions(n), s.text(n, 2, 2, 2), s.subs(n, 1)
        assert isinstance(m.kind, tuple)
        assert isinstance(m.control_id, str)


def test_what_is_written_is_read_again():
    value = "a|b^c~d\\e&f\n张\x07"
    line = writing.segment(
        "PID", "1", "", [("A1", "", "", ("H", "1.2", "ISO"), "MR"), "B"], "", (value, "x", None)
    )
    raw = writing.message([writing.segment("MSH", "A", "B"), line], "gb18030")
    m = message.parse(raw, "gb18030")
    assert m.text("PID", 5) == value.replace("\x07", "")
    assert m.first("PID").subs(3, 4) == ["H", "1.2", "ISO"]
    assert m.header.text(3) == "A"
    assert m.header.text(2) == "^~\\&"


def test_frames_arrive_in_any_pieces():
    stream = b"junk" + framing.wrap(b"MSH|one") + b"\r\n" + framing.wrap(b"MSH|two")
    for size in (1, 2, 3, 7, 100):
        frames = framing.Frames(1000)
        got = [f for at in range(0, len(stream), size) for f in frames.feed(stream[at : at + size])]
        assert [(f.data, f.fault) for f in got] == [(b"MSH|one", ""), (b"MSH|two", "")]
        assert not frames.open


def test_a_frame_cut_off_and_one_that_never_ends():
    frames = framing.Frames(50)
    got = frames.feed(b"\x0bMSH|half" + framing.wrap(b"MSH|whole") + b"\x0b" + b"x" * 60)
    assert [(f.data, f.fault) for f in got[:2]] == [(b"MSH|half", "cut"), (b"MSH|whole", "")]
    assert got[2].fault == "long"
    assert frames.feed(b"y" * 500) == []
    assert frames.open
    assert [f.data for f in frames.feed(b"\x1c\r" + framing.wrap(b"MSH|next"))] == [b"MSH|next"]


def test_a_batch_file_gives_its_messages():
    one, two = made("PID|1||A"), made("PID|1||B")
    batch = b"\r".join([b"FHS|^~\\&|x", b"BHS|^~\\&|x", one, two, b"BTS|2", b"FTS|1"])
    assert [message.parse(m).text("PID", 3) for m in framing.messages(batch)] == ["A", "B"]
    assert len(list(framing.messages(one + b"\n\n" + two))) == 2
    assert len(list(framing.messages(framing.wrap(one) + framing.wrap(two)))) == 2
    assert list(framing.messages(b"  \r\n")) == []
    assert list(framing.messages(b"no message")) == [b"no message"]


def test_names_of_character_sets_go_both_ways():
    for codec in set(charset.CODECS.values()):
        assert charset.codec_of(charset.name_of(codec)) == codec
