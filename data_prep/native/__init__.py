"""The compiled part: an exact Unigram encoder and a JSON-lines reader in C++, built at first use by the system's compiler."""
