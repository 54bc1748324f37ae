"""Calls about objects: written on a branch, read at a ref, listed below a prefix."""

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lakefs_client.model.object_copy_creation import ObjectCopyCreation

from storage.errors import NotFound
from storage.lake.connection import TIMEOUT_S, Connection

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as listed; `checksum` is the ETag, `size` in bytes.

    `address` is where the bytes lie below lakeFS: objects that share it share them.
    """

    path: str
    size: int
    checksum: str
    address: str = ""


class ObjectCalls(Connection):
    """Objects of a lakeFS."""

    def put(
        self, repository: str, branch: str, path: str, data: bytes, *, if_absent: bool = False
    ) -> None:
        """Write one object. Raises Conflict if `if_absent` and it exists."""
        content = io.BytesIO(data)
        content.name = path.rsplit("/", 1)[-1]
        condition = {"if_none_match": "*"} if if_absent else {}
        with self._translate_errors(f"object {repository}/{branch}/{path}"):
            self._api.objects.upload_object(
                repository, branch, path, content=content, _request_timeout=TIMEOUT_S, **condition
            )

    def delete(self, repository: str, branch: str, path: str) -> None:
        """Stage the removal of one object; one that is not there is no error."""
        with suppress(NotFound), self._translate_errors(f"object {repository}/{branch}/{path}"):
            self._api.objects.delete_object(repository, branch, path, _request_timeout=TIMEOUT_S)

    def get(self, repository: str, ref: str, path: str) -> bytes:
        """The object's bytes, whole."""
        with self._translate_errors(f"object {repository}/{ref}/{path}"):
            response = self._api.objects.get_object(
                repository, ref, path, _preload_content=False, _request_timeout=TIMEOUT_S
            )
            try:
                return bytes(response.data)
            finally:
                response.release_conn()

    def download(self, repository: str, ref: str, path: str, target: Path) -> None:
        """Write the object's bytes to a new file, in bounded memory."""
        with self._translate_errors(f"object {repository}/{ref}/{path}"), target.open("xb") as file:
            response = self._api.objects.get_object(
                repository, ref, path, _preload_content=False, _request_timeout=TIMEOUT_S
            )
            try:
                file.writelines(response.stream(CHUNK_BYTES))
            finally:
                response.release_conn()

    def exists(self, repository: str, ref: str, path: str) -> bool:
        """Whether the object is there at the ref."""
        try:
            with self._translate_errors(f"object {repository}/{ref}/{path}"):
                self._api.objects.stat_object(repository, ref, path, _request_timeout=TIMEOUT_S)
        except NotFound:
            return False
        return True

    def address(self, repository: str, ref: str, path: str) -> str:
        """Where the object's bytes lie below lakeFS, whether or not they still do."""
        with self._translate_errors(f"object {repository}/{ref}/{path}"):
            found = self._api.objects.stat_object(repository, ref, path, _request_timeout=TIMEOUT_S)
        return str(found.physical_address)

    def is_readable(self, repository: str, ref: str, path: str) -> bool:
        """Whether the object's bytes are there; false for none, and for bytes that are gone."""
        try:
            with self._translate_errors(f"object {repository}/{ref}/{path}"):
                response = self._api.objects.get_object(
                    repository,
                    ref,
                    path,
                    range="bytes=0-0",
                    _preload_content=False,
                    _request_timeout=TIMEOUT_S,
                )
                try:
                    return len(response.data) > 0
                finally:
                    response.release_conn()
        except NotFound:
            return False

    def objects(self, repository: str, ref: str, *, prefix: str = "") -> list[StoredObject]:
        """Every object below the prefix, in byte order of the path."""
        found = self._list_all(
            self._api.objects.list_objects,
            f"objects {repository}/{ref}/{prefix}",
            repository,
            ref,
            prefix=prefix,
        )
        return [
            StoredObject(o.path, int(o.get("size_bytes", 0)), o.checksum, o.physical_address)
            for o in found
        ]

    def folders(self, repository: str, ref: str, *, prefix: str) -> list[str]:
        """Names one level below `prefix` (which ends in a slash) that have objects in them."""
        found = self._list_all(
            self._api.objects.list_objects,
            f"objects {repository}/{ref}/{prefix}",
            repository,
            ref,
            prefix=prefix,
            delimiter="/",
        )
        return [o.path[len(prefix) :].rstrip("/") for o in found if o.path_type == "common_prefix"]

    def copy(self, repository: str, path: str, *, source_ref: str, branch: str) -> None:
        """Stage on `branch` the object that stood at `source_ref`; no bytes are read."""
        creation = ObjectCopyCreation(src_path=path, src_ref=source_ref)
        with self._translate_errors(f"copy of {repository}/{source_ref}/{path}"):
            self._api.objects.copy_object(
                repository, branch, path, creation, _request_timeout=TIMEOUT_S
            )
