"""Photographs with captions, Flickr's or one's own."""
