"""Text that an agent said, made fit to be stored and sent."""

from __future__ import annotations


def writable(text: str) -> tuple[str, int]:
    """The text and its size in bytes as UTF-8; lone surrogates, which UTF-8 cannot hold, become `?`."""
    if text.isascii():
        return text, len(text)
    try:
        return text, len(text.encode())
    except UnicodeEncodeError:
        encoded = text.encode(errors="replace")
        return encoded.decode(), len(encoded)
