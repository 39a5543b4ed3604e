"""`python -m manikin` is the command `manikin`."""

from manikin.cli import main

if __name__ == "__main__":
    main()
