"""The folder of an archive and the truth in it: database, records, identity, pixels, spool, backup."""
