"""The image viewer: planes, what is laid over them, what is drawn on them."""
