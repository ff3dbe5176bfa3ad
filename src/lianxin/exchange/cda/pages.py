"""Documents for people: the list with its upload, a document for reading, its original, its parts, and on paper.

Who keeps the feeds sees that documents came (kind, institution, time); what stands in one is for those who may see the person's
record, or who may open messages of that institution.  Every reading is audited as a read of that person.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from django import forms
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, path, reverse
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_POST

from lianxin.access import audit, relationships
from lianxin.access.errors import NotPermitted
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.exchange.cda import door, door_files, door_http, issue, kinds, pages_find, reading
from lianxin.exchange.cda import registry_reference as entry
from lianxin.exchange.cda import render as drawing
from lianxin.exchange.cda.models import RegisteredDocument
from lianxin.exchange.cda.render import Part, Sheet
from lianxin.exchange.feeds.errors import Refusal, reason_of
from lianxin.exchange.feeds.models import QUARANTINED, REFUSED, Arrival
from lianxin.index import registry as people
from lianxin.index.models import Person
from lianxin.record import rows, store, text
from lianxin.record.problems import Problem
from lianxin.standards import clock
from lianxin.standards import paper as papers
from lianxin.standards.text import T, Text

OPENING = Scope.system("the content of a message that somebody may open")
MOST_UPLOAD = 50 * 1024 * 1024


class UploadForm(forms.Form):
    """Documents to be taken: XML files, or a ZIP archive of them."""

    file = forms.FileField(
        label=T("文档文件", "File"),
        help_text=T(
            "一份 XML 文档，或装有多份 XML 的 ZIP，最大 50 MB",
            "One XML document, or a ZIP with many, at most 50 MB",
        ),
        error_messages={
            "required": T("请选择文件。", "Choose a file."),
            "empty": T("文件是空的。", "The file is empty."),
            "invalid": T("没有收到文件，请重新选择。", "No file came; choose it again."),
        },
    )

    def clean_file(self) -> Any:
        """Not too large."""
        given = self.cleaned_data["file"]
        if given.size > MOST_UPLOAD:
            raise forms.ValidationError(
                T("文件超过 50 MB，请分批上传。", "Larger than 50 MB; upload it in parts.")
            )
        return given


@page()
def documents(request: HttpRequest) -> HttpResponse:
    """What came and what was issued, newest first, with filters; and the upload."""
    scope = request.scope
    demand_list(scope)
    return _list(request, UploadForm())


def demand_list(scope: Scope) -> None:
    """The list is for those who keep the feeds, and for clinical posts (what they may see of it)."""
    if not scope.clinical:
        scope.demand("see_feeds")


def may_upload(scope: Scope) -> bool:
    """Who brings documents in by hand: who mends the feeds, and who writes care records, for the own institution."""
    writes = scope.may("write_care") and scope.may("register_person")
    return scope.institution_id is not None and (scope.may("mend_feeds") or writes)


def _list(
    request: HttpRequest, form: UploadForm, report: list[dict[str, Any]] | None = None, status: int = 200
) -> HttpResponse:
    form.label_suffix = ""
    asked = pages_find.asked(request.GET)
    found = pages_find.find(request.scope, asked)
    context = {
        "form": form,
        "report": report,
        "asked": asked,
        "found": found,
        "kinds": [(f"WS/T {k.number}", k) for k in kinds.KINDS.values()],
        "institutions": pages_find.institutions(request.scope),
        "may_upload": may_upload(request.scope),
        "issues": [kinds.KINDS[k] for k in issue.KINDS] if request.scope.clinical else [],
    }
    return render(request, "feeds/documents.html", context, status=status)


@require_POST
@page()
def upload(request: HttpRequest) -> HttpResponse:
    """Take what a person uploads for the own institution; tells of each document what became of it."""
    scope = request.scope
    if not may_upload(scope):
        scope.demand("mend_feeds")
    form = UploadForm(request.POST, request.FILES)
    if not form.is_valid():
        return _list(request, form, status=400)
    given = form.cleaned_data["file"]
    body = given.read()
    try:
        named = door_files.unpack(body) if door_files.is_zip(body) else [door_files.Named(given.name, body)]
        done = door.take(door.scope_of_upload(scope), named, f"account:{scope.account_id}")
    except Refusal as failure:
        form.add_error("file", str(failure.reason.text))
        return _list(request, form, status=422)
    report = [_line(one) for one in done]
    return _list(
        request, UploadForm(), report, status=422 if all(r["state"] == REFUSED for r in report) else 200
    )


def _line(one: door.Received) -> dict[str, Any]:
    verdict, found = one.verdict, one.registered
    told: list[Text] = list(verdict.warnings)
    if verdict.state == REFUSED:
        told.insert(0, (verdict.reason or reason_of(verdict.failure or Exception())).text)
    return {
        "name": one.name,
        "state": verdict.state,
        "known": verdict.repeated or bool(found and found.repeated),
        "held": verdict.state == QUARANTINED,
        "told": told[:8],
        "arrival": verdict.arrival_id,
        "document": found,
    }


# ------------------------------------------------------------------------------------------------------------------ reading


@dataclass
class Opened:
    """A document that may be read: its entry, bytes, person, and the record's own version of it."""

    row: RegisteredDocument
    body: bytes
    media: str
    person: Person | None
    reference: dict[str, Any]


def opened(request: HttpRequest, pk: int, action: str = "read") -> Opened:
    """A document for this reader, audited; 404 when there is none that may be known of, 403 without the right to read it."""
    scope = request.scope
    row = RegisteredDocument.objects.select_related("institution").filter(pk=pk).first()
    if row is None:
        raise Http404
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        found = store.read(cur, scope, "DocumentReference", row.reference)
        if found is None and scope.may("open_message") and row.institution_id in pages_find.overseen(scope):
            found = store.read(cur, OPENING, "DocumentReference", row.reference)
        if found is None:
            raise _closed(scope, row)
        binary = store.read(cur, OPENING, "Binary", row.binary)
    if found.deleted or binary is None or binary.deleted:
        raise Http404
    audit.write(scope, action, person_id=found.person_id, what=f"DocumentReference/{row.reference}")
    kept = text.parse(binary.body.encode())
    person = None
    if found.person_id is not None:
        person = Person.objects.unscoped("the document was opened").filter(pk=found.person_id).first()
    return Opened(
        row, base64.b64decode(str(kept.get("data", ""))), str(kept.get("contentType", "")), person,
        text.parse(found.body.encode()),
    )  # fmt: skip


def _closed(scope: Scope, row: RegisteredDocument) -> Exception:
    """Why a document stays closed: as if there were none to those who may not even know of it."""
    if row.institution_id in pages_find.overseen(scope) and scope.may("see_feeds"):
        return NotPermitted(
            T(
                "文档内容由有诊疗关系的医务人员或主索引管理员查看，您可以查看列表。",
                "What stands in a document is for clinicians with a care relationship and the index manager; the list is yours.",
            )
        )
    return Http404()


@page()
def document(request: HttpRequest, pk: int) -> HttpResponse:
    """One document for reading."""
    one = opened(request, pk)
    others = pages_find.versions(one.row)
    context: dict[str, Any] = {
        "row": one.row,
        "person": one.person if one.person and request.scope.clinical else None,
        "sheet": None,
        "versions": others,
        "lineage": _lineage(request.scope, one.row),
        "labels": one.reference.get("securityLabel", []),
        "family": entry.FAMILY_NAMES.get(one.row.family, one.row.family),
    }
    if one.row.family != entry.OTHER:
        context["sheet"] = _sheet(one, lambda part: reverse("documents:part", args=[pk, part.number]))
    return render(request, "feeds/document.html", context)


def _sheet(one: Opened, address: Any) -> Sheet:
    return drawing.sheet(reading.read(one.body), one.body, address)


def _lineage(scope: Scope, row: RegisteredDocument) -> str:
    """The address of the arrival that a document came in as, for those who see arrivals."""
    if not scope.may("see_feeds"):
        return ""
    found = Arrival.objects.filter(resources__contains=[f"DocumentReference/{row.reference}/1"]).first()
    try:
        return reverse("feeds:message", args=[found.pk]) if found else ""
    except NoReverseMatch:
        return ""


@page()
def original(request: HttpRequest, pk: int) -> HttpResponse:
    """The bytes exactly as they came."""
    one = opened(request, pk, "export")
    media = one.media.partition(";")[0] or "application/octet-stream"
    name = f"{one.row.kind.replace('/', '').replace(' ', '-')}-{pk}{'.xml' if 'xml' in media else ''}"
    return _file(one.body, media, name, attached=True)


@page()
def part(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """An image inside a document, or an attachment to be fetched."""
    one = opened(request, pk)
    found = next((p for p in _sheet(one, lambda p: "").parts if p.number == number), None)
    if found is None:
        raise Http404
    return _file(found.data, found.media_type, f"part-{number}", attached=not found.image)


def _file(body: bytes, media: str, name: str, *, attached: bool) -> HttpResponse:
    response = HttpResponse(body, content_type=media)
    disposition = content_disposition_header(attached, name)
    if disposition:
        response.headers["Content-Disposition"] = disposition
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


@page()
def paper(request: HttpRequest, pk: int) -> HttpResponse:
    """The document on paper (PDF, A4)."""
    one = opened(request, pk, "print")
    if one.row.family == entry.OTHER:
        raise Http404
    return _file(pdf(one), "application/pdf", f"document-{pk}.pdf", attached=False)


def pdf(one: Opened) -> bytes:
    """A document as PDF in the look of a Chinese medical record; only what is in it is drawn, nothing is loaded."""

    def inline(part: Part) -> str:
        return f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"

    sheet = _sheet(one, inline)
    images = [inline(part) for part in sheet.attachments if part.image]
    context = {"row": one.row, "sheet": sheet, "printed": clock.now(), "images": images}
    return papers.pdf(render_to_string("feeds/document_print.html", context))


@require_POST
@page(clinical=True)
def make(request: HttpRequest) -> HttpResponse:
    """Compose a document from the record for a person, register it and open it."""
    scope = request.scope
    scope.demand("write_care")
    number, kind = request.POST.get("person", "").strip(), request.POST.get("kind", "")
    try:
        person = people.get(number)
    except people.UnknownPerson:
        return _not_made(request, T("没有这个主索引号。", "There is no such index number."))
    relationships.require(scope, person.pk)
    try:
        made = issue.issued(scope, kind, person.number)
    except Refusal as failure:
        return _not_made(request, failure.reason.text)
    except Problem as problem:
        return _not_made(request, problem.issues[0].text)
    return redirect("documents:one", made.pk)


def _not_made(request: HttpRequest, why: Text) -> HttpResponse:
    form = UploadForm()
    report = [
        {
            "name": "",
            "state": REFUSED,
            "known": False,
            "held": False,
            "told": [why],
            "arrival": None,
            "document": None,
        }
    ]
    return _list(request, form, report, status=422)


app_name = "documents"
urlpatterns = [
    path("documents", door_http.receive, name="receive"),
    path("documents/<str:kind>", door_http.write, name="write"),
    path("feeds/documents", documents, name="list"),
    path("feeds/documents/upload", upload, name="upload"),
    path("feeds/documents/issue", make, name="make"),
    path("feeds/documents/<int:pk>", document, name="one"),
    path("feeds/documents/<int:pk>/original", original, name="original"),
    path("feeds/documents/<int:pk>/print.pdf", paper, name="paper"),
    path("feeds/documents/<int:pk>/parts/<int:number>", part, name="part"),
]
