"""Numbers of the segmented regions of a cohort."""
