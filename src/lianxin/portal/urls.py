"""Addresses of the portal. The rooms' own pages are included beside these by ``config.urls``."""

from django.urls import path

from lianxin.access import web
from lianxin.portal import (
    audit_pages,
    break_glass_pages,
    manage_accounts,
    manage_bulk,
    manage_clients,
    manage_consortia,
    manage_institutions,
    manage_people,
    manage_rules,
    manage_sheets,
    network_pages,
    notices,
    people_urls,
    signin,
    workbench,
)

app_name = "portal"

urlpatterns = [
    path("", workbench.workbench, name="workbench"),
    path("duties/<int:pk>/claim", workbench.claim, name="claim"),
    path("waiting", workbench.waiting, name="waiting"),
    path("overdue", workbench.overdue, name="overdue"),
    path("login", signin.login, name="login"),
    path("logout", signin.logout, name="logout"),
    path("password", signin.password, name="password"),
    path("totp", signin.totp, name="totp"),
    path("totp/verify", signin.totp_verify, name="totp_verify"),
    path("totp/remove", signin.totp_remove, name="totp_remove"),
    path("language", signin.language, name="language"),
    path("post", web.switch_post, name="switch_post"),
    path("notices", notices.notices, name="notices"),
    path("notices/read", notices.read_all, name="notices_read"),
    path("network", network_pages.network, name="network"),
    path("network/<str:code>", network_pages.institution, name="institution"),
    path("manage/institutions", manage_institutions.institutions, name="manage_institutions"),
    path("manage/institutions/new", manage_institutions.institution_edit, name="manage_institution_new"),
    path("manage/institutions/<str:code>", manage_institutions.institution_edit, name="manage_institution"),
    path(
        "manage/institutions/<str:code>/departments/new",
        manage_institutions.department_edit,
        name="manage_department_new",
    ),
    path(
        "manage/institutions/<str:code>/departments/<str:department>",
        manage_institutions.department_edit,
        name="manage_department",
    ),
    path(
        "manage/institutions/<str:code>/capabilities",
        manage_institutions.capability_add,
        name="manage_capability_add",
    ),
    path(
        "manage/capabilities/<int:pk>/end", manage_institutions.capability_end, name="manage_capability_end"
    ),
    path("manage/consortia", manage_consortia.consortia, name="manage_consortia"),
    path("manage/consortia/new", manage_consortia.consortium_edit, name="manage_consortium_new"),
    path("manage/consortia/<str:code>", manage_consortia.consortium_edit, name="manage_consortium"),
    path("manage/consortia/<str:code>/rules", manage_rules.rules, name="manage_rules"),
    path("manage/consortia/<str:code>/members", manage_consortia.member_add, name="manage_member_add"),
    path(
        "manage/consortia/<str:code>/agreements", manage_consortia.agreement_add, name="manage_agreement_add"
    ),
    path("manage/members/<int:pk>/end", manage_consortia.member_end, name="manage_member_end"),
    path("manage/agreements/<int:pk>/end", manage_consortia.agreement_end, name="manage_agreement_end"),
    path("manage/people", manage_people.people, name="manage_people"),
    path("manage/people/new", manage_people.person_edit, name="manage_person_new"),
    path("manage/people/<str:code>", manage_people.person_edit, name="manage_person"),
    path("manage/people/<str:code>/posts", manage_people.post_add, name="manage_post_add"),
    path("manage/posts/<int:pk>/end", manage_people.post_end, name="manage_post_end"),
    path("manage/accounts", manage_accounts.accounts, name="manage_accounts"),
    path("manage/accounts/new", manage_accounts.account_new, name="manage_account_new"),
    path("manage/accounts/<int:pk>", manage_accounts.account, name="manage_account"),
    path("manage/accounts/<int:pk>/<str:act>", manage_accounts.account_act, name="manage_account_act"),
    path("manage/bulk", manage_bulk.bulk_jobs, name="manage_bulk"),
    path("manage/bulk/<uuid:pk>", manage_bulk.bulk_job, name="manage_bulk_job"),
    path("manage/bulk/<uuid:pk>/cancel", manage_bulk.bulk_cancel, name="manage_bulk_cancel"),
    path("manage/bulk/<uuid:pk>/manifest.json", manage_bulk.bulk_manifest, name="manage_bulk_manifest"),
    path("manage/bulk/<uuid:pk>/<int:number>.ndjson", manage_bulk.bulk_report, name="manage_bulk_report"),
    path("manage/clients", manage_clients.clients_list, name="manage_clients"),
    path("manage/clients/new", manage_clients.client_edit, name="manage_client_new"),
    path("manage/clients/<int:pk>", manage_clients.client_edit, name="manage_client"),
    path("manage/clients/<int:pk>/<str:act>", manage_clients.client_act, name="manage_client_act"),
    path("manage/sheets", manage_sheets.sheets, name="manage_sheets"),
    path("manage/sheets/<str:kind>.xlsx", manage_sheets.download, name="manage_sheet"),
    path("audit", audit_pages.audit, name="audit"),
    path("audit.csv", audit_pages.audit_csv, name="audit_csv"),
    path("break-glass", break_glass_pages.reviews, name="break_glass"),
    path("break-glass/<int:pk>", break_glass_pages.review, name="break_glass_review"),
    *people_urls.urlpatterns,
]
