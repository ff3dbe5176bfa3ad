"""Addresses for machines that watch over the platform: ``/healthz``, ``/readyz``, ``/metrics``.

``/metrics`` holds figures, no patient data; it answers on loopback, or to the bearer of ``LIANXIN_METRICS_TOKEN`` when set.
"""

from __future__ import annotations

import hmac
import os

from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Gauge,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

# One statement per figure: a figure whose statement fails is left out, the others still answer.
GAUGES = {
    "lianxin_duties_open": ("Open duties", "SELECT count(*) FROM duty_duty WHERE discharged_at IS NULL"),
    "lianxin_duties_overdue": (
        "Open duties past due",
        "SELECT count(*) FROM duty_duty WHERE discharged_at IS NULL AND paused_since IS NULL AND due_at < %(now)s",
    ),
    "lianxin_cases_open": ("Open cases", "SELECT count(*) FROM duty_case WHERE NOT terminal"),
    "lianxin_outbox_waiting": (
        "Events waiting to be dispatched",
        "SELECT count(*) FROM duty_outbox WHERE done_at IS NULL",
    ),
    "lianxin_outbox_lag_seconds": (
        "Age of the oldest event waiting",
        "SELECT coalesce(extract(epoch FROM %(now)s - min(created_at)), 0) FROM duty_outbox WHERE done_at IS NULL",
    ),
    "lianxin_subscription_events_waiting": (
        "Subscription events not yet taken by their receivers",
        "SELECT count(*) FROM exchange_subscriptionevent WHERE status = 'waiting'",
    ),
    "lianxin_subscription_lag_seconds": (
        "Age of the oldest subscription event that waits",
        "SELECT coalesce(extract(epoch FROM %(now)s - min(happened_at)), 0) FROM exchange_subscriptionevent"
        " WHERE status = 'waiting'",
    ),
    "lianxin_subscriptions_failing": (
        "Subscriptions in error or whose receiver does not answer",
        "SELECT count(*) FROM exchange_subscription WHERE status = 'error' OR (status = 'active' AND failures > 0)",
    ),
    "lianxin_database_connections": (
        "Connections to our database",
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()",
    ),
    "lianxin_database_connections_active": (
        "Connections running a statement",
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'",
    ),
    "lianxin_database_bytes": ("Size of our database", "SELECT pg_database_size(current_database())"),
}

_migrated = False


@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while this process answers."""
    return JsonResponse({"status": "ok"})


@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the database answers and every migration is applied; else 503 with the reason."""
    reason = unready()
    return JsonResponse(
        {"status": "ready"} if not reason else {"status": "unready", "reason": reason},
        status=503 if reason else 200,
    )


def unready() -> str:
    """Why the platform cannot work now ("" when it can). Applied migrations are remembered for the process's life."""
    global _migrated
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not _migrated:
            executor = MigrationExecutor(connection)
            waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
            if waiting:
                return f"{len(waiting)} migrations are not applied: run `lianxin migrate`"
            _migrated = True
    except DatabaseError as failure:
        return f"the database does not answer ({type(failure).__name__})"
    return ""


@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text: requests by route, database, open and overdue duties, outbox lag."""
    if not _may_read(request):
        return HttpResponse(
            "metrics answer on loopback, or to the bearer of LIANXIN_METRICS_TOKEN\n", status=403
        )
    registry = CollectorRegistry()
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)
        body = generate_latest(registry)
    else:
        body = generate_latest(REGISTRY)
    return HttpResponse(body + generate_latest(figures()), content_type=CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest) -> bool:
    token = os.environ.get("LIANXIN_METRICS_TOKEN")
    if token:
        return hmac.compare_digest(
            request.headers.get("Authorization", "").encode(), f"Bearer {token}".encode()
        )
    return (
        request.META.get("REMOTE_ADDR") in {"127.0.0.1", "::1"} and "X-Forwarded-For" not in request.headers
    )


def figures() -> CollectorRegistry:
    """The gauges of :data:`GAUGES`, read now."""
    from lianxin.standards import clock

    registry = CollectorRegistry()
    for name, (meaning, statement) in GAUGES.items():
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(statement, {"now": clock.now()} if "%(now)s" in statement else None)
                value = cursor.fetchone()[0]
        except DatabaseError:
            continue  # unmeasured is absent, and an absent figure raises the watcher's alarm
        Gauge(name, meaning, registry=registry).set(float(value))
    return registry
