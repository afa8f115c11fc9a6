"""How far can ``study --check`` be trusted? How often it finds a study apart where nothing, or something, has changed.

Usage: python benchmarks/agreement.py [STUDY.json [IMAGES [TRIALS]]]     (default: the shipped models', 48, 300)
"""

import sys
from pathlib import Path

import dpt_deploy


def main(path=None, images="48", trials="300"):
    path = path or max((Path(__file__).parent / "results").glob("resolution-study-shipped-*.json"))
    print(dpt_deploy.measure_check_power(Path(path), images=int(images), trials=int(trials)))


if __name__ == "__main__":
    main(*sys.argv[1:])
