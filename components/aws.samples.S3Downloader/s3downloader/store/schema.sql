-- The columns key and etag contain the name and the validator of an object. They got their names when
-- S3 was the only source. The tables answers and notes contain responses and metadata.

CREATE TABLE downloads (
    download_id TEXT PRIMARY KEY,
    created_at  REAL NOT NULL,
    body        BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE files (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    download_id  TEXT NOT NULL REFERENCES downloads ON DELETE CASCADE,
    path         TEXT NOT NULL,
    key          TEXT NOT NULL,
    size         INTEGER NOT NULL,
    etag         TEXT NOT NULL,
    done         INTEGER NOT NULL DEFAULT 0,
    plan         INTEGER NOT NULL,
    sha256       TEXT NOT NULL DEFAULT '',
    checksum     TEXT NOT NULL DEFAULT '',
    modified     REAL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    error_code   TEXT NOT NULL DEFAULT '',
    error        TEXT NOT NULL DEFAULT '',
    next_attempt REAL,
    skipped      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (download_id, path)
);

CREATE INDEX files_in_order ON files (download_id, number);

CREATE TABLE answers (
    command_id TEXT PRIMARY KEY,
    at         REAL NOT NULL,
    response   BLOB NOT NULL
) WITHOUT ROWID;

CREATE INDEX answers_by_age ON answers (at);

CREATE TABLE inbox (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    command_id TEXT NOT NULL,
    payload    BLOB NOT NULL,
    takeovers  INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX inbox_by_command ON inbox (command_id, number);

CREATE TABLE outbox (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    payload     BLOB NOT NULL,
    is_response INTEGER NOT NULL DEFAULT 0,
    channel     TEXT NOT NULL DEFAULT 'responses'
);

CREATE TABLE models (
    model_id TEXT PRIMARY KEY,
    body     BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE notes (
    name TEXT PRIMARY KEY,
    body BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE versions (
    number INTEGER PRIMARY KEY,
    body   BLOB NOT NULL
);

CREATE TABLE published (
    file        TEXT PRIMARY KEY,
    size        INTEGER NOT NULL,
    etag        TEXT NOT NULL,
    sha256      TEXT NOT NULL,
    checksum    TEXT NOT NULL,
    inode       INTEGER NOT NULL,
    mtime_ns    INTEGER NOT NULL,
    download_id TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;

CREATE TABLE format (
    version INTEGER PRIMARY KEY,
    body    BLOB NOT NULL
)
