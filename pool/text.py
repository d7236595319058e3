"""Text that an agent said, made fit to be stored and sent."""

from __future__ import annotations


def writable(text: str) -> tuple[str, int]:
    """The text and its size in bytes of UTF-8; lone surrogates, which that cannot hold, are `?`."""
    if text.isascii():
        return text, len(text)
    try:
        return text, len(text.encode())
    except UnicodeEncodeError:
        encoded = text.encode(errors="replace")
        return encoded.decode(), len(encoded)
