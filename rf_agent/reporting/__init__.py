"""Reports of evaluations: folders read and merged, compared with paired tests, as a page or a table for a paper."""
