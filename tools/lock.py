#!/usr/bin/env python
"""Write ``pylock.toml``: every package that ``make setup`` installs, with the hash of its file (PEP 751).

``pip lock`` resolves for the interpreter and the platform that it runs on, so the file is for CPython 3.11 on Linux
x86-64; elsewhere ``make setup`` uses ``constraints.txt``. pip's own configuration is left out, since the addresses must
be those of PyPI and not those of a mirror.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "pylock.toml"
WHAT = [".[all,openvino,oracle,rtx,ros,polygraphy]", "--group", "dev", "-c", "constraints.txt"]
PACKAGE = "[[packages]]\n"
SCOPE = """\
requires-python = "==3.11.*"
environments = ["sys_platform == 'linux' and platform_machine == 'x86_64'"]
"""


def main() -> None:
    if sys.version_info[:2] != (3, 11) or (sys.platform, platform.machine()) != ("linux", "x86_64"):
        sys.exit("lock.py: run it with CPython 3.11 on Linux x86-64; the lock file is for those")
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    settings["PIP_CONFIG_FILE"] = os.devnull
    command = [sys.executable, "-m", "pip", "lock", "-e", *WHAT, "-o", LOCK.name]
    subprocess.run(command, cwd=ROOT, env=settings, check=True)
    head, *packages = LOCK.read_text(encoding="utf-8").split(PACKAGE)
    version, created, rest = head.partition("created-by")
    others = [text for text in packages if not text.startswith('name = "dpt-deploy"\n')]  # a folder has no hash
    LOCK.write_text(PACKAGE.join([f"{version}{SCOPE}{created}{rest}", *others]), encoding="utf-8")


if __name__ == "__main__":
    main()
