"""Critical values: notified, read back, acted on."""
