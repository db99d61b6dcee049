"""`seamless privacy`: what persons have asked of the API is carried out."""

from collections.abc import Iterator

from governance.erasure import Subject
from resources.privacy_requests import PrivacyRequest, PrivacyRequests
from resources.settings import Settings
from serving.cli.erase import erase
from serving.cli.export import rows_to_export, write


def carry_out(settings: Settings) -> Iterator[PrivacyRequest]:
    """Carry out the waiting requests, oldest first, and yield each as it is then.

    One that was killed half-way is begun again by the next call.
    """
    requests = PrivacyRequests(settings.privacy_requests)
    for request in requests.waiting():
        subject = Subject(request.subject or "", request.tenant)
        if request.kind == "erase":
            report = erase(settings, subject)
        else:
            found = rows_to_export(settings, subject)
            write(found, requests.files(request))
            report = {"rows_exported": {table: rows.height for table, rows in found.items()}}
        yield requests.finish(request, report)


def tables_of(request: PrivacyRequest) -> list[str]:
    """Return the tables that had rows of a request's person."""
    report = request.report or {}
    return list(report.get("rows_removed") or report.get("rows_exported") or ())
