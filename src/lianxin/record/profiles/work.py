"""Referrals: the intent as ServiceRequest, the offer to one institution as Task."""

from lianxin.record.profiles.build import CS, ID, Resource, bound, by_value, element, profile, reference, rule
from lianxin.standards.text import Text as T

SNOMED_REFERRAL = {"coding": [{"system": "http://snomed.info/sct", "code": "3457005"}]}


def request() -> Resource:
    """The clinical intent of a referral."""
    at = "ServiceRequest"
    return profile(
        "referral-request",
        at,
        T("转诊申请", "Referral request"),
        "Who sends whom, up or down, why and how urgently.",
        [
            element(f"{at}.identifier", min=1, slicing=by_value("system")),
            element(f"{at}.identifier:referral", min=1, max="1"),
            element(f"{at}.identifier:referral.system", min=1, fixedUri=f"{ID}referral"),
            element(f"{at}.identifier:referral.value", min=1),
            element(f"{at}.intent", fixedCode="order"),
            element(f"{at}.category", min=1, slicing=by_value("coding.system"), mustSupport=True),
            element(f"{at}.category:direction", min=1, max="1", binding=bound("referral-direction")),
            element(f"{at}.category:direction.coding.system", min=1, fixedUri=f"{CS}referral-direction"),
            element(f"{at}.priority", min=1, mustSupport=True),
            element(f"{at}.code", min=1, patternCodeableConcept=SNOMED_REFERRAL),
            element(f"{at}.subject", type=reference("Patient")),
            element(f"{at}.requester", min=1, mustSupport=True),
            element(f"{at}.performer", type=reference("Organization"), mustSupport=True),
            element(f"{at}.reasonCode", mustSupport=True),
            element(at, rules=[
                rule("lx-ref-1", "reasonCode.exists() or reasonReference.exists()", "A referral has its reason", "转诊须有理由"),
                rule("lx-ref-2", "status != 'active' or authoredOn.exists()", "A submitted referral says when", "已提交的转诊须有提交时间"),
            ]),
        ],
    )  # fmt: skip


def task() -> Resource:
    """The offer of a referral to one institution."""
    return profile(
        "referral-task",
        "Task",
        T("转诊办理", "Referral task"),
        "One receiving institution's part of a referral: who owes what, where it stands.",
        [
            element("Task.basedOn", min=1, type=reference("ServiceRequest")),
            element("Task.groupIdentifier", min=1),
            element("Task.groupIdentifier.system", min=1, fixedUri=f"{ID}referral"),
            element("Task.intent", fixedCode="order"),
            element("Task.businessStatus", binding=bound("referral-business-status"), mustSupport=True),
            element("Task.focus", min=1, type=reference("ServiceRequest")),
            element("Task.for", min=1, type=reference("Patient")),
            element("Task.requester", min=1, type=reference("Organization")),
            element("Task.owner", min=1, type=reference("Organization"), mustSupport=True),
            element("Task.lastModified", min=1),
        ],
    )


def resources() -> list[Resource]:
    """The profiles of a referral."""
    return [request(), task()]
