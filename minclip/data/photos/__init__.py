"""Photographs with captions, Flickr's or your own."""
