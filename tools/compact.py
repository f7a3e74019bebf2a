"""Removes comments and docstrings from Python source. All lines keep their numbers."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterator

__all__ = ["compact"]

_BEFORE_A_STATEMENT = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def compact(source: str) -> str:
    """Return `source` without comments, docstrings and other strings that are statements.

    The rest keeps its lines and columns, so that tracebacks match the source. A block that
    consists only of such strings gets `pass`. Raises SyntaxError or tokenize.TokenError if
    `source` is not valid Python.
    """
    lines = source.split("\n")
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for (first, column), (last, _), substitute in [*_comments(tokens), *_docstrings(tokens)]:
        lines[first - 1] = (lines[first - 1][:column] + substitute).rstrip()
        lines[first:last] = [""] * (last - first)
    return "\n".join(lines)


_Cut = tuple[tuple[int, int], tuple[int, int], str]
"""The start and end of a piece of source, each as line and column, and its replacement."""


def _comments(tokens: list[tokenize.TokenInfo]) -> Iterator[_Cut]:
    for token in tokens:
        if token.type == tokenize.COMMENT:
            yield token.start, token.end, ""


def _docstrings(tokens: list[tokenize.TokenInfo]) -> Iterator[_Cut]:
    """Yield the strings that are statements and are followed by the end of a line."""
    code = [token for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL)]
    before = tokenize.NEWLINE
    is_empty = False  # whether the block has nothing but such strings so far
    for token, end, following in zip(code, code[1:], code[2:], strict=False):
        is_statement = before in _BEFORE_A_STATEMENT and end.type == tokenize.NEWLINE
        if token.type == tokenize.STRING and is_statement:
            is_alone = is_empty and following.type == tokenize.DEDENT
            yield token.start, token.end, "pass" if is_alone else ""
        elif token.type != tokenize.NEWLINE:
            is_empty = token.type == tokenize.INDENT
        before = token.type
