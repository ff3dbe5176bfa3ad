"""Settings of the pathology centre as data (see ``data/policy.yaml``)."""

from pathlib import Path

from lianxin.network.policy import Settings

SETTINGS = Settings(Path(__file__).parent / "data" / "policy.yaml", "pathology.Policy")
value = SETTINGS.value
