"""The tables of the version graph, and whether a file has them."""

import re

import apsw

SCHEMA = """
CREATE TABLE IF NOT EXISTS repository(
  id TEXT PRIMARY KEY, namespace TEXT NOT NULL, default_branch TEXT NOT NULL,
  created_s INTEGER NOT NULL, read_only INTEGER NOT NULL, protection TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS repository_metadata(
  repository TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(repository, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS branch(
  repository TEXT NOT NULL, name TEXT NOT NULL, head TEXT NOT NULL, hidden INTEGER NOT NULL,
  staging INTEGER NOT NULL, PRIMARY KEY(repository, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS staging_area(id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE IF NOT EXISTS staged(
  version INTEGER PRIMARY KEY AUTOINCREMENT, area INTEGER NOT NULL, key TEXT NOT NULL,
  entry TEXT, UNIQUE(area, key)
);
CREATE TABLE IF NOT EXISTS tag(
  repository TEXT NOT NULL, name TEXT NOT NULL, target TEXT NOT NULL,
  PRIMARY KEY(repository, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS commits(
  repository TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY(repository, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS node(id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS upload(
  id TEXT PRIMARY KEY, repository TEXT NOT NULL, branch TEXT NOT NULL, key TEXT NOT NULL,
  content_type TEXT NOT NULL, metadata TEXT NOT NULL, created_s INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS part(
  upload TEXT NOT NULL, number INTEGER NOT NULL, file TEXT NOT NULL, etag TEXT NOT NULL,
  size INTEGER NOT NULL, modified_s INTEGER NOT NULL, PRIMARY KEY(upload, number)
) WITHOUT ROWID;
PRAGMA user_version = 2;
"""
SCHEMA_VERSION = 2
"""In version 1 each tree was one index; both kinds are read, only the second is written."""
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\(")


def is_current(connection: apsw.Connection) -> bool:
    """Whether the file has this version and each table, also those that came later within it."""
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema").fetchall()}
    is_version = int(connection.pragma("user_version")) == SCHEMA_VERSION
    return is_version and tables.issuperset(_TABLE.findall(SCHEMA))
