"""Write a set of files, all or none."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ranef.errors import DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["check_writable", "write_files"]


def write_files(
    folder: str | os.PathLike[str], files: Mapping[str, str | Callable[[Path], None]]
) -> list[Path]:
    """Write files into a folder, which appears or changes only once all are complete.

    Parameters
    ----------
    folder
        Made if it does not exist. Other files in it are left alone.
    files
        By name: the text, or a function that writes the path it is given.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    DataError
        If the folder cannot be made or written.
    """
    target = Path(folder)
    stage = _stage(target, list(files))
    try:
        for name, content in files.items():
            if isinstance(content, str):
                (stage / name).write_text(content, encoding="utf-8")
            else:
                content(stage / name)
        target.mkdir(parents=True, exist_ok=True)
        return [(stage / name).replace(target / name) for name in files]
    except OSError as error:
        raise DataError(f"Folder '{target}' cannot be written: {error.strerror}.") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def check_writable(folder: str | os.PathLike[str], names: Sequence[str]) -> None:
    """Raise what `write_files` would, before the work whose result is to be written.

    Parameters
    ----------
    folder, names
        As in `write_files`.

    Raises
    ------
    DataError
        If the folder cannot be made or written, or a name is taken by a folder.
    """
    shutil.rmtree(_stage(Path(folder), names), ignore_errors=True)


def _stage(target: Path, names: Sequence[str]) -> Path:
    """Make a hidden folder on the same disk, where files are completed before they are moved."""
    if target.exists() and not target.is_dir():
        raise DataError(f"'{target}' is a file; a folder to write into is expected.")
    for name in names:
        if (target / name).is_dir():
            raise DataError(f"'{target / name}' is a folder; a file is to be written there.")
    try:
        existing = target.resolve()
        while not existing.exists():
            existing = existing.parent
        return Path(tempfile.mkdtemp(dir=existing, prefix=".ranef-"))
    except OSError as error:
        raise DataError(f"Folder '{target}' cannot be written: {error.strerror}.") from None
