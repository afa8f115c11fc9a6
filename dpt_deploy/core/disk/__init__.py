"""Private folders and files on a disk that other users and earlier runs share."""
