"""Pictures and files of what was found: drawings, meshes, depth maps, textures."""
