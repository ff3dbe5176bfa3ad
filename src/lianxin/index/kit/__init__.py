"""The index's test kit: labelled synthetic registrations, reading of labelled files (own and other people's), evaluation.

``lianxin index generate`` writes registrations of a synthetic county, truth and causes of error included; ``lianxin index
evaluate`` measures the index on such a file. See docs/how-to/index-evaluate.md.
"""

from lianxin.index.kit.csvfile import Labelled, UnreadableFile, from_rows, read_csv
from lianxin.index.kit.generate import read_rates, registrations, write_csv

__all__ = ["Labelled", "UnreadableFile", "from_rows", "read_csv", "read_rates", "registrations", "write_csv"]
