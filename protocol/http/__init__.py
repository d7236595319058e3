"""The HTTP door: one module of handlers a subject, and what they share."""
