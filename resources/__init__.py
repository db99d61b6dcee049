"""Every connection to the outside world, one file each."""
