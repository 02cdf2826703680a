"""What a user brings: readers of files, validation of rows."""
