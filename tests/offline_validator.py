"""Validate an RO-Crate without a network; run by the Python of the validators' environment.

    .venv/validators/bin/python tests/offline_validator.py CRATE PROFILE SEVERITY CONTEXT

The validator fetches the JSON-LD context of RO-Crate 1.1; CONTEXT is a file that holds it. All
other addresses answer 404. Prints one line per issue; exits with 1 where there is one.
"""

import sys
from pathlib import Path

import requests
from rocrate_validator import models, services

crate, profile, severity, context = sys.argv[1:]
ADDRESS = "https://w3id.org/ro/crate/1.1/context"


class NoNetwork(requests.adapters.BaseAdapter):
    """Answers every request from CONTEXT, or with 404."""

    def send(self, request, **options):
        response = requests.Response()
        response.request, response.url = request, request.url
        response.status_code = 200 if request.url == ADDRESS else 404
        response.headers["Content-Type"] = "application/ld+json"
        response._content = Path(context).read_bytes() if response.ok else b""
        return response

    def close(self):
        pass


requests.Session.get_adapter = lambda session, url: NoNetwork()
settings = models.ValidationSettings(
    rocrate_uri=crate,
    profile_identifier=profile,
    requirement_severity=models.Severity[severity],
    disable_check_for_duplicates=True,
    no_cache=True,
)
result = services.validate(settings)
for issue in result.get_issues():
    print(f"{issue.severity.name} {issue.check.identifier}: {issue.message}")
print(f"{len(result.executed_checks)} checks")
sys.exit(bool(result.get_issues()))
