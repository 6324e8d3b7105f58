"""The browser of a lake: patients, studies, series, their headers and documents; files dropped into it."""
