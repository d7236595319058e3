from __future__ import annotations

import pytest
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from pool.agents.mcp_results import content_of, text_of


def result(*blocks: ContentBlock, **more: object) -> CallToolResult:
    """A result with this content."""
    return CallToolResult.model_validate({"content": list(blocks), **more}, by_name=True)


def test_structured_content_comes_first() -> None:
    """It is data; the text beside it says the same for those that cannot read it."""
    told = result(TextContent(text="3"), structured_content={"result": 3})
    assert content_of(told) == {"result": 3}
    assert text_of(told) == "3"


def test_text_is_joined() -> None:
    """Blocks of text are lines; nothing at all is nothing."""
    assert content_of(result(TextContent(text="one"), TextContent(text="two"))) == "one\ntwo"
    assert content_of(result()) is None


@pytest.mark.parametrize(
    ("block", "note"),
    [
        (
            ImageContent(data="aGk=", mime_type="image/png"),
            "[image image/png, 4 characters of base64: not shown]",
        ),
        (
            AudioContent(data="aGk=", mime_type="audio/wav"),
            "[audio audio/wav, 4 characters of base64: not shown]",
        ),
        (ResourceLink(name="n", uri="file:///n"), "[link to file:///n: not shown]"),
        (
            EmbeddedResource(resource=BlobResourceContents(uri="a://b", blob="aGk=")),
            "[a resource that is no text: not shown]",
        ),
        (EmbeddedResource(resource=TextResourceContents(uri="a://b", text="hi")), "hi"),
    ],
)
def test_what_is_no_text_is_named(block: ContentBlock, note: str) -> None:
    """In a short note; a resource that is text is shown."""
    assert content_of(result(TextContent(text="see:"), block)) == f"see:\n{note}"
