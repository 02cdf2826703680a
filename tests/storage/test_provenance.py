"""What an artefact was made from, and its version, which depends on its bytes alone."""

from pathlib import Path

from selfie.datasets import CommittedDataset
from selfie.storage.commit import commit_file, committed_version, forget_provenance, verify
from selfie.storage.provenance import Versioned, short_hash


def write(path: Path, text: str, **provenance: object) -> None:
    commit_file(path, lambda new: new.write_text(text) and None, provenance or None)


def test_version_and_record(tmp_path: Path):
    path = tmp_path / "pairs.txt"
    artefact = CommittedDataset(str(path), {"type": "text.TextDataset"})
    assert isinstance(artefact, Versioned)
    assert (artefact.version(), artefact.made_from(), artefact.missing_part()) == (None, None, None)
    artefact.forget()  # there is nothing to forget
    write(path, "same", step=1)
    first = artefact.version()
    assert artefact.made_from() == {"step": 1}
    write(path, "same", step=2)
    assert (artefact.version(), artefact.made_from()) == (first, {"step": 2})
    write(path, "other", step=2)
    assert artefact.version() != first
    artefact.forget()
    assert artefact.made_from() is None
    verify(path)  # it stays what it was


def test_one_author_forgets_its_own_part(tmp_path: Path):
    path = tmp_path / "annotations.txt"
    write(path, "text", ours="a", theirs="b")
    forget_provenance(path, "ours")
    assert (committed_version(path) or {})["provenance"] == {"ours": None, "theirs": "b"}
    write(path, "text")
    forget_provenance(path, "ours")
    assert (committed_version(path) or {})["provenance"] == {"ours": None}


def test_the_hash_does_not_see_the_order_of_keys():
    assert short_hash({"a": 1, "b": [2]}) == short_hash({"b": [2], "a": 1}) != short_hash({"a": 1, "b": [3]})
    assert len(short_hash(None)) == 16
