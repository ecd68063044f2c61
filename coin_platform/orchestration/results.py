"""A committed table as Dagster shows it: metadata, data version and checks."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from coin_platform.lake import Commit
from coin_platform.tables.quality import Finding


def result_of(
    commit: Commit, rows: pl.DataFrame, findings: Sequence[Finding], metadata: Mapping[str, Any]
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Return the result of a materialisation: what was committed, and what its checks found."""
    columns = [dg.TableColumn(name, str(data_type)) for name, data_type in rows.schema.items()]
    commit_metadata: dict[str, Any] = {
        "dagster/partition_row_count": commit.rows,
        "dagster/uri": commit.uri,
        "dagster/column_schema": dg.TableSchema(columns),
        "bytes": commit.bytes,
        "generation": commit.generation,
        "changed": commit.changed,
    }
    checks = [
        dg.AssetCheckResult(
            passed=finding.passed,
            check_name=finding.rule,
            description=finding.sentence,
            metadata=finding.numbers,
            severity=dg.AssetCheckSeverity.WARN if finding.warns else dg.AssetCheckSeverity.ERROR,
        )
        for finding in findings
    ]
    return dg.MaterializeResult(
        metadata={**commit_metadata, **metadata},
        data_version=dg.DataVersion(commit.content_hash),
        check_results=checks,
    )
