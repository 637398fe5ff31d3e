"""`python -m p2r` is the command `p2r`."""

from p2r.cli.app import main

if __name__ == "__main__":
    main()
