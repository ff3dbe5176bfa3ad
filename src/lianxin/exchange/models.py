"""What the doors remember: files loaded, and messages that could not be taken."""

from django.db import models

from lianxin.exchange.bulk.models import (
    BulkBatch,
    BulkFile,
    BulkJob,
    BulkLane,
    BulkPerson,
    BulkRefusal,
    BulkUpload,
)
from lianxin.exchange.cda.models import RegisteredDocument
from lianxin.exchange.feeds.models import Arrival, Finding
from lianxin.exchange.feeds.quality.models import (
    ContentMark,
    DataProblem,
    QualityDay,
    QualityMark,
    Replay,
    RuleSetting,
    WeeklyReport,
)
from lianxin.exchange.ihe.models import Domain
from lianxin.exchange.partners.models import (
    Export,
    ExportFile,
    ExportRun,
    Partner,
    PartnerClient,
    PartnerTest,
    PartnerUsage,
    TrafficHour,
)
from lianxin.exchange.settlement.models import (
    SettlementBatch,
    SettlementControl,
    SettlementFile,
    SettlementIssue,
    SettlementLine,
    SettlementProvider,
)
from lianxin.exchange.subscriptions.models import Subscription, SubscriptionEvent
from lianxin.exchange.tables.models import TableChunk, TableMapping, TableRefusal, TableRun, TableSource
from lianxin.exchange.v2.mapping.models import MappingSample, MappingVersion
from lianxin.exchange.v2.models import Peer, V2Message

__all__ = [
    "Arrival",
    "BulkBatch",
    "BulkFile",
    "BulkJob",
    "BulkLane",
    "BulkPerson",
    "BulkRefusal",
    "BulkUpload",
    "ContentMark",
    "DataProblem",
    "DeadLetter",
    "Domain",
    "Export",
    "ExportFile",
    "ExportRun",
    "Finding",
    "LoadRun",
    "MappingSample",
    "MappingVersion",
    "Partner",
    "PartnerClient",
    "PartnerTest",
    "PartnerUsage",
    "Peer",
    "QualityDay",
    "QualityMark",
    "RegisteredDocument",
    "Replay",
    "RuleSetting",
    "SettlementBatch",
    "SettlementControl",
    "SettlementFile",
    "SettlementIssue",
    "SettlementLine",
    "SettlementProvider",
    "Subscription",
    "SubscriptionEvent",
    "TableChunk",
    "TableMapping",
    "TableRefusal",
    "TableRun",
    "TableSource",
    "TrafficHour",
    "V2Message",
    "WeeklyReport",
]


class LoadRun(models.Model):
    """One member (file) of a load, known by the SHA-256 of its bytes; done members are not loaded again."""

    sha = models.CharField(max_length=64)
    institution = models.ForeignKey("network.Institution", null=True, on_delete=models.PROTECT)
    name = models.TextField()
    resources = models.IntegerField()
    refused = models.IntegerField(default=0)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sha", "institution"], nulls_distinct=False, name="loadrun_once")
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.resources})"


class DeadLetter(models.Model):
    """A message that was refused: its original bytes, the coded reason, and whether a replay took it later."""

    sha = models.CharField(max_length=64, db_index=True)
    institution = models.ForeignKey("network.Institution", null=True, on_delete=models.PROTECT)
    channel = models.CharField(max_length=20)
    name = models.TextField()
    code = models.CharField(max_length=40)
    reason_zh = models.TextField()
    reason_en = models.TextField()
    expression = models.TextField(blank=True)
    payload = models.BinaryField()
    created_at = models.DateTimeField()
    replayed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.name}: {self.code}"
