"""The runner of every session: goes on where the last run stopped, and repeats only what is stale."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import kedro.runner
from kedro.framework.session import service_session, session
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner.sequential_runner import SequentialRunner
from kedro.runner.task import Task
from pluggy import PluginManager

from selfie.app.buckets import local_paths
from selfie.app.freshness import examine, provenance_of, workspace_of
from selfie.runtime.signals import TerminatedError, exit_on_sigterm
from selfie.storage.provenance import Artefact
from selfie.storage.remote import Bucket

logger = logging.getLogger(__name__)


class ContinuingRunner(SequentialRunner):
    """Kedro's sequential runner, but a node whose outputs are committed and fresh is skipped.

    Each node is examined when its turn comes, so that a repeated node which makes the same bytes as before leaves all
    that follows from it fresh.

    Args:
        is_async: not supported; Kedro's command passes it.
        fresh: first drop the outputs' provenance and all unfinished work, so that every node runs.
    """

    def __init__(self, is_async: bool = False, fresh: bool = False):
        super().__init__(is_async=False)
        self.fresh = fresh

    def __repr__(self) -> str:
        """Says what it is: kedro-viz follows a run only if it reads the name of Kedro's sequential runner here."""
        return "<selfie.app.runner.ContinuingRunner, a kedro.runner.sequential_runner.SequentialRunner object>"

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
    ) -> None:
        try:
            with exit_on_sigterm():
                self._run_steps(pipeline, catalog, hook_manager, run_id)
        except KeyboardInterrupt as error:
            # Kedro tells hooks of an Exception only, but a notebook lives on, and would keep the experiment's lock.
            if hook_manager is not None:
                hook_manager.hook.on_pipeline_error(error=error, run_params={}, pipeline=pipeline, catalog=catalog)
            raise
        except TerminatedError:
            if Bucket.current is not None:
                Bucket.current.give_back_leases()
            raise

    def _run_steps(
        self, pipeline: Pipeline, catalog: CatalogProtocol, hook_manager: PluginManager | None, run_id: str | None
    ) -> None:
        if self.fresh:
            self._forget(pipeline, catalog)
        skipped: list[Node] = []
        for number, node in enumerate(pipeline.nodes, start=1):
            with shared_artifact_lock(node, catalog):
                state = examine(node, catalog)
                if state.status == "done":
                    skipped.append(node)
                    _remove_scratch(node, catalog)
                    continue
                partial = f" ({state.partial} are committed)" if state.partial else ""
                logger.info("%d/%d %s: %s%s", number, len(pipeline.nodes), node.name, state.why(), partial)
                Task(node, catalog, is_async=False, hook_manager=hook_manager, run_id=run_id).execute()
        if skipped:
            names = ", ".join(node.name for node in skipped)
            count = f"{len(skipped)} of {len(pipeline.nodes)} steps were committed and fresh and were skipped"
            logger.info("%s (`kedro run --fresh` repeats them): %s", count, names)

    def _forget(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        for node in pipeline.nodes:
            with shared_artifact_lock(node, catalog):
                _remove_scratch(node, catalog, superseded=True)
                for name in node.outputs:
                    dataset: Any = catalog.get(name)
                    if isinstance(dataset, Artefact):
                        dataset.forget()


def continue_by_default() -> None:
    """From now on every session that is given no runner continues, whoever opened it.

    Kedro has no setting for the runner. ``SESSION_CLASS`` does not reach Airflow's tasks and the server, which open
    Kedro's own session classes, and a hook can't skip a node. But both classes and the server look up the name of
    Kedro's default runner when a run begins; so the name changes its meaning, and the class stays what it is.
    """
    for module in (kedro.runner, session, service_session):
        vars(module)["SequentialRunner"] = ContinuingRunner


def _remove_scratch(node: Node, catalog: CatalogProtocol, superseded: bool = False) -> None:
    """Removes what a run killed right after the commit has left; ``superseded``: of other provenances too."""
    workspace = workspace_of(node, catalog, provenance_of(node, catalog))
    if workspace is not None:
        folder = workspace[1].parent if superseded else workspace[1]
        shutil.rmtree(folder, ignore_errors=True)


def shared_artifact_lock(node: Node, catalog: CatalogProtocol) -> AbstractContextManager[None]:
    """A lock on artefacts that experiments share: one run makes them, others wait and then find them made."""
    if "preparation" not in node.tags or "preparation_lock" not in catalog:
        return nullcontext()
    return _waiting(node, catalog)


@contextmanager
def _waiting(node: Node, catalog: CatalogProtocol) -> Iterator[None]:
    with catalog.load("preparation_lock").waiting():
        if Bucket.current is not None:  # what another machine has made meanwhile
            Bucket.current.pull(local_paths(node.outputs, catalog))
        yield
