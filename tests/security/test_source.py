"""Data is never code: check 11, read from the sources themselves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for name in ("pool", "protocol") for path in (ROOT / name).rglob("*.py"))
SCRIPTS = sorted((ROOT / "pool").rglob("*.lua"))

# Modules that make objects or code of bytes, whoever wrote them.
REVIVERS = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "jsonpickle",
    "marshal",
    "shelve",
}
REVIVERS |= {"copyreg", "yaml", "ruamel", "code", "codeop", "ctypes", "cffi", "xmlrpc", "joblib"}
# What runs text, or asks a library to make objects by a name in the data.
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "run_path", "run_module"}
CALLS |= {"create_subprocess_shell", "getoutput", "getstatusoutput", "spawnl", "execv", "execve"}
HOOKS = {"dec_hook", "ext_hook", "object_hook", "object_pairs_hook", "shell", "globalns"}
# The user's own agent, by the name that the operator wrote: the one import whose name is not fixed.
LOADER = ROOT / "protocol/command/load.py"


def wrong(path: Path) -> Iterator[str]:
    """What a source has that it must not have."""
    for node in ast.walk(ast.parse(path.read_text())):
        line = getattr(node, "lineno", 0)
        yield from (f"{path.name}:{line} {said}" for said in _wrong(node, path))


def _wrong(node: ast.AST, path: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from _revivers(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from _revivers([node.module or ""])
    elif isinstance(node, ast.Attribute | ast.Name):
        name = node.attr if isinstance(node, ast.Attribute) else node.id
        if "pickle" in name.lower() or name in ("__reduce__", "__class__", "__subclasses__"):
            yield name
    elif isinstance(node, ast.Call):
        yield from _call(node, path)


def _revivers(names: Iterator[str] | list[str]) -> Iterator[str]:
    return (f"imports {name}" for name in names if name.partition(".")[0] in REVIVERS)


def _call(node: ast.Call, path: Path) -> Iterator[str]:
    function = node.func
    if isinstance(function, ast.Name) and function.id in CALLS:
        yield f"calls {function.id}"
    # methods of these names are others: re.compile, say
    if isinstance(function, ast.Attribute) and function.attr in CALLS - {"compile"}:
        yield f"calls {function.attr}"
    yield from (f"has {each.arg}" for each in node.keywords if each.arg in HOOKS)
    named = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    fixed = bool(node.args) and isinstance(node.args[0], ast.Constant)
    if named == "import_module" and not fixed and path != LOADER:
        yield "imports what a variable says"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_revived_or_run_that_came_as_data(path):
    """No pickle, eval, exec, marshal, yaml, shell, or decoding that picks a type by its name."""
    assert list(wrong(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from yaml import load", "import marshal as m", "import ruamel.yaml"),
        *("eval('1')", "exec(text)", "compile(text, '', 'exec')", "os.system(text)"),
        *("subprocess.run(text, shell=True)", "json.loads(text, object_hook=make)"),
        *("msgspec.msgpack.decode(data, ext_hook=make)", "aiocache.serializers.PickleSerializer()"),
        *("importlib.import_module(text)", "value.__class__ = other", "__import__(text)"),
    ],
)
def test_what_is_looked_for_is_found(source, tmp_path):
    """Each of the ways to run data, so that the search above is not blind."""
    path = tmp_path / "bad.py"
    path.write_text(source)
    assert len(list(wrong(path))) == 1


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_of_redis_run_nothing_that_is_data(path):
    """No Lua text is made into code, and no command's name is read from the data."""
    text = path.read_text()
    assert re.findall(r"\b(loadstring|load|dofile|setfenv|loadfile)\s*\(", text) == []
    assert re.findall(r"redis\.p?call\(\s*[A-Z]*ARGV", text) == []
