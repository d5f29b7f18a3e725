"""`python -m tfmat` is the command `tfmat`."""

from tfmat.cli import main

if __name__ == "__main__":
    main()
