"""The spool of the API's decisions: a file leaves it once bronze/api_decisions has all that it holds."""

from datetime import UTC, datetime
from pathlib import Path

from platform_assets.bronze.api_decisions import SCHEMA
from platform_assets.ingestion import ingest
from resources.decision_spool import FOLDER, seal
from resources.lakehouse.tables import Lakehouse
from resources.landing.folders import landed_files
from resources.landing.increments import has_changed
from resources.landing.ledger import Ledger


def land_spool(lakehouse: Lakehouse, spool: Path) -> None:
    """Bring what the spool holds into bronze/api_decisions, and delete its files."""
    seal(spool)
    if files := landed_files(spool, FOLDER):
        ingest(lakehouse, SCHEMA, files, datetime.now(UTC))
    clear_spool(lakehouse, spool)


def clear_spool(lakehouse: Lakehouse, spool: Path) -> int:
    """Seal the files of the spool, and delete those that were read since they were; return the number of these."""
    seal(spool)
    read = Ledger(lakehouse, SCHEMA.table).files
    over = [file for file in landed_files(spool, FOLDER) if not has_changed(file, read)]
    for file in over:
        file.path.unlink(missing_ok=True)
    return len(over)
