"""Reports, one rendering a file."""
