"""Sources, the live loop and sinks."""
