"""What an MCP tool answered, as plain data for a model. Pure.

All of it is the server's word: it is shown as a result, whatever it says.
"""

from __future__ import annotations

from typing import Any

from mcp_types import (
    AudioContent,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)


def content_of(result: CallToolResult) -> Any:
    """The structured content if there is any, else the text; None for neither. What is no text is
    named in a note.
    """
    if result.structured_content is not None:
        return result.structured_content
    return text_of(result) or None


def text_of(result: CallToolResult) -> str:
    """The text of a result, with notes of what else there is."""
    return "\n".join(map(_text, result.content))


def _text(block: ContentBlock) -> str:
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, EmbeddedResource) and isinstance(block.resource, TextResourceContents):
        return block.resource.text
    return f"[{_note(block)}: not shown]"


def _note(block: ContentBlock) -> str:
    if isinstance(block, ImageContent | AudioContent):
        return f"{block.type} {block.mime_type}, {len(block.data)} characters of base64"
    if isinstance(block, ResourceLink):
        return f"link to {block.uri}"
    return "a resource that is no text"
