"""``python -m posgan_edge``."""

from posgan_edge.cli import main

if __name__ == "__main__":
    main()
