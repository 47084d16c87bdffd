"""Commands that are stopped, killed, or have nowhere to write: what is left of their files."""
