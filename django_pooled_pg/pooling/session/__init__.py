"""One server session: what is known of it, what a borrow did to it, and how it is reset."""
