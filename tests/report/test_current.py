from __future__ import annotations

import subprocess
import sys


def test_asking_whether_a_page_is_current_imports_nothing_that_draws() -> None:
    code = "import sys, robustkit.report.current; print('matplotlib' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
