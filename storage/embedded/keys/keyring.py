"""The named keys of a lake, in a SQLite file of their own beside the graph.

SigV4 needs the secret itself, so it is sealed rather than hashed: AES-256-GCM under a key file
outside the lake's folder, bound to the key's id, name and grants. Other processes may add and
revoke keys while the server runs; it looks them up at every request.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from storage.embedded.errors import Exists
from storage.embedded.keys.access_keys import Grant, Key, make_key
from storage.embedded.sqlite import fetch_all, fetch_first
from storage.errors import Damaged, NotFound, Refused, Unavailable

BUSY_MS = 10_000
USE_NOTED_S = 60
SEAL_BYTES, NONCE_BYTES = 32, 12
SCHEMA = """
CREATE TABLE IF NOT EXISTS access_key(
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, grants TEXT NOT NULL, sealed BLOB NOT NULL,
  created_s INTEGER NOT NULL, used_s INTEGER
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """A key without its secret; times in Unix seconds, `used_s` right to a minute."""

    id: str
    name: str
    grants: tuple[Grant, ...]
    created_s: int
    used_s: int | None


class Keyring:
    """The keys of the lake under `root`; nothing is made before the first key is."""

    def __init__(self, root: Path) -> None:
        self._path = root / "keys.sqlite"
        self._seal_path = root.parent / f"{root.name}.key"
        self._connection: apsw.Connection | None = None
        self._seal = b""
        self._lock = threading.Lock()
        self._noted: dict[str, int] = {}

    def create(self, name: str, grants: tuple[Grant, ...]) -> Key:
        """A new key, durable when this returns. Raises: Exists, Refused."""
        if not grants:
            raise Refused(f"the key {name} would open nothing", remedy="Give it a grant.")
        key = make_key(name, grants)
        with self._open_or_make() as rows:
            row = (key.id, name, _encode_grants(grants), self._seal_secret(key), int(time.time()))
            try:
                rows.execute("INSERT INTO access_key VALUES (?, ?, ?, ?, ?, NULL)", row)
            except apsw.ConstraintError as error:
                raise Exists(
                    f"there is a key {name} already",
                    remedy="Choose another name, or revoke that key first.",
                ) from error
        return key

    def revoke(self, name: str) -> None:
        """Forget a key; the next request with it is refused. Raises: NotFound."""
        with self._open() as rows:
            query = "DELETE FROM access_key WHERE name = ? RETURNING id"
            if rows is None or fetch_first(rows, query, name) is None:
                raise NotFound(
                    f"there is no key {name}", remedy="`headrace lake keys list` prints them."
                )

    def list_keys(self) -> list[KeyDescription]:
        """All keys by name."""
        query = "SELECT id, name, grants, created_s, used_s FROM access_key ORDER BY name"
        with self._open() as rows:
            found = fetch_all(rows, query) if rows else []
        return [
            KeyDescription(id, name, _decode_grants(grants), *times)
            for id, name, grants, *times in found
        ]

    def find(self, key_id: str) -> Key | None:
        """The key of this id, its secret open. Raises: Damaged if the key file does not fit."""
        query = "SELECT name, grants, sealed FROM access_key WHERE id = ?"
        with self._open() as rows:
            found = fetch_first(rows, query, key_id) if rows else None
            if found is None:
                return None
            name, grants, sealed = found
            key = Key(key_id, name, "", _decode_grants(grants))
            return Key(key_id, name, self._open_secret(key, sealed), key.grants)

    def check(self) -> None:
        """Raises: Damaged if a key cannot be opened, Refused if others can read the key file."""
        for one in self.list_keys():
            self.find(one.id)

    def note_use(self, key_id: str) -> bool:
        """Whether the key's last use should be written: at most once a minute."""
        now = int(time.time())
        if now - self._noted.get(key_id, 0) < USE_NOTED_S:
            return False
        self._noted[key_id] = now
        return True

    def write_use(self, key_id: str) -> None:
        """Write that the key was used just now; that is no reason to fail."""
        with self._open() as rows:
            if rows is not None:
                rows.execute(
                    "UPDATE access_key SET used_s = ? WHERE id = ?", (int(time.time()), key_id)
                )

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _open_or_make(self) -> Iterator[apsw.Connection]:
        with self._lock, self._translate_errors():
            self._connection = self._connection or self._connect()
            yield self._connection

    @contextmanager
    def _open(self) -> Iterator[apsw.Connection | None]:
        with self._lock, self._translate_errors():
            if self._connection is None and self._path.exists():
                self._connection = self._connect()
            yield self._connection

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Turn SQLite's errors into the lake's. Raises: Damaged, Unavailable."""
        try:
            yield
        except (apsw.NotADBError, apsw.CorruptError) as error:
            raise self._describe_damage(str(error)) from error
        except apsw.BusyError as error:
            raise Unavailable(
                f"another process keeps {self._path} locked", remedy="Stop it, or try again."
            ) from error

    def _connect(self) -> apsw.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = apsw.Connection(str(self._path))
        connection.set_busy_timeout(BUSY_MS)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(SCHEMA)
        self._seal = self._read_seal(
            make=fetch_first(connection, "SELECT 1 FROM access_key") is None
        )
        return connection

    def _describe_damage(self, cause: str) -> Damaged:
        return Damaged(
            f"{self._path} cannot be used: {cause}",
            remedy=f"Restore it and {self._seal_path} from a backup, or remove {self._path} and"
            " make new keys.",
        )

    def _read_seal(self, *, make: bool) -> bytes:
        """The key file's bytes. Raises: Refused if others can read it, Damaged if it is lost."""
        if make:
            with suppress(FileExistsError):
                self._make_seal()
        elif not self._seal_path.exists():
            raise self._describe_damage(f"its key file {self._seal_path} is missing")
        if self._seal_path.stat().st_mode & 0o077:
            raise Refused(
                f"{self._seal_path} can be read by others", remedy=f"chmod 600 {self._seal_path}"
            )
        seal = self._seal_path.read_bytes()
        if len(seal) != SEAL_BYTES:
            raise self._describe_damage(f"{self._seal_path} is not {SEAL_BYTES} bytes")
        return seal

    def _make_seal(self) -> None:
        if self._seal_path.exists():
            return
        draft = self._seal_path.with_name(f".{self._seal_path.name}.{secrets.token_hex(4)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(SEAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link fails where a rename would replace the key that another process just made.
            os.link(draft, self._seal_path)
        finally:
            draft.unlink()

    def _seal_secret(self, key: Key) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self._seal).encrypt(nonce, key.secret.encode(), _bind(key))

    def _open_secret(self, key: Key, sealed: bytes) -> str:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, sealed_secret = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return AESGCM(self._seal).decrypt(nonce, sealed_secret, _bind(key)).decode()
        except (InvalidTag, ValueError):
            problem = f"the key {key.name} was changed, or {self._seal_path} is not its key file"
            raise self._describe_damage(problem) from None


def _encode_grants(grants: tuple[Grant, ...]) -> str:
    return json.dumps([str(grant) for grant in grants])


def _decode_grants(grants: str) -> tuple[Grant, ...]:
    return tuple(Grant.parse(text) for text in json.loads(grants))


def _bind(key: Key) -> bytes:
    """What the seal covers besides the secret, so that nobody widens a key in the file."""
    return json.dumps(["headrace lake key", key.id, key.name, _encode_grants(key.grants)]).encode()
