"""Reading the chunks of a streamed answer."""

from __future__ import annotations

import msgspec
import pytest

from pool.agents.model import AskedCall
from pool.agents.openai_answer import AnswerReader
from pool.errors import ModelUnusable, ProviderBadRequest, ProviderError, ProviderRateLimited
from pool.events import ReasoningDelta, TextDelta

DONE = b"[DONE]"


def delta(finish: str | None = None, **fields: object) -> bytes:
    """A chunk with one choice."""
    return msgspec.json.encode({"choices": [{"delta": fields, "finish_reason": finish}]})


def call(index: int, ref: str | None = None, name: str | None = None, arguments: str = "") -> bytes:
    """A chunk with a piece of a tool call."""
    function = {"name": name, "arguments": arguments}
    return delta(tool_calls=[{"index": index, "id": ref, "function": function}])


def test_pieces_that_come_together_are_one_event():
    """What one read delivered is one delta; another kind of text begins another."""
    reader = AnswerReader("m")

    events = reader.take(
        [delta(reasoning_content="h"), delta(reasoning="m"), delta(content="a"), delta(content="b")]
    )

    assert events == [ReasoningDelta("hm"), TextDelta("ab")]
    assert reader.take([delta(content="c")]) == [TextDelta("c")]
    assert reader.take([delta(content="d", reasoning="e")]) == [ReasoningDelta("e"), TextDelta("d")]
    assert reader.take([delta("stop")]) == []
    assert reader.answer().text == "abcd"


def test_nothing_comes_after_done():
    """What follows the end of the stream is not read."""
    reader = AnswerReader("m")

    assert reader.take([delta("stop", content="a"), DONE, b"not JSON"]) == [TextDelta("a")]
    assert reader.done


def test_usage_and_model_are_those_of_the_provider():
    """Tokens come from the last usage, the name of the model from the provider if it gives one."""
    reader = AnswerReader("m")
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached": 1}}
    reader.take(
        [delta("stop"), msgspec.json.encode({"choices": [], "usage": usage, "model": "m-1"})]
    )

    answer = reader.answer()

    assert (answer.model, answer.input_tokens, answer.output_tokens) == ("m-1", 7, 3)


def test_no_usage_is_zero_tokens():
    """A provider that reports no usage, or none of it, does not fail the answer."""
    reader = AnswerReader("m")
    reader.take([b'{"usage": {"prompt_tokens": null}, "choices": null}', delta("stop")])

    answer = reader.answer()

    assert (answer.model, answer.input_tokens, answer.output_tokens) == ("m", 0, 0)


def test_calls_are_put_together():
    """Several calls may grow at once; their pieces find each other by index."""
    reader = AnswerReader("m")
    reader.take([call(0, "a", "add"), call(1, "b", "sub", "{"), call(0, arguments='{"x"')])
    reader.take([call(1, arguments="}"), call(0, arguments=": 1}"), delta("tool_calls")])

    assert reader.answer().calls == (AskedCall("a", "add", '{"x": 1}'), AskedCall("b", "sub", "{}"))


def test_calls_with_the_same_index_are_told_apart_by_id():
    """Providers that give every call index 0 are understood as well."""
    reader = AnswerReader("m")
    reader.take([call(0, "a", "add", "{}"), call(0, "b", "sub", "{"), call(0, arguments="}")])
    reader.take([delta("tool_calls")])

    assert reader.answer().calls == (AskedCall("a", "add", "{}"), AskedCall("b", "sub", "{}"))


def test_call_without_a_function_is_a_call_without_a_name():
    """What is missing stays empty, for the loop to answer."""
    reader = AnswerReader("m")
    reader.take([delta("tool_calls", tool_calls=[{"id": "a"}])])

    assert reader.answer().calls == (AskedCall("a", "", ""),)


def test_length_means_cut():
    """A finish reason of "length" says that there was more to say."""
    reader = AnswerReader("m")
    reader.take([delta("length", content="on")])

    assert reader.answer().cut


def test_refusal_of_the_model_is_its_answer():
    """What a model says in refusing is text like any other."""
    reader = AnswerReader("m")

    assert reader.take([delta("stop", refusal="No.")]) == [TextDelta("No.")]


def test_filtered_answer_fails_unless_something_was_said():
    """A withheld answer is an error; one that was broken off by the filter keeps its text."""
    silent, spoken = AnswerReader("m"), AnswerReader("m")
    silent.take([delta("content_filter")])
    spoken.take([delta("content_filter", content="Well")])

    with pytest.raises(ProviderError, match="withheld"):
        silent.answer()
    assert spoken.answer().text == "Well"


def test_answer_that_stops_before_its_end_may_be_tried_again():
    """Without a finish reason or [DONE] the answer was broken off."""
    reader = AnswerReader("m")
    reader.take([delta(content="once")])

    with pytest.raises(ProviderError, match="before it was complete") as broken:
        reader.answer()
    assert broken.value.retryable


def test_done_alone_is_no_answer():
    """A stream that says that it is through and has said nothing, not even why, broke off."""
    reader = AnswerReader("m")
    reader.take([delta(), DONE])

    with pytest.raises(ProviderError, match="before it was complete") as broken:
        reader.answer()
    assert broken.value.retryable


@pytest.mark.parametrize(
    "chunks", [[delta(content="all")], [call(0, "c", "add", "{}")], [delta("stop")]], ids=str
)
def test_done_ends_an_answer(chunks):
    """Without a reason to finish there has to be something; with one a model may say nothing."""
    reader = AnswerReader("m")
    reader.take([*chunks, DONE])

    assert reader.answer().text in ("all", "")


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_provider_that_gives_up_has_not_answered(reason):
    """Some say it as a reason to finish; half an answer is not taken for a whole one."""
    reader = AnswerReader("m")
    reader.take([delta(content="once"), delta(reason), DONE])

    with pytest.raises(ProviderError, match=f"gave up .*{reason}") as broken:
        reader.answer()
    assert broken.value.retryable


@pytest.mark.parametrize("data", [b"{", b'{"choices": [{"del', b"upstream error", b"\xff"], ids=str)
def test_chunk_that_was_cut_may_be_tried_again(data):
    """What is no JSON was broken on its way, and may not be the next time."""
    with pytest.raises(ProviderError) as broken:
        AnswerReader("m").take([data])
    assert broken.value.retryable


@pytest.mark.parametrize(
    "data",
    [b"[]", b'{"choices": 3}', b'{"choices":' + b"[" * 100_000],
    ids=["array", "type", "deep"],
)
def test_chunk_of_something_else_is_this_providers_way(data):
    """What is JSON and no chunk will be the same again: only another model may do."""
    with pytest.raises(ModelUnusable):
        AnswerReader("m").take([data])


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b'"text"', b'{"choices": 3}', b"\xff", b'{"choices":' + b"[" * 100_000],
    ids=["truncated", "array", "string", "type", "bytes", "deep"],
)
def test_what_is_no_chunk_is_a_typed_error(data):
    """Malformed chunks fail the turn as the provider's fault, without their content."""
    with pytest.raises(ProviderError, match="not a chat completion"):
        AnswerReader("m").take([data])


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"error": {"code": 429, "message": "slow down"}}', ProviderRateLimited),
        (b'{"error": {"type": "invalid_request_error"}, "choices": []}', ProviderBadRequest),
        (b'{"error": "broken"}', ProviderError),
    ],
)
def test_error_object_in_the_stream_is_raised(data, kind):
    """An error in the middle of an answer is the error that it names."""
    with pytest.raises(ProviderError) as failed:
        AnswerReader("m").take([delta(content="a"), data])

    assert type(failed.value) is kind


def test_calls_and_their_arguments_are_bounded():
    """A model that never stops asking is stopped."""
    many, long = AnswerReader("m"), AnswerReader("m")

    with pytest.raises(ModelUnusable, match="more than 128 tool calls"):
        many.take([call(index, f"c{index}", "x") for index in range(200)])
    with pytest.raises(ModelUnusable, match="characters of tool arguments"):
        long.take([call(0, "c", "x", "y" * 2**19) for _ in range(3)])
