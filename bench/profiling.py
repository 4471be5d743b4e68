"""Where a server's CPU goes: py-spy over the measuring window, its hottest functions told."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from servers import BUILD

TOLD = 25


class Profiler:
    """Records one profile for each measurement; raw stacks stay in ``bench/build``.

    :raises SystemExit: when py-spy is not installed
    """

    def __init__(self, seconds: float) -> None:
        found = shutil.which("py-spy") or str(BUILD / "venv" / "bin" / "py-spy")
        if not Path(found).exists():
            raise SystemExit("--profile needs py-spy: pip install py-spy.")
        self.command = found
        self.seconds = seconds
        self.running: list[tuple[Path, subprocess.Popen[bytes]]] = []

    def watch(self, name: str) -> Callable[[list[int]], None]:
        """What `measure.measure` calls when its window begins."""

        def begin(pids: list[int]) -> None:
            for pid in pids:
                file = BUILD / f"profile-{name}-{pid}.txt"
                command = [self.command, "record", "--pid", str(pid), "--format", "raw"]
                command += ["--duration", str(max(1, int(self.seconds))), "--rate", "200"]
                command += ["--nonblocking", "--output", str(file)]
                quiet = subprocess.DEVNULL
                process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
                self.running.append((file, process))

        return begin

    def tell(self) -> None:
        """Prints the hottest functions of the profiles that have been recorded meanwhile."""
        for file, process in self.running:
            process.wait(timeout=60)
            if file.exists():
                print(f"profile {file.name}")
                print_hottest(file.read_text())
        self.running.clear()


def print_hottest(stacks: str) -> None:
    """:param stacks: lines ``outer;…;inner count``, as py-spy and flame graphs write them"""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in stacks.splitlines():
        names, _, count = line.rpartition(" ")
        if not names:
            continue
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in names.split(";")]
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    total = max(sum(own.values()), 1)
    for title, counter in (("own time", own), ("with callees", whole)):
        print(f"  {title}")
        for name, count in counter.most_common(TOLD):
            print(f"    {count / total:6.1%}  {name}")
