"""Kedro datasets: what the user brings (records, models) and what the project writes (committed, verified)."""

from selfie.datasets.committed import CommittedDataset, OptionalDataset
from selfie.datasets.evaluation import (
    ApiKeyDataset,
    CapabilityTestDataset,
    LeaderboardDataset,
    ModelOutputsDataset,
    MtBenchQuestionsDataset,
    VerdictsDataset,
)
from selfie.datasets.export import ExportDataset, ManifestDataset
from selfie.datasets.handles import (
    AnnotationCacheDataset,
    HandleDataset,
    LabelsDataset,
    LockDataset,
    WorkspaceDataset,
)
from selfie.datasets.models import CheckpointDataset, PackagedGGUFDataset
from selfie.datasets.records import PairDataset, PreferenceDataset, PromptDataset, RecordDataset
from selfie.datasets.rows import RowsDataset

__all__ = [
    "AnnotationCacheDataset",
    "ApiKeyDataset",
    "CapabilityTestDataset",
    "CheckpointDataset",
    "CommittedDataset",
    "ExportDataset",
    "HandleDataset",
    "LabelsDataset",
    "LeaderboardDataset",
    "LockDataset",
    "ManifestDataset",
    "ModelOutputsDataset",
    "MtBenchQuestionsDataset",
    "OptionalDataset",
    "PackagedGGUFDataset",
    "PairDataset",
    "PreferenceDataset",
    "PromptDataset",
    "RecordDataset",
    "RowsDataset",
    "VerdictsDataset",
    "WorkspaceDataset",
]
