"""Language: instructions of the tasks, descriptions of a scene, annotation files, captions on frames."""
