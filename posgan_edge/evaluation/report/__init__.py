"""The benchmark's report: one HTML file with its pictures, Markdown and JSON."""
