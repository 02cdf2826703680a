"""What ``make audit`` makes of the reports of pip-audit and pip-licenses, in the form that these give them."""

import json

import pytest

from selfie.app.audit import AuditError, group_licences, needs_a_look, read_vulnerabilities


def looked_up(name: str, *vulnerabilities: str) -> dict:
    found = [{"id": name, "fix_versions": ["2.0"], "aliases": [], "description": "…"} for name in vulnerabilities]
    return {"name": name, "version": "1.0", "vulns": found}


def skipped(name: str) -> dict:
    reason = f"Dependency not found on PyPI and could not be audited: {name} (1.0)"
    return {"name": name, "skip_reason": reason}


def report(*packages: dict) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_vulnerable_packages_and_those_not_looked_up():
    packages = [looked_up("a"), looked_up("b", "PYSEC-2026-1"), looked_up("c"), looked_up("d"), skipped("torch")]
    vulnerable, unknown = read_vulnerabilities(report(*packages))
    assert [package["name"] for package in vulnerable] == ["b"]
    assert unknown == ["torch"]


def test_a_database_that_knew_nothing_is_no_clean_bill():
    """pip-audit itself ends with "No known vulnerabilities found" and exit code 0 here."""
    with pytest.raises(AuditError, match="OFFLINE, no audit: it answered for 1 of 3 packages"):
        read_vulnerabilities(report(looked_up("a"), skipped("b"), skipped("c")))


def test_a_database_that_was_not_reached_is_said():
    """Without a network pip-audit writes no report, and the reason to its log."""
    with pytest.raises(AuditError, match=r"OFFLINE, nothing was audited: pip-audit failed \(requests.*refused\)"):
        read_vulnerabilities("", "ERROR: …\nrequests.exceptions.ConnectionError: [Errno 111] Connection refused\n")


def test_licences_that_need_a_look_come_first():
    licences = {"a": "MIT", "b": "GNU General Public License v3 or later (GPLv3+)", "c": "UNKNOWN", "d": "MIT"}
    packages = [{"Name": name, "Version": "1.0", "License": licence} for name, licence in licences.items()]
    groups = group_licences(json.dumps(packages))
    assert list(groups) == ["GNU General Public License v3 or later (GPLv3+)", "UNKNOWN", "MIT"]
    assert groups["MIT"] == ["a 1.0", "d 1.0"]


@pytest.mark.parametrize(
    ("licence", "expected"), [("LGPL-2.1", True), ("MPL-2.0 AND MIT", True), ("Apache-2.0", False), ("BSD", False)]
)
def test_which_licences_need_a_look(licence: str, expected: bool):
    assert needs_a_look(licence) == expected
