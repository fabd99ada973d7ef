"""``python -m rakelight`` is the same program as ``rakelight``."""

from rakelight.cli import main

if __name__ == "__main__":
    main()
