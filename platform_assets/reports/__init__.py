"""Reports: tables, each with a page of plots."""
