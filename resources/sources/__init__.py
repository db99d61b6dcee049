"""Sources that are read bit by bit: topics, tables, an HTTP interface."""
