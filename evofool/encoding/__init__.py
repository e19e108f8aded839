"""What evolves, how it varies, how it becomes an image. An encoding is a folder, and a row of kinds.py."""
