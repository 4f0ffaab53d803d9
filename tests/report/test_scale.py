import subprocess
import sys

import pytest

from report import synthetic

CODE = """
import sys
from pathlib import Path
from tlx.report.build import build
built = build(sys.argv[1], runs_dir=sys.argv[2])
status = Path("/proc/self/status").read_text()
peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024  # getrusage knows the forker's
print(peak, built.html.stat().st_size)
"""


@pytest.mark.slow
def test_ten_thousand_runs(tmp_path):
    folder = synthetic.large(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={"OMP_NUM_THREADS": "1", "PATH": ""},
    )
    peak, size = map(float, done.stdout.split())
    assert peak <= 2e9
    assert size <= 6e6
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "The study has 10,000 runs." in text
    assert "The first 300 of 1,000 rows" in text
    rows = (folder / "tables" / "runs.csv").read_text(encoding="utf-8").count("\n")
    assert rows == 10_001
