"""All benchmarks in turn: ``make bench``. Each prints ratios against a limit measured in the same run.

Needs a PostgreSQL that may be loaded (the embedded one when ``DATABASE_URL`` is unset); takes about half an hour.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ALL = (
    "duty_moves.py", "pools_booking.py", "pools_search.py", "pools_rush.py", "fhir.py", "load_synthea.py", "pages.py", "index.py", "centres_queue.py", "centres_recognition.py", "centres_ecg.py", "centres_dicom.py",
)  # fmt: skip


def main() -> int:
    """Run each as its own process; the exit code is the number that failed."""
    failed = 0
    for name in ALL:
        print(f"== {name}", flush=True)
        failed += subprocess.run([sys.executable, str(HERE / name)], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
