"""From a cohort to arrays: a lazy collection, and all volumes on one grid."""
