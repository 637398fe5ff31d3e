"""`python -m p2r` is the command `p2r`."""

from p2r.cli.app import app

if __name__ == "__main__":
    app(prog_name="p2r")
