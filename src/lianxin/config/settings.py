"""Django settings: everything comes from the environment, with defaults that suit a loopback demo.

``DATABASE_URL``      PostgreSQL to use; unset: the embedded server of ``lianxin.config.postgres``
``LIANXIN_HOME``      where the embedded database, keys and drafts live (default: ``.lianxin`` beside the code)
``LIANXIN_SHARED``    folder of real data used by the demo and tests when present
``LIANXIN_SECRET``    root secret (32+ bytes hex) from which signing, sealing and blind-index keys are derived
``LIANXIN_HOSTS``     comma-separated host names served (default: loopback)
``LIANXIN_LOG_JSON``  "1": logs are JSON lines; ``LIANXIN_LOG`` sets the level (default WARNING)
``LIANXIN_BULK_DIR``  where bulk exports and uploads wait (default: ``bulk`` in LIANXIN_HOME); ``LIANXIN_BULK_*``: docs/how-to/bulk.md
``LIANXIN_PUBLIC_URL``  the address under which others reach us (default http://127.0.0.1:8000): in what is published about images
``LIANXIN_ARCHIVE_DIR`` where images are kept (default: ``archive`` in LIANXIN_HOME); ``LIANXIN_ARCHIVE_*``, ``LIANXIN_ORTHANC_URL``:
                      docs/how-to/imaging-archive.md
``LIANXIN_CORS_ORIGINS``        origins whose browser applications may call /fhir, comma-separated ("*": any, the default; empty: none)
``LIANXIN_CONDITIONAL_DELETE``  how many resources one conditional delete may delete (default 1)
``LIANXIN_HTTPS``     "1": served behind a proxy that ends TLS: secure cookies, HSTS, trusted X-Forwarded-Proto
"""

import os
from pathlib import Path

from lianxin.config import database, logs, secrets

ROOT = Path(__file__).resolve().parents[3]
HOME = Path(os.environ.get("LIANXIN_HOME", ROOT / ".lianxin"))
SHARED = Path(os.environ.get("LIANXIN_SHARED", ROOT.parent / "shared"))

SECRET = secrets.root_secret(HOME)
SECRET_KEY = secrets.derive(SECRET, "django").hex()
DEBUG = os.environ.get("LIANXIN_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("LIANXIN_HOSTS", "127.0.0.1,localhost,[::1],testserver").split(",")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "pgtrigger",
    "lianxin.standards",
    "lianxin.network",
    "lianxin.access",
    "lianxin.index",
    "lianxin.record",
    "lianxin.pool",
    "lianxin.duty",
    "lianxin.exchange",
    "lianxin.clinical.referral",
    "lianxin.clinical.places",
    "lianxin.clinical.recognition",
    "lianxin.regional.archive",
    "lianxin.regional.critical",
    "lianxin.regional.reading",
    "lianxin.regional.imaging",
    "lianxin.regional.ecg",
    "lianxin.regional.emergency",
    "lianxin.regional.laboratory",
    "lianxin.regional.pathology",
    "lianxin.regional.ordering",
    "lianxin.regional.consult",
    "lianxin.regional.sterile",
    "lianxin.resident.sms",
    "lianxin.resident.card",
    "lianxin.resident.booking",
    "lianxin.resident.scheduling",
    "lianxin.resident.schedules",
    "lianxin.resident.quotas",
    "lianxin.resident.phone",
    "lianxin.scenarios",
    "lianxin.portal",
]

LIANXIN_CORS_ORIGINS: list[str] = [
    o.strip() for o in os.environ.get("LIANXIN_CORS_ORIGINS", "*").split(",") if o.strip()
]
LIANXIN_CONDITIONAL_DELETE = max(1, int(os.environ.get("LIANXIN_CONDITIONAL_DELETE", "1")))

AUTH_USER_MODEL = "access.Account"
AUTHENTICATION_BACKENDS = ["lianxin.access.accounts.Backend"]
# Administrators must enrol a second factor before they can do anything (off for a loopback demo).
LIANXIN_ENFORCE_TOTP = os.environ.get("LIANXIN_ENFORCE_TOTP") == "1"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "lianxin.config.urls"
WSGI_APPLICATION = "lianxin.config.wsgi.application"
DATABASES = {"default": database.config(HOME)}

MIDDLEWARE = [
    "lianxin.config.observe.ObserveMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "lianxin.config.plain.PlainTextMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "lianxin.access.web.ScopeMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "lianxin.portal.context.shell",
            ],
            "builtins": ["lianxin.portal.templatetags.lianxin"],
        },
    }
]

PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "lianxin.access.passwords.ThreeClassesValidator"},
]
LOGIN_URL = "portal:login"
LOGIN_REDIRECT_URL = "portal:workbench"
LIANXIN_RESIDENT_LOGIN_URL = "/m/login"

LANGUAGE_CODE = "zh-hans"
LANGUAGES = [("zh-hans", "简体中文"), ("en", "English")]
LANGUAGE_COOKIE_NAME = "lianxin_lang"
TIME_ZONE = "Asia/Shanghai"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = Path(os.environ.get("LIANXIN_STATIC", ROOT / "staticfiles"))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if STATIC_ROOT.joinpath("staticfiles.json").exists()
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not STATIC_ROOT.joinpath("staticfiles.json").exists()

if os.environ.get("LIANXIN_HTTPS") == "1":
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "style-src": ["'self'"],
        "script-src": ["'self'"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
        "base-uri": ["'self'"],
    }
}

# Bulk data: where files wait and for how many hours, lines a file, worker processes under ``lianxin serve``, jobs under way at
# once, the largest upload, and the addresses (beginnings of URLs, separated by blanks) that imports may be fetched from.
LIANXIN_BULK_DIR = Path(os.environ.get("LIANXIN_BULK_DIR", HOME / "bulk"))
LIANXIN_BULK_HOURS = int(os.environ.get("LIANXIN_BULK_HOURS", "72"))
LIANXIN_BULK_FILE_LINES = int(os.environ.get("LIANXIN_BULK_FILE_LINES", "100000"))
LIANXIN_BULK_WORKERS = int(os.environ.get("LIANXIN_BULK_WORKERS", max(1, (os.cpu_count() or 2) // 2)))
LIANXIN_BULK_JOBS = int(os.environ.get("LIANXIN_BULK_JOBS", "4"))
LIANXIN_BULK_UPLOAD_BYTES = int(os.environ.get("LIANXIN_BULK_UPLOAD_MB", "20000")) * 1024 * 1024
LIANXIN_BULK_SOURCES = os.environ.get("LIANXIN_BULK_SOURCES", "").split()

# Subscriptions: hosts, addresses or networks (separated by blanks or commas) that may be sent to although they lie in an inner
# network or speak plain http; a file of further certificate authorities; hours of failure until a subscription is in error; days
# that sent events are kept.
RECEIVERS = os.environ.get("LIANXIN_RECEIVERS", "").replace(",", " ").split()
RECEIVERS_CA = os.environ.get("LIANXIN_RECEIVERS_CA", "")
SUBSCRIPTION_GIVE_UP_HOURS = int(os.environ.get("LIANXIN_SUBSCRIPTION_GIVE_UP_HOURS", "72"))
SUBSCRIPTION_KEEP_DAYS = int(os.environ.get("LIANXIN_SUBSCRIPTION_KEEP_DAYS", "30"))

# The image archive: its folder, the space on its disk that is never used (MB), the largest instance (MB), seconds without a new
# instance after which a study is complete, and a real Orthanc behind it (http://user:password@host:8042; empty: our folder alone).
LIANXIN_PUBLIC_URL = os.environ.get("LIANXIN_PUBLIC_URL", "http://127.0.0.1:8000")
LIANXIN_ARCHIVE_DIR = Path(os.environ.get("LIANXIN_ARCHIVE_DIR", HOME / "archive"))
LIANXIN_ARCHIVE_RESERVE = int(os.environ.get("LIANXIN_ARCHIVE_RESERVE_MB", "500")) * 1024 * 1024
LIANXIN_ARCHIVE_MOST_BYTES = int(os.environ.get("LIANXIN_ARCHIVE_MOST_MB", "4096")) * 1024 * 1024
LIANXIN_ARCHIVE_QUIET_SECONDS = int(os.environ.get("LIANXIN_ARCHIVE_QUIET_SECONDS", "30"))
LIANXIN_ORTHANC_URL = os.environ.get("LIANXIN_ORTHANC_URL", "")
LIANXIN_DICOM_AE = os.environ.get("LIANXIN_DICOM_AE", "LIANXIN")

DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024

LOGGING = logs.config()
