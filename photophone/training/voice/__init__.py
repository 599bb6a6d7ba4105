"""A voice of one's own: from recordings and their texts to a folder that speaks."""
