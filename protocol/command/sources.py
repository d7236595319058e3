"""Where options come from: a TOML file, the environment, and what the command line names."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from pool.errors import ConfigError
from protocol.settings import (
    EVERY,
    HIDDEN,
    NAMED,
    SECTIONS,
    AgentSettings,
    Option,
    Settings,
    StoreSettings,
    assemble,
    check_agent_name,
    did_you_mean,
    options_of,
)

PREFIX: Final = "ACTORPOOL_"
# Names the file; it is no option of a section.
CONFIG_VARIABLE: Final = "ACTORPOOL_CONFIG"
# What `chat` shows to a server; it is no option of a server.
KEY_VARIABLE: Final = "ACTORPOOL_KEY"
DEFAULT_FILE: Final = "actorpool.toml"
_SUCH_AS: Final = {"budgets": "usd = 10", "prices": "input = 0.5, output = 1.5"}
# The agent that is served when none is named.
DEMO: Final = (
    Option(("agents", "demo", "target"), "pool.agents.demo:demo", "agent demo"),
    Option(("agents", "demo", "gate"), "pool.agents.demo:demo_gate", "agent demo"),
    Option(("agents", "demo", "description"), "Fixed rules, no model: for a first try.", "demo"),
)


def gather(
    targets: Iterable[str],
    flags: Iterable[Option],
    environ: Mapping[str, str],
    *,
    file: str | None,
    directory: Path,
) -> Settings:
    """The settings from all sources: the command line over the environment, that over the file.

    `file`: the one that was named; else the environment's, else actorpool.toml in `directory` if it
    is there. Without any agent there is the one for a first try.
    """
    named = [*from_targets(targets), *flags]
    written = _written(file, environ, directory)
    agents = [option.path[1] for option in (*named, *written) if option.path[0] == "agents"]
    # First for the order of agents (the first is the default one), last for the precedence.
    options = [*named, *written, *from_environment(environ, agents=agents), *named]
    if all(option.path[0] != "agents" or option.path[1] == EVERY for option in options):
        options += DEMO
    return assemble(options)


def store_settings(
    url: str | None,
    environ: Mapping[str, str],
    *,
    named_by: str,
    file: str | None,
    directory: Path,
) -> StoreSettings:
    """The settings of the store alone, as a server with the same sources has them; `url` goes over
    all others, and was named by that option.
    """
    return server_settings(url, environ, named_by=named_by, file=file, directory=directory).store


def server_settings(
    url: str | None,
    environ: Mapping[str, str],
    *,
    named_by: str,
    file: str | None,
    directory: Path,
) -> Settings:
    """All settings of a server with the same sources, for a command next to it."""
    flags = [] if url is None else [Option(("store", "url"), url, named_by, from_text=True)]
    return gather((), flags, environ, file=file, directory=directory)


def from_file(path: Path, *, named_by: str) -> list[Option]:
    """The options of a TOML file; `named_by` is the option that named the file."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(named_by, str(path), "there is no such file") from None
    except OSError as error:
        raise ConfigError(named_by, str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(named_by, str(path), "is not UTF-8: save it as such") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(named_by, str(path), f"is not TOML: {error}") from None
    return [option for name, table in tables.items() for option in _table(name, table)]


def from_environment(environ: Mapping[str, str], *, agents: Iterable[str]) -> list[Option]:
    """The options of the variables that begin with ACTORPOOL_.

    `agents`: the names known so far. A variable writes them in capitals, with _ for -.
    """
    spelled = {agent.replace("-", "_").lower(): agent for agent in agents}
    return [
        option
        for variable, value in environ.items()
        if variable.startswith(PREFIX) and variable not in (CONFIG_VARIABLE, KEY_VARIABLE)
        for option in _variable(variable, value, spelled)
    ]


def from_targets(targets: Iterable[str]) -> list[Option]:
    """The agents named on the command line, as MODULE:ATTR or NAME=MODULE:ATTR."""
    options: dict[str, Option] = {}
    for target in targets:
        name, equals, place = target.partition("=")
        if not equals:
            name, place = target.rpartition(":")[2].rpartition(".")[2], target
        check_agent_name(name, option="agent", value=target)
        if name in options:
            remedy = f"two agents are called {name}: write OTHER_NAME={place}"
            raise ConfigError("agent", target, remedy)
        options[name] = Option(("agents", name, "target"), place, f"agent {name}")
    return list(options.values())


def _written(file: str | None, environ: Mapping[str, str], directory: Path) -> list[Option]:
    if file is not None:
        return from_file(Path(file), named_by="--config")
    if CONFIG_VARIABLE in environ:
        return from_file(Path(environ[CONFIG_VARIABLE]), named_by=CONFIG_VARIABLE)
    default = directory / DEFAULT_FILE
    return from_file(default, named_by="the file") if default.is_file() else []


def _table(name: str, table: object) -> Iterator[Option]:
    if name not in SECTIONS:
        sections = ", ".join(f"[{section}]" for section in SECTIONS)
        remedy = did_you_mean(name, SECTIONS, f"there is no such section: {sections}")
        raise ConfigError(name, HIDDEN, remedy)
    if not isinstance(table, dict):
        raise ConfigError(name, table, f"is a section: write [{name}] and its options below")
    if name == "agents":
        yield from _agents(table)
        return
    if name in NAMED:
        yield from _tables(name, table, name)
        return
    for option, value in table.items():
        yield Option((name, option), value, f"{name}.{option}")


def _agents(table: Mapping[str, object]) -> Iterator[Option]:
    for agent, options in table.items():
        here = f"agents.{agent}"
        check_agent_name(agent, option=here, value=options)
        if isinstance(options, str):
            yield Option(("agents", agent, "target"), options, here)
        elif isinstance(options, dict):
            for option, value in options.items():
                yield Option(("agents", agent, option), value, f"{here}.{option}")
        else:
            raise ConfigError(here, options, 'write "module:attribute", or a table of options')


def _tables(section: str, tables: Mapping[str, object], here: str) -> Iterator[Option]:
    """The options of tables that have names; `here` is what their giver calls them all."""
    for name, options in tables.items():
        if not (isinstance(options, dict) and options):
            remedy = f"is a table of options, such as {_SUCH_AS[section]}"
            raise ConfigError(f"{here}.{name}", options, remedy)
        for option, value in options.items():
            yield Option((section, name, option), value, f"{here}.{name}.{option}")


def _json_tables(variable: str, section: str, value: str) -> Iterator[Option]:
    """A whole section in one variable: names are not to be had in the names of variables."""
    try:
        tables = msgspec.json.decode(value, type=dict[str, Any])
    except msgspec.DecodeError:
        remedy = 'write a table of tables in JSON, {"name": {"option": 1}}'
        raise ConfigError(variable, value, remedy) from None
    return _tables(section, tables, variable)


def _variable(variable: str, value: str, agents: Mapping[str, str]) -> Iterator[Option]:
    section, _, option = variable.removeprefix(PREFIX).lower().partition("_")
    if section == "agents":
        agent, option = _agent_option(option)
        if agent:
            name = agents.get(agent, agent)
            yield Option(("agents", name, option), value, variable, from_text=True)
            return
    elif section in NAMED and not option:
        yield from _json_tables(variable, section, value)
        return
    elif section in SECTIONS and section not in NAMED and option in options_of(section):
        yield Option((section, option), value, variable, from_text=True)
        return
    otherwise = "there is no such option: write ACTORPOOL_<SECTION>_<OPTION>"
    if section == "agents":
        otherwise += ", of an agent ACTORPOOL_AGENTS_<NAME>_<OPTION>"
    remedy = did_you_mean(variable, _variables(), otherwise, prefix=PREFIX)
    # nobody knows what it is: it may be a secret
    raise ConfigError(variable, HIDDEN, remedy)


def _agent_option(text: str) -> tuple[str, str]:
    """`my_agent_max_steps` is option max_steps of my_agent; ("", "") if it ends in no option."""
    for option in sorted(AgentSettings.__struct_fields__, key=len, reverse=True):
        agent = text.removesuffix("_" + option)
        if agent != text:
            return agent, option
    return "", ""


def _variables() -> list[str]:
    whole = [f"{PREFIX}{section}".upper() for section in NAMED if section != "agents"]
    single = [
        f"{PREFIX}{section}_{option}".upper()
        for section in SECTIONS
        if section not in NAMED
        for option in options_of(section)
    ]
    return [CONFIG_VARIABLE, *whole, *single]
