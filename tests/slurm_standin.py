"""SLURM's commands as scripts, for tests of what the sweep command makes of their words."""

from __future__ import annotations

import json
import sys
from pathlib import Path

QOS = (
    "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates"
    " accounting/QOS policy (job submit limit, user's size and/or time limits)"
)

SBATCH = """
import json, pathlib, re, sys
here = pathlib.Path(sys.argv[0]).parent
script = pathlib.Path(sys.argv[1]).read_text()
found = re.search(r"--array=0-(\\d+)", script)
size = int(found.group(1)) + 1 if found else 1
taken = [json.loads(line) for line in (here / "taken").read_text().splitlines()]
if sum(t["size"] for t in taken) + size > int((here / "room").read_text()):
    sys.exit((here / "words").read_text())
job = str(100 + len(taken))
name = re.search(r"--job-name=(\\S+)", script).group(1)
(here / "taken").open("a").write(json.dumps({"job": job, "size": size, "name": name}) + "\\n")
print("Submitted batch job " + job)
"""
SQUEUE = """
import json, pathlib, sys
here = pathlib.Path(sys.argv[0]).parent
for line in (here / "taken").read_text().splitlines():
    t = json.loads(line)
    if "-n" in sys.argv and sys.argv[sys.argv.index("-n") + 1] != t["name"]:
        continue
    for i in range(t["size"]):
        print((t["job"] if t["size"] == 1 else f"{t['job']}_{i}") + "|PENDING|0|Priority|N/A")
"""
SCONTROL = """
import pathlib, sys
if sys.argv[1:3] == ["show", "config"]:
    print("ClusterName = here\\nMaxArraySize = 400\\nMaxJobCount = 10000")
elif sys.argv[1] == "show":
    shown = pathlib.Path(sys.argv[0]).parent / sys.argv[2]
    print(shown.read_text() if shown.exists() else "")
"""


class Slurm:
    """SLURM's commands, as scripts first in PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name, text in (
            ("sbatch", SBATCH),
            ("squeue", SQUEUE),
            ("scontrol", SCONTROL),
            ("srun", ""),
            ("sinfo", ""),
        ):
            self.write(name, f"#!{sys.executable}\n{text}")
        (folder / "taken").write_text("")
        self.room(10**6)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def has(self, what: str, *lines: str) -> None:
        """What ``scontrol show node`` or ``partition`` says."""
        (self.folder / what).write_text("\n".join(lines))

    def room(self, jobs: int, words: str = QOS) -> None:
        (self.folder / "room").write_text(str(jobs))
        (self.folder / "words").write_text(words)

    @property
    def arrays(self) -> list[int]:
        return [json.loads(line)["size"] for line in (self.folder / "taken").read_text().splitlines()]
