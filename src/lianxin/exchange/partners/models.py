"""Partners with their clients, self-tests and usage; scheduled exports with their runs and files."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

PREPARING, TESTING, READY, LIVE, SUSPENDED = "preparing", "testing", "ready", "live", "suspended"
STATES = (PREPARING, TESTING, READY, LIVE, SUSPENDED)

RESOURCES, DOCUMENTS, TABLE = "resources", "documents", "table"
NDJSON, BUNDLE, CDA, CSV = "ndjson", "bundle", "cda", "csv"
FORMATS = {RESOURCES: (NDJSON, BUNDLE), DOCUMENTS: (CDA,), TABLE: (CSV,)}
POST, PUT, FOLDER = "POST", "PUT", "folder"
NO_AUTH, BEARER, BASIC, MTLS = "none", "bearer", "basic", "mtls"
MADE, SENT, HELD = "made", "sent", "held"


class Partner(models.Model):
    """Whoever connects: the vendor and whom to call, for which institutions, how far the connection is, and how much it may send.

    ``per_minute`` and ``per_day`` (none: no limit) count requests and messages of all its clients and HL7 v2 systems together.
    ``steps`` are the steps of the self-test that are required beside the general ones; ``threshold`` the quality score (0–100)
    its samples must reach.  ``tested_at`` is when all required steps were green; ``waived`` says why a connection that worked
    already was taken over without them.
    """

    name = models.CharField(max_length=120, unique=True)
    vendor = models.CharField(max_length=120, blank=True)
    contact = models.CharField(max_length=60, blank=True)
    phone = models.CharField(max_length=40, blank=True)
    note = models.TextField(blank=True)
    state = models.CharField(max_length=10, default=PREPARING)
    state_at = models.DateTimeField()
    institutions = models.ManyToManyField("network.Institution", related_name="+")
    per_minute = models.IntegerField(null=True, blank=True)
    per_day = models.IntegerField(null=True, blank=True)
    steps = ArrayField(models.CharField(max_length=20), default=list, blank=True)
    threshold = models.SmallIntegerField(default=80)
    tested_at = models.DateTimeField(null=True)
    waived = models.TextField(blank=True)
    created_at = models.DateTimeField()

    class Meta:
        app_label = "exchange"
        constraints = [
            models.CheckConstraint(condition=Q(state__in=STATES), name="partner_state"),
            models.CheckConstraint(
                condition=~Q(state__in=(READY, LIVE)) | Q(tested_at__isnull=False) | ~Q(waived=""),
                name="partner_tested_before_live",
            ),
            models.CheckConstraint(
                condition=(Q(per_minute__isnull=True) | Q(per_minute__gte=1))
                & (Q(per_day__isnull=True) | Q(per_day__gte=1)),
                name="partner_limits",
            ),
            models.CheckConstraint(
                condition=Q(threshold__gte=0) & Q(threshold__lte=100), name="partner_threshold"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class PartnerClient(models.Model):
    """A client (and with it the HL7 v2 systems that act for it) belongs to one partner."""

    partner = models.ForeignKey(Partner, on_delete=models.CASCADE, related_name="links")
    client = models.OneToOneField("access.Client", on_delete=models.PROTECT, related_name="+")

    class Meta:
        app_label = "exchange"

    def __str__(self) -> str:
        return f"{self.partner_id}/{self.client_id}"


class PartnerUsage(models.Model):
    """How many pieces a partner sent on a day by one door, and how many of them were refused for its limits."""

    partner = models.ForeignKey(Partner, on_delete=models.CASCADE, related_name="usage")
    day = models.DateField()
    door = models.CharField(max_length=10)
    pieces = models.BigIntegerField(default=0)
    refused = models.BigIntegerField(default=0)

    class Meta:
        app_label = "exchange"
        constraints = [models.UniqueConstraint(fields=["partner", "day", "door"], name="partnerusage_once")]

    def __str__(self) -> str:
        return f"{self.partner_id} {self.day} {self.door}"


class PartnerTest(models.Model):
    """One step of the self-test as it went; ``report`` (sealed JSON) is what the vendor was shown."""

    partner = models.ForeignKey(Partner, on_delete=models.CASCADE, related_name="tests")
    step = models.CharField(max_length=20)
    passed = models.BooleanField()
    score = models.SmallIntegerField(null=True)
    report = models.BinaryField()
    by = models.CharField(max_length=120)
    at = models.DateTimeField()

    class Meta:
        app_label = "exchange"
        indexes = [models.Index(fields=["partner", "step", "-at"], name="partnertest_latest")]

    def __str__(self) -> str:
        return f"{self.partner_id} {self.step} {self.passed}"


class Export(models.Model):
    """What a partner is sent on a schedule: what, in which format, where to, and up to which change of the record it was given.

    It sees what ``client`` may see.  ``every`` (minutes) or ``daily`` (a time of day) is the schedule; ``read_rid`` is the number of
    the last change that was looked at (``record.feed``).  ``secret`` is sealed: a bearer token, ``name:password``, or certificate and
    key (PEM) for mutual TLS.  ``waits`` counts runs that wait to be sent: making stops when there are too many.
    """

    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="exports")
    client = models.ForeignKey("access.Client", on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=120, unique=True)
    what = models.CharField(max_length=10)
    kinds = ArrayField(models.CharField(max_length=60))
    filters = models.CharField(max_length=500, blank=True)
    columns = models.TextField(blank=True)
    format = models.CharField(max_length=10)
    method = models.CharField(max_length=6, default=POST)
    url = models.CharField(max_length=2000, blank=True)
    folder = models.CharField(max_length=500, blank=True)
    auth = models.CharField(max_length=6, default=NO_AUTH)
    secret = models.TextField(blank=True)
    every = models.IntegerField(null=True, blank=True)
    daily = models.TimeField(null=True, blank=True)
    active = models.BooleanField(default=True)
    read_rid = models.BigIntegerField(default=0)
    runs_made = models.IntegerField(default=0)
    next_at = models.DateTimeField()
    failures = models.IntegerField(default=0)
    not_before = models.DateTimeField(null=True)
    last_error = models.TextField(blank=True)
    created_at = models.DateTimeField()

    class Meta:
        app_label = "exchange"
        constraints = [
            models.CheckConstraint(
                condition=Q(what=RESOURCES, format__in=FORMATS[RESOURCES])
                | Q(what=DOCUMENTS, format__in=FORMATS[DOCUMENTS])
                | Q(what=TABLE, format__in=FORMATS[TABLE]),
                name="export_format",
            ),
            models.CheckConstraint(
                condition=Q(method=FOLDER, url="") & ~Q(folder="") | Q(method__in=(POST, PUT)) & ~Q(url=""),
                name="export_destination",
            ),
            models.CheckConstraint(condition=Q(auth__in=(NO_AUTH, BEARER, BASIC, MTLS)), name="export_auth"),
            models.CheckConstraint(
                condition=Q(every__isnull=False, every__gte=1, daily__isnull=True)
                | Q(every__isnull=True, daily__isnull=False),
                name="export_schedule",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ExportRun(models.Model):
    """One run: the changes after ``from_rid`` up to ``to_rid``, its files made in one transaction and sent until they are taken.

    ``stable_id`` never changes, however often it is sent, so that a receiver can tell a repetition.
    """

    export = models.ForeignKey(Export, on_delete=models.CASCADE, related_name="runs")
    number = models.IntegerField()
    stable_id = models.CharField(max_length=80, unique=True)
    from_rid = models.BigIntegerField()
    to_rid = models.BigIntegerField()
    state = models.CharField(max_length=4, default=MADE)
    count = models.IntegerField(default=0)
    size = models.BigIntegerField(default=0)
    attempts = models.IntegerField(default=0)
    error = models.TextField(blank=True)
    http_status = models.SmallIntegerField(null=True)
    at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(fields=["export", "number"], name="exportrun_once"),
            models.CheckConstraint(condition=Q(state__in=(MADE, SENT, HELD)), name="exportrun_state"),
            models.CheckConstraint(condition=Q(to_rid__gte=F("from_rid")), name="exportrun_forward"),
        ]
        indexes = [
            models.Index(fields=["export", "number"], condition=Q(state=MADE), name="exportrun_waiting")
        ]

    def __str__(self) -> str:
        return self.stable_id


class ExportFile(models.Model):
    """One file of a run (sealed, compressed), with what its receiver can check it by."""

    run = models.ForeignKey(ExportRun, on_delete=models.CASCADE, related_name="files")
    number = models.IntegerField()
    name = models.CharField(max_length=200)
    media = models.CharField(max_length=60)
    body = models.BinaryField()
    count = models.IntegerField()
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    sm3 = models.CharField(max_length=64)
    taken_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "exchange"
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="exportfile_once")]

    def __str__(self) -> str:
        return self.name


class TrafficHour(models.Model):
    """What went one way for one sender or receiver in an hour: how many, how many went wrong, and how long they took.

    ``who``: "client:3", "peer:7", "export:2"; ``way``: "in" (arrivals of any door), "v2", "subscription", "export".  ``lags``
    counts by the seconds of :data:`~lianxin.exchange.partners.traffic.BOUNDS`.
    """

    who = models.CharField(max_length=40)
    way = models.CharField(max_length=12)
    hour = models.DateTimeField()
    total = models.IntegerField()
    bad = models.IntegerField()
    lags = ArrayField(models.IntegerField())

    class Meta:
        app_label = "exchange"
        constraints = [models.UniqueConstraint(fields=["who", "way", "hour"], name="traffichour_once")]
        indexes = [models.Index(fields=["hour"], name="traffichour_hour")]

    def __str__(self) -> str:
        return f"{self.who} {self.way} {self.hour}"
