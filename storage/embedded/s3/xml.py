"""S3's XML: documents written from nested pairs, and the two request documents read.

Request documents are read with expat directly, and a document type is refused, so that no
entity is ever expanded.
"""

import re
import time
from collections.abc import Sequence
from typing import Any, TypeAlias
from xml.parsers import expat
from xml.sax.saxutils import escape

from starlette.responses import Response

from storage.embedded.s3.errors import S3Refused

Content: TypeAlias = "str | int | bool | Sequence[tuple[str, Content]]"
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def format_time(seconds: int) -> str:
    """A time as S3 writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def reply_xml(root: str, content: Content, status: int = 200, **headers: str) -> Response:
    """An XML answer."""
    # S3 puts no namespace on its errors, and clients look for them without one.
    namespace = "" if root == "Error" else NAMESPACE
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{_write_element(root, content, namespace)}'
    return Response(body.encode(), status, headers, media_type="application/xml")


def read_records(
    body: bytes, root: str, record: str
) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The flat `record` elements under `root`, and root's other children. Raises: S3Refused."""
    reader = _DocumentReader(root, record)
    try:
        reader.parser.Parse(body, True)
    except expat.ExpatError as error:
        raise S3Refused("MalformedXML") from error
    if not reader.saw_root:
        raise S3Refused("MalformedXML")
    return reader.records, reader.others


class _DocumentReader:
    """Collects text by depth: 1 is the root, 2 a record or field of it, 3 a record's field."""

    def __init__(self, root: str, record: str) -> None:
        self._root, self._record = root, record
        self._path: list[str] = []
        self._text: list[str] = []
        self.records: list[dict[str, str]] = []
        self.others: dict[str, str] = {}
        self.saw_root = False
        # Whatever encoding the document claims: no codec is looked up by a name from outside.
        self.parser: Any = expat.ParserCreate("UTF-8")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text.append
        self.parser.StartDoctypeDeclHandler = self._refuse

    def _start(self, name: str, _: dict[str, str]) -> None:
        self._path.append(name.rpartition(":")[2])
        self._text.clear()
        self.saw_root = self.saw_root or self._path == [self._root]
        if self._path == [self._root, self._record]:
            self.records.append({})

    def _end(self, _: str) -> None:
        text = "".join(self._text)
        self._text.clear()
        match self._path:
            case [self._root, self._record, field]:
                self.records[-1][field] = text
            case [self._root, field] if field != self._record:
                self.others[field] = text
        self._path.pop()

    def _refuse(self, *_: object) -> None:
        raise S3Refused("MalformedXML")


def _write_element(name: str, content: Content, namespace: str = "") -> str:
    attribute = f' xmlns="{namespace}"' if namespace else ""
    return f"<{name}{attribute}>{_write_content(content)}</{name}>"


def _write_content(content: Content) -> str:
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, str | int):
        return escape(_NOT_XML.sub("\ufffd", str(content)), {"\r": "&#13;"})
    return "".join(_write_element(name, part) for name, part in content)
