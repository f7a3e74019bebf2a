"""Parses the XML documents of object stores: listings, errors, attributes of objects.

Source: "Actions" and "Error responses" in the Amazon S3 API reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

__all__ = ["NotXmlError", "child", "children", "parse"]

_NAMESPACE = " "  # between a namespace and a name


class NotXmlError(ValueError):
    """The text is not XML, or has a DTD, which documents of object stores do not have."""


def parse(body: bytes) -> Element:
    """Return the root element of a document. Raises NotXmlError.

    Names of elements have no namespace, because object stores differ in it.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator=_NAMESPACE)
    parser.buffer_text = True
    parser.StartElementHandler = lambda name, _: builder.start(_local(name), {})
    parser.EndElementHandler = lambda name: builder.end(_local(name))
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, LookupError) as error:  # LookupError is an unknown encoding
        raise NotXmlError(str(error)) from None
    return builder.close()


def children(element: Element, name: str) -> Iterator[Element]:
    """Yield the direct children of `element` that have this name."""
    return (below for below in element if below.tag == name)


def child(element: Element, name: str) -> str | None:
    """Return the text of the first direct child with this name, or None if there is none."""
    return next((below.text or "" for below in children(element, name)), None)


def _local(name: str) -> str:
    return name.rpartition(_NAMESPACE)[2]


def _refuse(*_: object) -> None:
    """Refuse a document type definition before it can declare entities."""
    raise NotXmlError(
        "it has a document type, as web pages have, but not the documents of an object store"
    )
