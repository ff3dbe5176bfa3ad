"""Addresses of this room: the queue and the editor, amended reports, roster, readers, templates, statistics."""

from django.urls import URLPattern, path

from lianxin.regional.reading import pages, pages_editor, pages_manage, pages_statistics, pages_templates

app_name = "reading"

urlpatterns: list[URLPattern] = [
    path("reading", pages.queue, name="queue"),
    path("reading/claim", pages.claim, name="claim"),
    path("reading/open/<int:entry_id>", pages.open_up, name="open_up"),
    path("reading/roster", pages_manage.roster_page, name="roster"),
    path("reading/roster/remove/<int:shift_id>", pages_manage.roster_remove, name="roster_remove"),
    path("reading/readers", pages_manage.readers, name="readers"),
    path("reading/readers/<int:reader_id>", pages_manage.reader_one, name="reader"),
    path("reading/templates", pages_templates.listed, name="templates"),
    path("reading/templates/new", pages_templates.one, name="template_new"),
    path("reading/templates/<int:template_id>", pages_templates.one, name="template"),
    path("reading/statistics", pages_statistics.statistics_page, name="statistics"),
    path("reading/statistics/rows", pages_statistics.rows_page, name="statistics_rows"),
    path("reading/statistics.csv", pages_statistics.csv_file, name="statistics_csv"),
    path("reading/cases/<str:number>", pages.case, name="case"),
    path("reading/cases/<str:number>/<str:move>", pages.case, name="case_act"),
    path("reading/amended/<str:number>", pages.amended, name="amended"),
    path("reading/amended/<str:number>/<str:move>", pages.amended_act, name="amended_act"),
    path("reading/<str:number>", pages_editor.show, name="show"),
    path("reading/<str:number>/save", pages_editor.save, name="save"),
    path("reading/<str:number>/renew", pages_editor.renew, name="renew"),
    path("reading/<str:number>/complete", pages_editor.complete, name="complete"),
    path("reading/<str:number>/give-back", pages_editor.give_back, name="give_back"),
    path("reading/<str:number>/hand-over", pages_editor.hand_over, name="hand_over"),
    path("reading/<str:number>/critical", pages_editor.critical, name="critical"),
    path("reading/<str:number>/print.pdf", pages_editor.pdf, name="pdf"),
    path("reading/<str:number>/act/<str:move>", pages_editor.act, name="act"),
]
