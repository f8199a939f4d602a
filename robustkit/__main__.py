"""`python -m robustkit` is the command `robustkit`."""

from __future__ import annotations

from robustkit.cli.app import main

if __name__ == "__main__":
    main()
