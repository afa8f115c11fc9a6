"""A manifest as a Parquet table, written from its lines when a run ends."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.files import atomic_path, write_errors
from dpt_deploy.core.optional import extra
from dpt_deploy.jobs.predict.archive.manifest import ManifestRow

with extra("ray", purpose="writing Parquet"):
    import pyarrow as pa
    from pyarrow import parquet

_ROWS = 100_000  # held at a time
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("modified", pa.int64()),
        ("sha256", pa.string()),
        ("status", pa.string()),
        ("message", pa.string()),
        ("artefact", pa.string()),
        ("options", pa.string()),  # JSON
        ("fingerprint", pa.string()),
        ("outputs", pa.map_(pa.string(), pa.int64())),
    ]
)


def write_parquet(lines: Path, path: Path) -> None:
    """Write the rows of a finished manifest as a table with the same columns; ``options`` is JSON.

    Characters of a path that are no text are written as escapes.

    Raises:
        BadFileError: a line is no row.
        UsageError, ResourceError: it cannot be written.
    """
    with (
        lines.open("rb") as stream,
        atomic_path(path) as temporary,
        write_errors(path),
        parquet.ParquetWriter(temporary, _SCHEMA, compression="zstd") as table,
    ):
        while found := [_column_values(line, lines) for line in islice(stream, _ROWS)]:
            table.write_table(pa.Table.from_pylist(found, schema=_SCHEMA))


def _column_values(line: bytes, lines: Path) -> dict[str, object]:
    row = ManifestRow.from_json(line)
    if row is None:
        raise BadFileError(f"{lines} has a line that is no row: {line[:80]!r}", hint="run again with --resume")
    values = {name: getattr(row, name) for name in _SCHEMA.names}
    texts = {name: _text(value) for name, value in values.items() if isinstance(value, str)}
    outputs = [(_text(name), size) for name, size in row.outputs.items()]
    return {**values, **texts, "options": json.dumps(row.options, sort_keys=True), "outputs": outputs}


def _text(value: str) -> str:
    return value.encode(errors="backslashreplace").decode()
