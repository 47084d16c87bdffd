"""From a frame to faces: detection, crops, reading maps, tracking, smoothing."""
