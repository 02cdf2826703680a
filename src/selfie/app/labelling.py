"""``selfie label`` and ``selfie labels``: from the catalog's pairs to the annotators' files and to preferences."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from selfie.app.catalog_checks import check_paths, check_written
from selfie.data.label_formats import EXPORTS
from selfie.datasets import PairDataset, PreferenceDataset
from selfie.errors import ConfigurationError, DataError
from selfie.errors.disk_and_memory import storage_error
from selfie.labelling.label_file import LabelFile, label_files, read_labels
from selfie.labelling.merging import Merged, merge
from selfie.labelling.server import LabelServer
from selfie.labelling.session import LabellingSession
from selfie.reporting.tables import number

WRITTEN = ("labels", "labelled_preferences", "labelled_ties", "labelled_disagreements")
PROPOSE = "propose some with `selfie run --pipelines propose_labels`, or name a file of yours in the catalog"


def open_server(catalog: Any, seed: int, annotator: str, port: int) -> LabelServer:
    """The server of the annotator's page, who goes on where the file of labels ends.

    Raises:
        DataError: there are no pairs, or a row or a label can't be used.
        AlreadyRunningError: another process writes the annotator's labels.
        ConfigurationError: the port is in use, or a name can't be used.
        StorageError: the labels can't be written.
    """
    _check(catalog)
    dataset = catalog.get("pairs_to_label")
    if not isinstance(dataset, PairDataset) or isinstance(dataset, PreferenceDataset):
        raise ConfigurationError("catalog, pairs_to_label", "it is no PairDataset", "see conf/base/catalog.yml")
    if not dataset.exists():
        raise DataError(dataset.source, "there are no pairs to label", PROPOSE)
    rows, problems = dataset.inspect()
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        raise dataset.refusal(fatal)
    file = LabelFile(catalog.load("labels"), annotator)
    session = LabellingSession(rows, file, file.open(), seed)
    try:
        return LabelServer(session, port)
    except ConfigurationError:
        session.close()
        raise


def serve(server: LabelServer, say: Callable[[str], None]) -> None:
    """Serves until it is interrupted; what was labelled is committed at any moment."""
    state = server.session.state()
    say(f"{state['done']} of {state['total']} pairs are labelled by {state['annotator']}. Open in a browser:")
    say(f"  {server.url}")
    say("Ctrl-C stops; the same command goes on from there.")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        say("")
    finally:
        state = server.session.state()
        say(f"{state['done']} of {state['total']} pairs are labelled. `selfie labels` makes preferences of them.")
        server.session.close()
        server.server_close()


def merge_labels(catalog: Any, seed: int) -> Merged:
    """Writes the annotators' labels as preferences, ties and disagreements, and returns them.

    Raises:
        DataError: nobody has labelled a pair, or a line is no label.
    """
    _check(catalog)
    folder: Path = catalog.load("labels")
    labels = {file.stem: read_labels(file) for file in label_files(folder)}
    merged = merge(labels, seed)
    if not (merged.preferences or merged.ties or merged.disagreements):
        raise DataError(str(folder), "no pair is labelled yet", "label some with `selfie label`")
    catalog.save("labelled_preferences", pd.DataFrame(merged.preferences))
    catalog.save("labelled_ties", pd.DataFrame(merged.ties))
    catalog.save("labelled_disagreements", pd.DataFrame(merged.disagreements))
    return merged


def export_labels(merged: Merged, form: str, file: Path) -> str:
    """Writes the preferences as JSON lines of another tool's format, and says so.

    Raises:
        ConfigurationError: the file is there already.
        DataError: there is no preference, or one that the format can't say; nothing is written.
        StorageError: it can't be written.
    """
    if not merged.preferences:
        raise DataError("--export", "no pair has a preference yet", "label some with `selfie label`")
    lines = []
    for row, preference in enumerate(merged.preferences, start=1):
        try:
            lines.append(f"{json.dumps(EXPORTS[form](preference), ensure_ascii=False)}\n")
        except ValueError as error:
            raise DataError(f"preferences.jsonl, row {row}", *error.args) from error
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.writelines(lines)
    except FileExistsError as error:
        raise ConfigurationError(f"--export {file}", "there is a file already", "name another, or remove it") from error
    except OSError as error:
        raise storage_error(error) from error
    return f"{len(lines)} preferences as {form}: {file}"


def labels_table(merged: Merged) -> Table:
    """A row an annotator."""
    table = Table("annotator", "labels", "of these ties", "skipped", "seconds a pair")
    for row in merged.annotators:
        table.add_row(
            row["annotator"], *(str(row[name]) for name in ("labels", "ties", "skipped")), number(row["seconds"], 1)
        )
    return table


def labels_summary(merged: Merged, catalog: Any, project: Path) -> list[str]:
    """How far annotators agree, what was written where, and what is left to decide.

    Args:
        merged: the labels.
        catalog: where they were written.
        project: the project's folder; paths in it are shown from there.
    """
    lines = []
    for row in merged.agreement:
        one, other = row["annotators"]
        kappa = "not defined: both always said the same one thing"
        if row["kappa"] is not None:
            low, high = row["kappa_ci"]
            kappa = f"{row['kappa']:.2f} [{low:.2f}, {high:.2f}]"
        lines.append(f"{one} and {other}: {row['n']} pairs in common, {row['agreement']:.0%} alike, Cohen's κ {kappa}")
    for name, rows in (
        ("preferences", merged.preferences),
        ("ties", merged.ties),
        ("disagreements", merged.disagreements),
    ):
        path = Path(catalog.get(f"labelled_{name}")._describe()["filepath"])
        shown = path.relative_to(project) if path.is_relative_to(project) else path
        lines.append(f"{len(rows)} {name}: {shown}")
    if merged.disagreements:
        lines.append(
            "Pairs that were labelled in two ways are in no other file. Undo one of the labels in its page, or add "
            "the pairs that you decide on to a file of your own."
        )
    return lines


def _check(catalog: Any) -> None:
    check_written(WRITTEN, catalog)
    folder = catalog.load("labels")
    check_paths(WRITTEN, catalog, {folder.parent})
