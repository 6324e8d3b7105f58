"""Images beside each other: compared, as a sheet of thumbnails, along a patient's studies, and in 3D."""
