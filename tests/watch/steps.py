"""``python steps.py PLAN REPORT``: runs commands and scripts one after the other in one process, and notes what each
left on the disk.

PLAN is a JSON list of lists of arguments; the first is ``photophone`` or the path of a script. REPORT gets a JSON list
of exit code and new files of each.
"""

import json
import os
import runpy
import sys
import time
from pathlib import Path

PLACES = [Path(os.environ["HOME"]), Path(os.environ["TMPDIR"]), Path.cwd()]


def there():
    """Everything below the watched places, with the time of its last change."""
    return {str(path): path.lstat().st_mtime_ns for place in PLACES for path in place.rglob("*") if not path.is_dir()
            or not any(path.iterdir())}


def main():
    plan = json.loads(Path(sys.argv[1]).read_text())
    target = sys.argv[2]
    report = []
    for arguments in plan:
        before = there()
        sys.argv = arguments
        code = 0
        try:
            if arguments[0] == "photophone":
                from photophone.cli import main as command
                command()
            else:
                runpy.run_path(arguments[0], run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
        after = there()
        report.append([code, sorted(path for path, changed in after.items() if before.get(path) != changed)])
    time.sleep(float(os.environ.get("WATCH_WAIT", "0")))
    report.append([0, sorted(set(there()) - set(after))])
    Path(target).write_text(json.dumps(report))


main()
