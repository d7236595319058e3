"""The WebSocket door: many sessions on one connection, with acknowledgement and resume."""
