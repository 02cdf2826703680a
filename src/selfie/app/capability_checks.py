"""Checks before the capability tests: the policies, the run's results, lm-eval and what its checkers need are there."""

import logging

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from selfie.datasets import CapabilityTestDataset, HandleDataset, OptionalDataset
from selfie.errors import DataError
from selfie.evaluation.capability_files import IFEVAL_SOURCE
from selfie.evaluation.harness import check_harness

logger = logging.getLogger(__name__)
IFEVAL = "ifeval_prompts"


def check_capabilities(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Pipelines without capability tests pass.

    Raises:
        DataError: a policy or a result that the report shows is not there.
        ConfigurationError: lm-eval, or what IFEval's checkers need, is not installed.
    """
    if "capabilities" not in {tag for node in pipeline.nodes for tag in node.tags}:
        return
    inputs = {name: catalog.get(name) for name in sorted(pipeline.inputs()) if not name.startswith("params:")}
    tests = {name: dataset for name, dataset in inputs.items() if isinstance(dataset, CapabilityTestDataset)}
    apart = (CapabilityTestDataset, OptionalDataset, HandleDataset)
    missing = [name for name, dataset in inputs.items() if not isinstance(dataset, apart) and not catalog.exists(name)]
    if missing:
        raise DataError(", ".join(missing), "not there, or not complete", "let `kedro run` end first")
    ifeval = tests.get(IFEVAL)
    check_harness(ifeval is not None and ifeval.exists())
    if ifeval is not None and not ifeval.exists():
        logger.info("IFEval is left out: %s is not there; %s", ifeval._describe()["filepath"], IFEVAL_SOURCE)
