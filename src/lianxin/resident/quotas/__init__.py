"""What quotas do: used, wasted, turned away; better ones proposed from history and tried on it."""
