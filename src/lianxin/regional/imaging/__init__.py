"""The imaging centre."""
