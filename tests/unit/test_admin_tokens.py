"""Which admin tokens a node accepts while its file is replaced."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from authority import NO_FILES, tls_settings

from pickbox.admin_tokens import AdminTokens
from pickbox.settings import Settings, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = "the-old-token-of-the-cluster", "the-new-token-of-the-cluster"


def settings(directory: Path, **token: object) -> Settings:
    node = {"node_id": "node1", "data_dir": directory, "peers": "node1=127.0.0.1:8001"}
    return Settings(**node, **token, **tls_settings(NO_FILES))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "admin_token"
    path.write_text(f"{OLD}\n")
    return path


@pytest.fixture
def tokens(file: Path) -> AdminTokens:
    return AdminTokens(settings(file.parent, admin_token_file=file))


def accepted(tokens: AdminTokens) -> list[str]:
    return [token for token in (OLD, NEW) if tokens.accepts(token.encode())]


def replace(file: Path, content: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(content)
    new.replace(file)


def settle(tokens: AdminTokens) -> bool:
    """Look twice: a file that has just changed may be half written."""
    return tokens.reload_if_changed() or tokens.reload_if_changed()


def test_tokens_are_rotated_in_two_steps(tokens: AdminTokens, file: Path) -> None:
    assert accepted(tokens) == [OLD]
    replace(file, f"{NEW}\n{OLD}\n")
    assert settle(tokens)
    assert accepted(tokens) == [OLD, NEW]
    replace(file, f"{NEW}\n")
    assert settle(tokens)
    assert accepted(tokens) == [NEW]


def test_only_a_whole_token_is_accepted(tokens: AdminTokens) -> None:
    for given in (b"", OLD[:-1].encode(), OLD.encode() + b"x", b"\xff", f"{OLD}\n".encode()):
        assert not tokens.accepts(given)


def test_a_file_is_not_loaded_while_it_is_written(tokens: AdminTokens, file: Path) -> None:
    file.write_text(NEW[:20])
    assert not tokens.reload_if_changed()
    file.write_text(f"{NEW}\n")
    assert not tokens.reload_if_changed()
    assert tokens.reload_if_changed()
    assert not tokens.accepts(NEW[:20].encode())
    assert accepted(tokens) == [NEW]


@pytest.mark.parametrize("content", ["", "\n \n", f"{NEW}\nshort\n", None])
def test_what_cannot_be_used_leaves_the_former_tokens_in_force_and_is_said_once(
    tokens: AdminTokens, file: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    if content is None:
        file.unlink()
    else:
        replace(file, content)
    for _ in range(4):
        assert not tokens.reload_if_changed()
    assert accepted(tokens) == [OLD]
    assert [record.message for record in caplog.records] == ["admin_tokens_not_reloaded"]
    why = caplog.records[0].fields["why"]
    assert why.startswith("PICKBOX_ADMIN_TOKEN_FILE")
    assert NEW not in why
    replace(file, f"{NEW}\n")
    assert settle(tokens)
    assert accepted(tokens) == [NEW]


def test_how_many_are_in_force_is_said_and_not_which(
    tokens: AdminTokens, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    replace(file, f"{NEW}\n{OLD}\n")
    assert settle(tokens)
    assert not settle(tokens)
    (record,) = caplog.records
    assert (record.message, record.fields) == ("admin_tokens_reloaded", {"tokens": 2})


def test_a_token_that_is_a_setting_is_the_only_one(tmp_path: Path, file: Path) -> None:
    tokens = AdminTokens(settings(tmp_path, admin_token=NEW, admin_token_file=file))
    assert accepted(tokens) == [NEW]
    replace(file, f"{OLD}\n{NEW}\n")
    assert not settle(tokens)
    assert accepted(tokens) == [NEW]


def test_a_node_does_not_start_without_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="PICKBOX_ADMIN_TOKEN: not set"):
        AdminTokens(settings(tmp_path))
