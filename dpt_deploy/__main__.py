"""``python -m dpt_deploy`` is the command line."""

from dpt_deploy.cli import main

main()
