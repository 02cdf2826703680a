"""Kedro datasets: what the user brings (records, models) and what the project writes (committed, verified)."""

from selfie.datasets.annotation_cache import AnnotationCacheDataset
from selfie.datasets.committed import CommittedDataset
from selfie.datasets.evaluation import (
    ApiKeyDataset,
    LeaderboardDataset,
    ModelOutputsDataset,
    MtBenchQuestionsDataset,
    VerdictsDataset,
)
from selfie.datasets.export import ExportDataset, ManifestDataset
from selfie.datasets.lock import LockDataset
from selfie.datasets.models import CheckpointDataset, PackagedGGUFDataset, WorkspaceDataset
from selfie.datasets.records import PreferenceDataset, PromptDataset, RecordDataset
from selfie.datasets.rows import RowsDataset

__all__ = [
    "AnnotationCacheDataset",
    "ApiKeyDataset",
    "CheckpointDataset",
    "CommittedDataset",
    "ExportDataset",
    "LeaderboardDataset",
    "LockDataset",
    "ManifestDataset",
    "ModelOutputsDataset",
    "MtBenchQuestionsDataset",
    "PackagedGGUFDataset",
    "PreferenceDataset",
    "PromptDataset",
    "RecordDataset",
    "RowsDataset",
    "VerdictsDataset",
    "WorkspaceDataset",
]
