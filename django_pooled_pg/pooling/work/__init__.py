"""Work that may stop being wanted: what it is, and the thread that notices."""
