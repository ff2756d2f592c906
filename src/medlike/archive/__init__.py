"""The searchable archive: spool, store, index, search, maintenance."""
