"""What can be laid over images: labels, contours, isodose lines, a second image.

Each makes what one displayed plane needs, when that plane is asked for; nothing knows of the browser.
"""
