"""A wheelhouse is named after what it is built from, and its wheels are checked."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.pickbox.cluster.plugins.modules import wheelhouse

import pickbox

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2"\n')
    (tmp_path / "package").mkdir()
    (tmp_path / "package/module.py").write_text("x = 1\n")
    return tmp_path


def release(source: Path | None, **changes: Any) -> str:
    parameters = {
        "source": str(source) if source else None,
        "parts": ["pyproject.toml", "package"],
        "packages": [],
        "version": None,
        "installer": "pip==25.3",
    }
    return wheelhouse.release_of({**parameters, **changes})


def test_a_release_is_named_after_the_version_and_the_sources(source: Path) -> None:
    before = release(source)
    assert before.startswith("1.2-")
    assert release(source) == before
    (source / "package/module.py").write_text("x = 2\n")
    assert release(source) != before


def test_a_renamed_source_file_makes_another_release(source: Path) -> None:
    before = release(source)
    (source / "package/module.py").rename(source / "package/other.py")
    assert release(source) != before


def test_what_python_leaves_behind_makes_no_other_release(source: Path) -> None:
    before = release(source)
    (source / "package/__pycache__").mkdir()
    (source / "package/__pycache__/module.cpython-311.pyc").write_bytes(b"x")
    assert release(source) == before


def test_other_packages_make_another_release() -> None:
    assert release(None, packages=["a==1"]) != release(None, packages=["a==2"])


def test_the_version_of_this_project_is_found() -> None:
    assert wheelhouse.source_version(".") == pickbox.__version__


def test_a_directory_that_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(wheelhouse.Problem, match=r"no pyproject\.toml"):
        release(tmp_path)


def put_wheel(directory: Path, content: bytes) -> Path:
    wheel = directory / "a-1-py3-none-any.whl"
    wheel.write_bytes(content)
    line = f"{hashlib.sha256(content).hexdigest()}  {wheel.name}\n"
    (directory / wheelhouse.CHECKSUMS).write_text(line)
    (directory / wheelhouse.ARCHIVE).touch()
    return wheel


def test_wheels_with_their_checksums_are_taken(tmp_path: Path) -> None:
    put_wheel(tmp_path, b"wheel")
    assert wheelhouse.intact(str(tmp_path))


def test_a_directory_without_checksums_is_not_taken(tmp_path: Path) -> None:
    assert not wheelhouse.intact(str(tmp_path))


def test_a_directory_without_its_archive_is_not_taken(tmp_path: Path) -> None:
    put_wheel(tmp_path, b"wheel")
    (tmp_path / wheelhouse.ARCHIVE).unlink()
    assert not wheelhouse.intact(str(tmp_path))


def test_a_wheel_that_was_changed_is_refused(tmp_path: Path) -> None:
    put_wheel(tmp_path, b"wheel").write_bytes(b"other")
    with pytest.raises(wheelhouse.Problem, match="does not have the checksum"):
        wheelhouse.intact(str(tmp_path))


def test_a_wheel_that_was_removed_is_missed(tmp_path: Path) -> None:
    put_wheel(tmp_path, b"wheel").unlink()
    with pytest.raises(wheelhouse.Problem, match="does not have the checksum"):
        wheelhouse.intact(str(tmp_path))


def test_every_wheel_is_pinned_by_its_hash_but_the_installer(tmp_path: Path) -> None:
    wheel = put_wheel(tmp_path, b"wheel")
    (tmp_path / "pip-25.3-py3-none-any.whl").write_bytes(b"pip")
    pins = wheelhouse.pinned([wheel.name, "pip-25.3-py3-none-any.whl"], str(tmp_path))
    assert pins == f"a==1 --hash=sha256:{hashlib.sha256(b'wheel').hexdigest()}\n"
