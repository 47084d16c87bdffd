"""Pure numpy geometry: UV layouts, crop transforms, map sampling, pose and mesh."""
