"""The history of the schema: append-only revisions, run by :mod:`reflexio_store.sql.schema`."""
