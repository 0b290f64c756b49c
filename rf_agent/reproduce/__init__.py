"""The paper's tables in miniature: what is trained and measured for each, and a page that says what came of it."""
