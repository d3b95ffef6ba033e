"""Who is who and who is where: sessions, the index, introductions, calls."""
