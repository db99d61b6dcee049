"""Rules of each table, as data: one file a table."""
