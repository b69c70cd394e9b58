"""The scripts that measure can be started as their first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from patience import patience

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path for path in (ROOT / "perf").glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_starts_and_says_how_it_is_used(script: Path) -> None:
    words = [sys.executable, str(script), "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=patience(60))
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_every_script_has_a_table_in_the_page() -> None:
    page = (ROOT / "perf" / "README.md").read_text(encoding="utf-8")
    assert {line[3:] for line in page.splitlines() if line.startswith("## ")} >= {path.stem for path in SCRIPTS}
