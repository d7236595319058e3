from __future__ import annotations

from pathlib import Path

import pytest

from protocol.authenticate.config import AuthConfig, said
from tests.support.process import completed

AGENTS = "async def echo(text): return text\nnumber = 7\n"


def test_says_what_would_run(tmp_path: Path) -> None:
    """Each agent, the address, the store and the log have a line; nothing is started."""
    (tmp_path / "app.py").write_text(AGENTS)
    done = completed("check", "app:echo", "--max", "3", "--port", "0", directory=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "agent   echo (default): app:echo, 1 to 3 actors",
        "server  127.0.0.1:0, drains for 30 s",
        f"auth    open: {said(AuthConfig())}",
        f"store   {tmp_path}/actorpool/actorpool.db",
        "hooks   refused: there is no secret",
        "audit   off",
        "limits  none",
        "budgets none",
        "prices  0 configured, genai-prices",
        "log     auto, from info on",
    ]
    assert done.stderr == ""


def test_a_model_is_checked_without_being_asked(tmp_path: Path) -> None:
    """A model needs a key, and no provider to answer."""
    environ = {"OPENAI_API_KEY": "canary-0b3d", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    done = completed("check", "--model", "openai:m", directory=tmp_path, environ=environ)
    assert done.stdout.startswith("agent   chat (default): model openai:m, 1 to 16 actors\n")
    assert "canary-0b3d" not in done.stdout + done.stderr


def test_secrets_are_not_said(tmp_path: Path) -> None:
    """A password of the store and the secret of webhooks are used and not shown."""
    environ = {
        "ACTORPOOL_STORE_URL": "redis://ann:canary@127.0.0.1:1/0",
        "ACTORPOOL_WEBHOOKS_SECRET": "whsec_canary" + "A" * 38,
    }
    done = completed("check", directory=tmp_path, environ=environ)
    assert "store   redis://***@127.0.0.1:1/0\n" in done.stdout
    assert "hooks   signed\n" in done.stdout
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.parametrize("verb", ["check", "serve"])
@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (
            ["app:ecko"],
            {},
            "agent ecko = 'app:ecko': app has no attribute ecko: did you mean echo?",
        ),
        (["nowhere:x"], {}, "agent x = 'nowhere:x': there is no module nowhere"),
        (["app:number"], {}, "agents.number.agent = 'int': give an async function"),
        (["--port", "x"], {}, "--port = 'x': write a whole number"),
        (["--host", "0.0.0.0"], {}, "--host = '0.0.0.0': beyond this machine"),
        (["--store", "tape"], {}, "--store = 'tape': write memory, sqlite:///path"),
        (["--store", "sqlite://a.db"], {}, "a file has no host: write sqlite:///a.db"),
        ([], {"XDG_STATE_HOME": ""}, "there is no HOME to keep sessions in: say where"),
        ([], {"ACTORPOOL_WEBHOOKS_SECRET": "canary"}, "WEBHOOKS_SECRET = '...': write whsec_"),
        (["--min", "3", "--max", "2"], {}, "agents.demo.min = 3: at most max, which is 2"),
        (["--config", "none.toml"], {}, "--config = 'none.toml': there is no such file"),
        (["--model", "openai:m"], {}, "OPENAI_API_KEY = '': the model's provider asks for a key"),
        (["--instructions", "x"], {}, "they are for a model: name one (--model)"),
        ([], {"ACTORPOOL_LOG_LEVL": "x"}, "did you mean ACTORPOOL_LOG_LEVEL?"),
        ([], {"ACTORPOOL_SERVER_PORT": "-1"}, "ACTORPOOL_SERVER_PORT = -1: write 1 to 65535"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, verb: str, arguments: list[str], environ: dict[str, str], message: str
) -> None:
    """Both commands say the same about the same mistake, in one line and with exit code 1."""
    (tmp_path / "app.py").write_text(AGENTS)
    done = completed(verb, *arguments, directory=tmp_path, environ=environ)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("actorpool: ")
    assert message in line
