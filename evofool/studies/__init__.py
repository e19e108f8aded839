"""Questions asked of finished or growing runs, a file each, named as its command; none imports another."""
