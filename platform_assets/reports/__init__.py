"""Reports: tables, and the pages of plots that most have."""
