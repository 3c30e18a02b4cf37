"""Self-contained HTML pages: of a fit, and of the article's study."""

from __future__ import annotations

from ranef.report.fit_page import fit_page
from ranef.report.study_page import study_page
from ranef.report.write import check_writable, write_files

__all__ = ["check_writable", "fit_page", "study_page", "write_files"]
