"""Work on many pictures, and faces as tables."""
