"""Text networks of one's own: vocabularies, recurrent networks, TF-IDF."""
