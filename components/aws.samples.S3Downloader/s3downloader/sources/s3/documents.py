"""The XML documents of stores: listings, errors, attributes of objects.

Source: "Actions" and "Error responses" in the Amazon S3 API reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

__all__ = ["NotXmlError", "child", "children", "parse"]

_NAMESPACE = " "  # between a namespace and a name


class NotXmlError(ValueError):
    """What should be a store's document is no XML, or has a DTD, as none of a store has."""


def parse(body: bytes) -> Element:
    """Return the document's root element; raise NotXmlError.

    Names come without their namespaces, on which stores do not agree.
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
    """Go through the elements of that name right below `element`."""
    return (below for below in element if below.tag == name)


def child(element: Element, name: str) -> str | None:
    """Return the text of the first element of that name right below, None where there is none."""
    return next((below.text or "" for below in children(element, name)), None)


def _local(name: str) -> str:
    return name.rpartition(_NAMESPACE)[2]


def _refuse(*_: object) -> None:
    """Refuse a document type before any entity of it is declared."""
    raise NotXmlError("it has a document type, as pages have and a store's answers have not")
