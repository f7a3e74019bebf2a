"""Python source without comments and docstrings, in which every line keeps its number."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterator

__all__ = ["compact"]

_BEFORE_A_STATEMENT = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def compact(source: str) -> str:
    """Return `source` without its comments, docstrings and other strings that stand alone.

    What is left has the line and the column that it had, so that a traceback fits the source; a
    block that had a docstring alone gets `pass`. Raises SyntaxError or tokenize.TokenError for what
    is not Python.
    """
    lines = source.split("\n")
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for (first, column), (last, _), substitute in [*_comments(tokens), *_docstrings(tokens)]:
        lines[first - 1] = (lines[first - 1][:column] + substitute).rstrip()
        lines[first:last] = [""] * (last - first)
    return "\n".join(lines)


_Cut = tuple[tuple[int, int], tuple[int, int], str]
"""Where it begins and ends, as line and column, and what comes in its place."""


def _comments(tokens: list[tokenize.TokenInfo]) -> Iterator[_Cut]:
    for token in tokens:
        if token.type == tokenize.COMMENT:
            yield token.start, token.end, ""


def _docstrings(tokens: list[tokenize.TokenInfo]) -> Iterator[_Cut]:
    """Yield the strings that are a statement by themselves, whose end is the end of a line."""
    code = [token for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL)]
    before = tokenize.NEWLINE
    for token, end, following in zip(code, code[1:], code[2:], strict=False):
        is_statement = before in _BEFORE_A_STATEMENT and end.type == tokenize.NEWLINE
        if token.type == tokenize.STRING and is_statement:
            is_alone = before == tokenize.INDENT and following.type == tokenize.DEDENT
            yield token.start, token.end, "pass" if is_alone else ""
        before = token.type
