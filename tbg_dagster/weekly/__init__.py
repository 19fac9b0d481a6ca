"""The weekly game: who found the best share of the week."""
