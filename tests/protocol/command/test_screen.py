from __future__ import annotations

from io import StringIO

from protocol.command.screen import Screen


def test_pieces_become_one_text() -> None:
    """Pieces of an answer follow each other; a note begins a line of its own."""
    out = StringIO()
    screen = Screen(out)
    for piece in ("Hel", "lo", ""):
        screen.text(piece)
    screen.note("cancelled")
    screen.note("again")
    screen.end_line()
    assert out.getvalue() == "Hello\n[cancelled]\n[again]\n"


def test_an_answer_cannot_steer_the_terminal() -> None:
    """Escape sequences and other controls lose their effect; lines, tabs and other scripts stay."""
    out = StringIO()
    Screen(out).text("a\x1b]0;title\x07\x9b2J\rb\n\tä漢\u200d")
    assert out.getvalue() == "a]0;title2Jb\n\tä漢\u200d"


def test_arguments_are_shown_exactly() -> None:
    """What cannot be seen in an argument is written out, so that nobody approves something else."""
    out = StringIO()
    screen = Screen(out)
    screen.note(screen.call("pay", {"to": "a\u202eb\x1b", "n": 1}))
    assert out.getvalue() == '[pay {"to":"a\\u202eb\\u001b","n":1}]\n'
