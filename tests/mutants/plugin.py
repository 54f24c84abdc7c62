"""A pytest plugin: write what became of each test to the file in $CK_MUTANTS_REPORT, a JSON line each."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

REPORT = Path(os.environ["CK_MUTANTS_REPORT"])


def tell(test: str, when: str, outcome: str, error: str) -> None:
    with REPORT.open("a", encoding="utf-8") as file:
        file.write(json.dumps([test, when, outcome, error]) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    tell(item.nodeid, report.when, report.outcome, call.excinfo.typename if call.excinfo else "")
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        tell(report.nodeid, "collect", "failed", "")
