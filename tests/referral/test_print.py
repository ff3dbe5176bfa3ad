"""The paper: one A4 page per case in the ordinary run, self-contained, Chinese whatever the screen speaks."""

from __future__ import annotations

from django.utils import translation

from lianxin.clinical.referral import print as paper
from lianxin.clinical.referral.models import Letter
from tests.referral.world import World


def test_form_is_a_pdf_with_all_three_slips(world: World) -> None:
    number = world.until("outcome_sent")
    referral = world.referral(number)
    with translation.override("en"):
        text = paper.html(referral)
    for words in (
        "双向转诊单",
        "存 根",
        "双向转诊（转出）单",
        "双向转诊（回转）单",
        "主要现病史",
        "颈前肿物半年",
        "腺叶切除",
        number,
        "2026年3月2日",
    ):
        assert words in text
    assert paper.pdf(referral).startswith(b"%PDF-")


def test_draft_is_marked_and_letter_prints(world: World) -> None:
    draft = world.open()
    assert "草稿" in paper.html(world.referral(draft))
    other = world.until("outcome_sent", specialty="03.04")
    letter = Letter.objects.unscoped("test").get(referral__case__number=other)
    assert paper.letter_pdf(letter).startswith(b"%PDF-")


def test_what_people_typed_cannot_reach_the_markup(world: World) -> None:
    pack = {
        "impression": "x",
        "present": "<script>1</script><img src='file:///etc/hostname'>",
        "past": "a",
        "treatment": "b",
        "imaging": "c",
    }
    number = world.send(pack=pack)
    assert "<script>" not in paper.html(world.referral(number))
    assert paper.pdf(world.referral(number)).startswith(b"%PDF-")
