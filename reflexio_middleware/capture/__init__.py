"""A turn under construction, and the ways to make one."""
