"""`python -m nngpt_ext`: the command line."""

from nngpt_ext.cli import main

if __name__ == "__main__":
    main()
