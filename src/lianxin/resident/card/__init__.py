"""The e-health card: number, dynamic QR code, joined cards, loss and re-issue, family; residents' accounts."""
