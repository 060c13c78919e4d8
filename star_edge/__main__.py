"""`python -m star_edge`: the command line, for launchers such as torchrun."""

from star_edge.cli import main

if __name__ == "__main__":
    main(prog_name="star-edge")
