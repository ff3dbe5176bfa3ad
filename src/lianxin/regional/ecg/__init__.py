"""The ECG centre."""
