"""Where tasks come from: the demonstration, a model hub or the user's own files."""
