"""``python -m pickbox`` is the ``pickbox`` command."""

from pickbox.cli import main

if __name__ == "__main__":
    main()
