"""Webhooks over HTTP: where a turn may be posted, how it is signed and sent."""
