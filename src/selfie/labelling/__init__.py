"""Labels by humans: which pairs to ask about, the page that asks, the files of labels and what becomes of them."""
