"""What is installed: known vulnerabilities (pip-audit) and licences (pip-licenses). ``make audit`` runs it.

pip-audit says "no known vulnerabilities" also where the advisory database knew none of the packages. Here a package
that was not looked up is counted, and a database that was not reached is an error.
"""

import json
import subprocess
import sys
from collections import defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table

from selfie.errors import UserError

LOOKED_UP = 0.8  # of the packages: builds like torch's +cpu and editable ones are in no database
COPYLEFT = ("GPL", "General Public", "MPL", "Mozilla", "EUPL", "CDDL")
SECONDS = 1200
REMEDY = "run it on a machine that reaches pypi.org; PIP_AUDIT_VULNERABILITY_SERVICE=osv asks osv.dev instead"


class AuditError(UserError):
    """The audit could not be made: it says nothing of the packages."""


def read_vulnerabilities(report: str, log: str = "") -> tuple[list[dict[str, Any]], list[str]]:
    """Of pip-audit's JSON report: the packages with known vulnerabilities, the names of those not looked up.

    Raises:
        AuditError: the advisory database was not reached, or knew too few of the packages.
    """
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError) as error:
        last = (log.strip().splitlines() or ["it said nothing"])[-1]
        raise AuditError(
            "advisory database", f"OFFLINE, nothing was audited: pip-audit failed ({last:.200})", REMEDY
        ) from error
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    answered = len(packages) - len(skipped)
    if answered < LOOKED_UP * len(packages):
        problem = f"OFFLINE, no audit: it answered for {answered} of {len(packages)} packages"
        raise AuditError("advisory database", problem, REMEDY)
    return [package for package in packages if package.get("vulns")], skipped


def group_licences(report: str) -> dict[str, list[str]]:
    """Of pip-licenses' JSON report: licence → packages, those to look at twice first."""
    groups = defaultdict(list)
    for package in json.loads(report):
        groups[package["License"]].append(f"{package['Name']} {package['Version']}")
    return dict(sorted(groups.items(), key=lambda group: (not needs_a_look(group[0]), group[0].lower())))


def needs_a_look(licence: str) -> bool:
    """Whether a licence asks more than attribution of those who pass the package on, or is not known."""
    return licence == "UNKNOWN" or any(mark in licence for mark in COPYLEFT)


def main() -> int:
    """Prints both reports; 1 where there are vulnerabilities, 2 where none could be looked up."""
    console = Console()
    licences = _run("piplicenses", "--format=json")
    console.print(_licence_table(group_licences(licences.stdout)))
    audit = _run("pip_audit", "--local", "--skip-editable", "--progress-spinner=off", "--format=json")
    try:
        vulnerable, skipped = read_vulnerabilities(audit.stdout, audit.stderr)
    except AuditError as error:
        error.show()
        return error.exit_code
    for package in vulnerable:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            console.print(f"[red]{package['name']} {package['version']}[/]: {found['id']}, fixed in {fixed}")
    console.print(
        f"{len(vulnerable)} packages with known vulnerabilities; not looked up: {', '.join(skipped) or 'none'}"
    )
    return 1 if vulnerable else 0


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)


def _licence_table(groups: dict[str, list[str]]) -> Table:
    table = Table("licence", "packages", title="Licences; those in bold ask for a look before you pass packages on")
    for licence, packages in groups.items():
        table.add_row(licence, ", ".join(packages), style="bold" if needs_a_look(licence) else "")
    return table


if __name__ == "__main__":
    sys.exit(main())
