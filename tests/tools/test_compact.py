"""Comments and docstrings are removed from Python for devices, and nothing else."""

from __future__ import annotations

import ast
import io
import tokenize
import zipfile

import pytest

from tools.artifact import NOTE
from tools.build import build
from tools.compact import compact
from tools.project import Component


def is_text(node: ast.stmt) -> bool:
    """Return whether a statement is only a string."""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def code_of(source: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the syntax tree of a source, and the positions in it.

    Strings that are statements, and `pass`, are left out.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [n for n in body if not is_text(n) and not isinstance(n, ast.Pass)]
    nodes = (node for node in ast.walk(tree) if isinstance(node, (ast.stmt, ast.expr)))
    return ast.dump(tree), [(node.lineno, node.col_offset) for node in nodes]


def has_comments(source: str) -> bool:
    """Return whether a source has a comment, or a string that is a statement."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    statements = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt))
    return any(t.type == tokenize.COMMENT for t in tokens) or any(map(is_text, statements))


def test_every_module_of_the_artifact_is_the_code_of_its_source(downloader: Component) -> None:
    modules = 0
    with zipfile.ZipFile(build(downloader)) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                source = (downloader.folder / name).read_text()
                shipped = archive.read(name).decode()
                compile(shipped, name, "exec")
                assert code_of(shipped) == code_of(source), name
                assert not has_comments(shipped), name
                modules += 1
        assert "without comments" in archive.read(NOTE).decode()
    assert modules == len([*downloader.folder.rglob("*.py")])


@pytest.mark.parametrize(
    ("source", "compacted"),
    [
        ('"""What it is."""\n\na = 1\n', "\n\na = 1\n"),
        ("#!/usr/bin/python3\na = 1  # why\n", "\na = 1\n"),
        ('a = "#"  # why\n', 'a = "#"\n'),
        (
            'def f() -> None:\n    """Do it.\n\n    Twice.\n    """\n\n\nb = 1\n',
            "def f() -> None:\n    pass\n\n\n\n\n\nb = 1\n",
        ),
        (
            'class A:\n    """A."""  # noqa\n\n    a: int\n    """größer"""\n',
            "class A:\n\n\n    a: int\n\n",
        ),
        (
            'class A:\n    # A.\n    """A."""\n    # B.\n\n\nb = 1\n',
            "class A:\n\n    pass\n\n\n\nb = 1\n",
        ),
        ('class A:\n    """A."""\n    """B."""\n', "class A:\n\n    pass\n"),
        ('a = """\n# text  \n"""\n', 'a = """\n# text  \n"""\n'),
        ("f(\n    'a'  # b\n    'c',\n    # d\n)\n", "f(\n    'a'\n    'c',\n\n)\n"),
        ("r'''a'''", ""),
        ("", ""),
    ],
)
def test_lines_keep_their_numbers(source: str, compacted: str) -> None:
    assert compact(source) == compacted


def test_what_is_not_python_is_refused() -> None:
    with pytest.raises(tokenize.TokenError):
        compact("a = (\n")
